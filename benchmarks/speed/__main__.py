"""Speed of the package beside other software, all in one run, as ratios.

README.md says what the rows are. Peers run in processes and an environment of their own and take
turns.

python -m benchmarks.speed --pipeline training/people-daily/model-best \
    --encoder encoders/people-daily --data corpus/people-daily/dev.spacy \
    --train corpus/people-daily/train.spacy --output benchmarks/results/speed
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import spacy

from benchmarks.harness.common import (
    HARNESS,
    Failed,
    call_there,
    end_at_sigterm,
    make_env,
    parser_for,
    peer_versions,
    read_docs,
    say,
    stem_of,
    write_json,
)
from benchmarks.harness.machine_info import describe_machine
from benchmarks.peers.peer_loop import evenly
from benchmarks.speed.inference import Job, base_pipeline, inference
from benchmarks.speed.streams import streams
from benchmarks.speed.table import markdown
from benchmarks.speed.training import training
from spacy_bert_crf._provenance import versions

#: Packages of the peers whose versions the result names.
PACKAGES = ["torch", "transformers", "spacy", "spacy-transformers", "bert4torch"]
PACKAGES += ["onnxruntime", "openvino"]
PARTS = ("inference", "base", "training", "streams")


def peers(args: argparse.Namespace, work: Path) -> Path:
    """Python of the peers' environment. Raises Failed."""
    env = args.env or work / "env"
    return make_env(env, "requirements-speed.txt", "the peers", work / "pip.log")


def run(args: argparse.Namespace, python: Path, work: Path) -> dict[str, Any]:
    """Run the requested parts. A part that fails is reported, and the others run."""
    nlp = spacy.load(args.pipeline)
    docs = read_docs(args.data, spacy.blank(nlp.lang), 0)
    result: dict[str, Any] = {
        **describe_machine(args.threads),
        "rounds": args.rounds,
        "data": f"{args.data.parent.name}/{args.data.name}",
        "versions": versions(),
        "versions_peers": peer_versions(python, PACKAGES),
        "note": args.note,
    }
    for part in args.parts:
        say(part)
        folder = work / part
        folder.mkdir()
        try:
            result[part] = PART[part](args, nlp, docs, python, folder)
        except Failed as err:
            say(f"{part}: {err}")
            result.setdefault("broken_off", {})[part] = str(err)
    return result


def part_inference(
    args: argparse.Namespace, nlp: Any, docs: list[Any], python: Path, work: Path
) -> dict[str, Any]:
    """The given pipeline, and all peers with its weights."""
    gold = evenly(docs, args.sentences)
    rest = (args.threads, args.rounds, args.golden, args.train, args.rows)
    return inference(Job(args.pipeline, gold, python, work, *rest))


def part_base(
    args: argparse.Namespace, nlp: Any, docs: list[Any], python: Path, work: Path
) -> dict[str, Any]:
    """The same with random weights of bert-base size."""
    gold = evenly(docs, min(args.base_sentences, args.sentences or len(docs)))
    pipeline = base_pipeline(args.encoder, nlp, docs, work)
    job = Job(pipeline, gold, python, work, args.threads, args.rounds, wanted=args.rows)
    return inference(job, only_base=True)


def part_training(
    args: argparse.Namespace, nlp: Any, docs: list[Any], python: Path, work: Path
) -> dict[str, Any]:
    """One pass of training, beside bert4torch's."""
    given = read_docs(args.train, spacy.blank(nlp.lang), args.train_sentences)
    rounds = max(1, min(3, args.rounds))
    rest = (python, work, args.threads, rounds)
    return training(args.pipeline, args.encoder.resolve(), given, docs, *rest)


def part_streams(
    args: argparse.Namespace, nlp: Any, docs: list[Any], python: Path, work: Path
) -> dict[str, Any]:
    """Long docs and streams, processes, imports, loading."""
    gold = evenly(docs, args.sentences)
    rest = (python, work, args.threads, args.rounds, args.stream)
    return streams(args.pipeline, args.encoder, gold, *rest)


PART = {
    "inference": part_inference,
    "base": part_base,
    "training": part_training,
    "streams": part_streams,
}


def draw(python: Path, stem: Path, log: Path) -> None:
    """Draw STEM.png from STEM.json in the environment that has matplotlib. Raises Failed."""
    command = [str(python), str(HARNESS / "speed_picture.py"), f"{stem}.json", f"{stem}.png"]
    call_there(command, "the picture", log)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = parser_for(__doc__)
    add = parser.add_argument
    add("--pipeline", type=Path, required=True, help="a trained pipeline with its own encoder")
    add("--encoder", type=Path, required=True, help="folder of the encoder it was trained from")
    add("--data", type=Path, required=True, help="annotated docs (.spacy) that are predicted")
    add("--train", type=Path, required=True, help="annotated docs (.spacy) to train with")
    add("--output", type=Path, required=True, help="write NAME.md, NAME.json, NAME.png")
    add("--parts", default=",".join(PARTS), help="parts of the benchmark, by commas")
    add("--sentences", type=int, default=0, help="so many of --data, evenly taken; 0 takes all")
    add("--rows", default="", help="parts of names of rows, by commas: the others are left out")
    add("--base-sentences", type=int, default=300, help="the same for the part base")
    add("--train-sentences", type=int, default=640, help="the part training: of --train")
    add("--stream", type=int, default=10_000_000, help="the part streams: characters, at most")
    add("--rounds", type=int, default=5, help="how often each runs; the median counts")
    add("--threads", type=int, default=2, help="threads of each")
    add("--env", type=Path, help="virtual environment of the peers; made if it isn't there")
    add("--golden", type=Path, help="entities of an earlier version, see benchmarks.golden")
    add("--note", default="", help="a sentence for the results, on what else they depend on")
    args = parser.parse_args()
    args.parts = args.parts.split(",")
    args.rows = tuple(args.rows.split(","))
    for part in args.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part}, only {', '.join(PARTS)}")
    for path in (args.pipeline, args.encoder, args.data, args.train, args.golden):
        if path and not path.exists():
            parser.error(f"there is no {path}")
    return args


def main() -> int:
    """RETURNS: the exit code."""
    args = parse()
    end_at_sigterm()
    stem = stem_of(args.output)
    stem.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        try:
            python = peers(args, Path(folder))
            result = run(args, python, Path(folder))
            write_json(Path(f"{stem}.json"), result)
            draw(python, stem, Path(folder) / "picture.log")
        except Failed as err:
            say(str(err))
            return 1
    text = markdown(result)
    print(text)
    Path(f"{stem}.md").write_text(text, encoding="utf8")
    return 1 if "broken_off" in result else 0


if __name__ == "__main__":
    sys.exit(main())
