"""Prints how often the host waits, how many kernels are launched and what is copied.

    python -m tests.cuda.count            the table, in Markdown
    python -m tests.cuda.count --places   also the places of waits and copies
    python -m tests.cuda.count --bounds   the table of bounds.py

Counted on the pretend CUDA device, with a BERT of 12 layers. `--only WORD` counts the rows whose
name contains a word; `--precision NAME` those of one precision.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.cuda.bounds import COLUMNS
from tests.cuda.pretend import install
from tests.cuda.pretend.environment import ROOT


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--places", action="store_true", help="print where the events come from")
    parser.add_argument("--bounds", action="store_true", help="print rows for bounds.py")
    parser.add_argument("--only", default="", help="count rows whose name contains this")
    parser.add_argument("--precision", default="", help="bfloat16 or float32; both by default")
    options = parser.parse_args()
    install()
    sys.path.insert(0, str(ROOT / "tests"))
    from support.toys import write_encoder
    from tests.cuda.workloads import LAYERS, PRECISIONS, WORKLOADS, count, pipeline

    if not options.bounds:
        print("| counted | precision |", " | ".join(COLUMNS), "|")
        print("|---|---|" + "---:|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as folder:
        path = write_encoder(Path(folder) / "encoder", LAYERS)
        for precision in PRECISIONS:
            if options.precision not in ("", precision):
                continue
            nlp = pipeline(path, precision)
            for workload in WORKLOADS:
                if options.only not in workload.name:
                    continue
                log = count(nlp, workload)
                numbers = [log.counts()[column] for column in COLUMNS]
                if options.bounds:
                    print(f'    ("{workload.name}", "{precision}"): {tuple(numbers)},', flush=True)
                    continue
                cells = " | ".join(f"{number:,}" for number in numbers)
                print(f"| {workload.name} | {precision} | {cells} |", flush=True)
                if options.places:
                    for kind in ("waits", "copies in", "copies out"):
                        print(f"{kind}:\n{log.places(kind)}", flush=True)


if __name__ == "__main__":
    main()
