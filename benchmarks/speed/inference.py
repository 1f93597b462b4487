"""The parts "inference" and "base": characters per second from texts to entities."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from benchmarks import golden
from benchmarks.harness.common import Failed, entities_of, f_score, say, spacy_command
from benchmarks.harness.workers import OWN_WORKER, Crew

BOUND = "bare encoder, by length (the bound)"
OURS = "nlp.pipe, float32"
INT8 = "nlp.pipe, int8"
THEIRS = "bert4torch, its predict loop"
FORMATS = ("bert4torch", "huggingface", "onnx", "onnx-int8")
#: Besides, where all rows are measured.
MORE_FORMATS = ("onnx-int8-static", "torch-int8")


@dataclass
class Job:
    """What a part is measured on.

    gold: annotated docs. python: of the peers' environment. golden: a file of benchmarks.golden.
    calibration: docs by which a static int8 export is made.
    wanted: parts of names of rows that are measured besides the bound; all by default.
    """

    pipeline: Path
    gold: list[Doc]
    python: Path
    work: Path
    threads: int
    rounds: int
    golden: Path | None = None
    calibration: Path | None = None
    wanted: tuple[str, ...] = ("",)

    @property
    def texts(self) -> list[str]:
        return [doc.text for doc in self.gold]


def inference(job: Job, only_base: bool = False) -> dict[str, Any]:
    """Measure all rows, or with `only_base` those that make sense for an encoder of another size.

    RETURNS: rows by name, each with the values of its rounds, and what the bound needs.
    """
    folder = job.work / "export"
    formats = FORMATS if only_base else FORMATS + MORE_FORMATS
    options = [word for form in formats for word in ("--to", form)]
    if not only_base:
        options += ["--calibration", "100", "--calibration-data", str(job.calibration)]
    spacy_command("export", str(job.pipeline), str(folder), *options)
    info = json.loads((folder / "best_model.json").read_text(encoding="utf8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf8"))
    hf = str(folder / "huggingface")
    wanted = ("peak", BOUND, *job.wanted)
    with Crew(job.python, job.work, job.threads, wanted) as crew:
        texts = {"texts": job.texts}
        crew.add("peak", "transformers_encoder.py", "peak")
        crew.add(BOUND, "transformers_encoder.py", "bare", folder=hf, order="sorted", **texts)
        crew.add(OURS, OWN_WORKER, "pipe", pipeline=str(job.pipeline), **texts)
        crew.add(INT8, OWN_WORKER, "pipe", pipeline=str(job.pipeline), quantize="int8", **texts)
        crew.add(
            THEIRS,
            "bert4torch_speed.py",
            "predict",
            folder=str(folder / "bert4torch"),
            tags=info["tags"],
            lower=settings.get("do_lower_case", True),
            **texts,
        )
        add_runtimes(crew, folder, formats, texts)
        if not only_base:
            crew.add(
                "bare encoder, as it comes",
                "transformers_encoder.py",
                "bare",
                folder=hf,
                order="arrival",
                **texts,
            )
            crew.add(
                "spaCy transformer + ner",
                "spacy_pipeline.py",
                "spacy",
                folder=hf,
                lang=info["lang"],
                examples=examples(job.gold),
                **texts,
            )
            for size in (16, 1):
                name = f"transformers.pipeline, batch_size={size}"
                crew.add(
                    name, "transformers_encoder.py", "pipeline", folder=hf, batch_size=size, **texts
                )
            script = str(folder / "torch-int8")
            crew.add(
                "export torch-int8", "transformers_encoder.py", "scripted", folder=script, **texts
            )
        crew.take_turns(job.rounds)
        work = crew.ask(BOUND, "work") or {}
        result = collect(crew, work)
        result["quality"] = {
            name: quality(crew, name, job, info["weights_sha256"]) for name in (OURS, INT8)
        }
    result |= {
        "texts": len(job.gold),
        "characters": sum(map(len, job.texts)),
        "encoder": encoder_words(folder),
    }
    return result


def add_runtimes(crew: Crew, folder: Path, formats: tuple[str, ...], texts: dict[str, Any]) -> None:
    """The ONNX exports, run by onnxruntime and by OpenVINO."""
    names = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO"}
    kinds = {"onnx": "float32", "onnx-int8": "int8", "onnx-int8-static": "int8 static"}
    for kind, runtime in names.items():
        for form in (form for form in kinds if form in formats):
            at = str(folder / form)
            crew.add(f"{runtime}, {kinds[form]}", "onnx_runtimes.py", kind, folder=at, **texts)


def collect(crew: Crew, work: dict[str, Any]) -> dict[str, Any]:
    """Rows with characters per second and ratios; the share of the machine's peak."""
    rows: dict[str, Any] = {}
    for name, runs in crew.runs.items():
        if name in crew.failed:
            rows[name] = {"not_available": crew.failed[name]}
        elif name != "peak":
            speeds = [run["characters"] / run["seconds"] for run in runs]
            rows[name] = {
                "characters_per_second": median(speeds),
                "min": min(speeds),
                "max": max(speeds),
                "rounds": speeds,
                **crew.notes[name],
            }
    for row in rows.values():
        for key, other in (("to_bound", BOUND), ("to_bert4torch", THEIRS)):
            base = rows.get(other, {}).get("characters_per_second")
            if base and "characters_per_second" in row:
                row[key] = row["characters_per_second"] / base
    result: dict[str, Any] = {"rows": rows}
    peaks = [run["gflops"] for run in crew.runs.get("peak", ())]
    bound = crew.runs.get(BOUND)
    if peaks and bound and work:
        reached = 2 * work["multiply_adds"] / median(run["seconds"] for run in bound) / 1e9
        result["peak"] = {
            "matmul_gflops": median(peaks),
            "matmul_gflops_rounds": peaks,
            "bound_gflops": reached,
            "share": reached / median(peaks),
            **work,
        }
    return result


