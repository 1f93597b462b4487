"""`bert-crf export` and `package`: a trained pipeline for use without spaCy, and as a wheel."""

import re
from pathlib import Path
from typing import Optional

import typer

from ..errors import BertCrfError
from .app import command


@command("export")
def export_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    dst: Path = typer.Argument(..., help="Folder to write"),
    to: list[str] = typer.Option(
        [],
        "--to",
        help="A further format, written to DST/FORMAT; the option may be repeated: bert4torch, "
        "huggingface, torchscript, torchscript-fp16, torchscript-bf16, onnx, onnx-fp16, "
        "torch-int8, onnx-int8, onnx-int8-static, or all",
    ),
    shape: str = typer.Option(
        "",
        "--shape",
        help="Batch x length, such as 1x256, of a TorchScript graph with a fixed shape, and of the "
        "calibration inputs",
    ),
    calibration: int = typer.Option(
        0, "--calibration", help="Write N real inputs for static quantisation (DST/calibration)"
    ),
    calibration_data: Optional[Path] = typer.Option(
        None,
        "--calibration-data",
        help="DocBin to take these inputs from, such as the training corpus",
    ),
    any_cpu: bool = typer.Option(
        False,
        "--any-cpu",
        help="int8 weights of 7 bits, so that no product overflows on CPUs without VNNI",
    ),
    component: str = typer.Option("", "--component", help="Which bert_crf, if there are several"),
    metrics: Optional[Path] = typer.Option(
        None,
        "--metrics",
        help="metrics.json; its figures are copied to best_model.json. Without it, known ones stay",
    ),
) -> None:
    """Write best_model.pt and its companions: the trained weights for use without spaCy.

    best_model.pt is a flat dict of float32 tensors, for torch.load with weights_only=True. Its
    companions are config.json with id2label, the tokenizer's files, best_model.json with the tag
    scheme, and predict.py, which reads a text without spaCy. Each --to adds a folder with a README
    of its own. A float32 format is run once and compared with the component. If they differ,
    nothing is written.

    \b
    Example:
      python -m spacy bert-crf export training/quickstart/model-best export/quickstart --to onnx
    """
    from ..annotation.docbin import read_docs
    from ..component.pipelines import load_pipeline
    from ..encoder.checkpoint_files import read_json
    from ..export.folder import export_pipeline
    from ..export.formats import FORMATS

    if (calibration > 0) != (calibration_data is not None):
        raise BertCrfError("give both --calibration N and --calibration-data FILE.spacy, or none.")
    every = [name for name in FORMATS if calibration or name != "onnx-int8-static"]
    formats = [*dict.fromkeys(f for name in to for f in (every if name == "all" else [name]))]
    figures = None if metrics is None else read_json(metrics)
    nlp = load_pipeline(pipeline)
    texts = [] if calibration_data is None else [d.text for d in read_docs(calibration_data, nlp)]
    sidecar = export_pipeline(
        nlp,
        dst,
        component=component,
        metrics=figures,
        formats=formats,
        shape=_shape(shape),
        calibration=calibration,
        calibration_texts=texts,
        any_cpu=any_cpu,
        progress=True,
    )
    size = (dst / "best_model.pt").stat().st_size / 1e6
    print(f"{dst / 'best_model.pt'}: {size:.1f} MB, tags {', '.join(sidecar['tags'])}")
    for name in formats:
        folder = dst / name
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        print(f"{folder}: {size:.1f} MB, see {folder / 'README.md'}")
    if calibration:
        print(f"{dst / 'calibration'}: {calibration} inputs, listed in files.txt")
    for note in sidecar["notes"]:
        print(f"note: {note}")
    for name in sidecar["stale"]:
        print(f"note: {dst / name} was made of other weights: export it again with --to {name}")
    if "all" in to and not calibration:
        print("note: onnx-int8-static needs --calibration and --calibration-data: left out")


@command("package")
def package_command(
    pipeline: Path = typer.Argument(..., help="Folder of a trained pipeline"),
    dst: Path = typer.Argument(..., help="Folder for the wheel, such as packages"),
    about: Optional[Path] = typer.Option(
        None,
        "--about",
        help="YAML or JSON file with what only you know: name, version, description, author, "
        "email, url, license, license_file, purpose, labels, scored_on, limits, example",
    ),
    metrics: Optional[Path] = typer.Option(
        None, "--metrics", help="metrics.json, as `evaluate` writes it, for the scores"
    ),
    name: str = typer.Option("", "--name", help="Name of the package, without the language"),
    version: str = typer.Option("", "--version", help="Version of the package, such as 0.1.0"),
    card: Optional[Path] = typer.Option(
        None, "--card", help="Also write the model card here (.md), to read it"
    ),
) -> None:
    """Build a wheel of a pipeline, which pip installs and spacy.load finds by name.

    The wheel has a complete meta.json, a model card (README.md) and the licences of its sources:
    those of the training texts (the setting paths.sources) and of the encoder. It needs the
    package build (pip install build). pip gets setuptools if it is missing or old.

    \b
    Example:
      python -m spacy bert-crf package my-project/training/model-best packages \\
        --about my-project/package.yml --metrics my-project/training/metrics.json
    """
    from dataclasses import replace

    from .._files import write_text
    from ..encoder.checkpoint_files import read_json
    from ..export.package.about import About, read_about
    from ..export.package.wheel import package_pipeline

    said = About() if about is None else read_about(about)
    said = replace(said, name=name or said.name, version=version or said.version)
    figures = None if metrics is None else read_json(metrics)
    package = package_pipeline(pipeline, dst, about=said, metrics=figures)
    size = package.wheel.stat().st_size / 1e6
    print(f"{package.wheel}: {size:.1f} MB, {package.name} {package.meta['version']}")
    for gap in package.gaps:
        print(f"note: {gap}")
    if card is not None:
        write_text(card, package.card)
        print(f"wrote {card}")
    print("Next:")
    print(f"  pip install {package.wheel}")
    print(f'  python -c "import spacy; spacy.load({package.name!r})"')


def _shape(text: str) -> Optional[tuple[int, int]]:
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip().lower())
    if found is None:
        raise BertCrfError(f"--shape {text!r} is not BATCHxLENGTH: give it as in 1x256.")
    return int(found[1]), int(found[2])
