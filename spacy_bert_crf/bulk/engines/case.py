"""What to do with a shard whose worker died or stalled: find the text that is to blame.

The first time, the shard is done again: the worker may have been killed for another reason. The
second time, the texts of the batch that was under way are tried one by one. The text during which
the worker dies again is tried once more, alone. If the worker dies a fourth time, the text is set
apart, and the shard is done without it. If no single text is to blame, the shard is done one text
at a time.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Optional

from ...errors import BertCrfError
from ..annotator import plan
from ..shards import Shard
from .worker import Task

#: Texts after the last finished one that are tried: at least those of a batch.
_SUSPECTS = 512
#: A shard is given up after this number of searches that found nothing.
_MAX_SEARCHES = 3


def order_of(task: Task) -> list[int]:
    """The rows of a task in the order in which a worker reads them, by index."""
    if task.indices is not None:
        return task.indices
    texts = [row.text for row in task.shard.rows]
    left_out = {texts[index] for index in task.excluded}
    return [index for _, run in plan(texts) for index in run if texts[index] not in left_out]


@dataclass
class Outcome:
    """How a task ended.

    done: number of texts that were finished.
    death: why the worker died, or "" if it did not.
    """

    done: int
    death: str = ""


@dataclass
class Case:
    """A shard on its way to a file.

    shard: the shard.
    excluded: texts that kill or stall a worker, by index of the row, each with the reason.
    """

    shard: Shard
    excluded: dict[int, str] = field(default_factory=dict)

    def tasks(self) -> Generator[Task, Outcome, None]:
        """Yield what to do next, and take how it ended. The end means that the shard is done.

        Raises BertCrfError if workers die again and again without a text to blame.
        """
        one_by_one, was_killed, searches = False, False, 0
        while True:
            outcome = yield Task(self.shard, dict(self.excluded), one_by_one)
            if not outcome.death:
                return
            if not was_killed:
                was_killed = True
                continue
            found = yield from self._search(outcome.done)
            if found is not None:
                self.excluded[found[0]] = found[1]
                continue
            searches, was_killed = searches + 1, False
            one_by_one = True
            if searches == _MAX_SEARCHES:
                raise BertCrfError(
                    f"shard {self.shard.name}: {outcome.death}, again and again, and no single "
                    "text is to blame. Raise --memory-limit or --time-limit, or lower "
                    "--shard-rows."
                )

    def _search(self, done: int) -> Generator[Task, Outcome, Optional[tuple[int, str]]]:
        """The index of the text that is to blame, and the reason; None if there is none."""
        suspects = order_of(Task(self.shard, self.excluded))[done : done + _SUSPECTS]
        while suspects:
            outcome = yield Task(self.shard, {}, indices=suspects)
            if not outcome.death:
                return None
            if outcome.done >= len(suspects):  # after the last text: none is to blame
                return None
            accused = suspects[outcome.done]
            again = yield Task(self.shard, {}, indices=[accused])
            if again.death:
                return accused, again.death
            suspects = suspects[outcome.done + 1 :]
        return None