def quality(crew: Crew, name: str, job: Job, weights: str) -> dict[str, Any]:
    """Entity F1 against the data, and agreement with the golden file."""
    answer = crew.ask(name, "entities")
    if answer is None:
        return {}
    found = answer["entities"]
    sets = [{(start, end, label) for start, end, label in each} for each in found]
    result: dict[str, Any] = {"f": f_score(sets, job.gold), "entities": sum(map(len, found))}
    if job.golden:
        kept = json.loads(job.golden.read_text(encoding="utf8"))
        if kept["weights_sha256"] != weights:
            result["golden"] = "not compared: the file is of other weights"
        else:
            try:
                same = golden.compare(kept, job.texts, found)
                result["golden"] = {**same, "differ": same["differ"][:50]}
            except ValueError as err:
                result["golden"] = f"not compared: {err}"
    return result


def examples(gold: list[Doc], count: int = 20) -> list[Any]:
    """A few texts with entities of each type."""
    some = [doc for doc in gold if doc.ents][:count]
    return [(doc.text, sorted(entities_of(doc))) for doc in some]


def encoder_words(folder: Path) -> str:
    """The encoder of an export in words."""
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    return (
        f"width {config['hidden_size']}, {config['num_hidden_layers']} layers, "
        f"{config['num_attention_heads']} heads, {config['intermediate_size']} inner"
    )


def base_pipeline(encoder: Path, nlp: Language, gold: list[Doc], work: Path) -> Path:
    """A pipeline with random weights of bert-base size, its vocabulary that of `encoder`.

    nlp: the pipeline whose settings it has. gold: for its labels. RETURNS: its folder.
    """
    import shutil

    import spacy
    import torch
    from spacy.training import Example
    from transformers import AutoConfig, AutoModel

    from benchmarks.speed.own_worker import component_of

    say("  makes an encoder of bert-base size")
    folder, target = work / "base-encoder", work / "base-pipeline"
    shutil.copytree(encoder, folder, ignore=shutil.ignore_patterns("*.bin", "*.safetensors"))
    config = AutoConfig.from_pretrained(folder)
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    config.update({**sizes, "intermediate_size": 3072})
    torch.manual_seed(0)
    AutoModel.from_config(config, add_pooling_layer=False).save_pretrained(folder)
    settings = nlp.config.copy()
    name = component_of(settings["components"])
    component = settings["components"][name]
    component["model"]["tok2vec"]["name"] = str(folder)
    made = spacy.blank(nlp.lang, config={"nlp": {"tokenizer": settings["nlp"]["tokenizer"]}})
    rest = {k: v for k, v in component.items() if k != "factory"}
    made.add_pipe("bert_crf", name=name, config=rest)
    pairs = [Example(made.make_doc(doc.text), doc) for doc in gold if doc.ents]
    if not pairs:
        raise Failed("the data have no entities to take labels from.")
    spacy.util.fix_random_seed(0)
    made.initialize(lambda: pairs)
    made.batch_size = nlp.batch_size
    made.to_disk(target)
    return target
