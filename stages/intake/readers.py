"""One label from those of several readers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple, assert_never

from stages.base.errors import warn
from stages.dataset.readings import NOT_READ, PREFIX, CropReadings

# Two readers who agree on less than half of their crops may mean opposite classes by 1.
OPPOSITE = 0.5
# Of fewer crops that both have read, it may be chance.
LEAST_READ = 5


class Consensus(NamedTuple):
    """`manifest.consensus` in params.yaml: how one label follows from those of several readers.

    Attributes:
        reader: the column whose labels are taken by the rule `reader`.
    """

    rule: Literal["majority", "agreement", "reader"]
    reader: str = ""

    @classmethod
    def parse(cls, text: object) -> "Consensus":
        """Return the rule that `majority`, `agreement` or `reader:<column>` names.

        Raises:
            ValueError: it names none.
        """
        if text == "majority" or text == "agreement":
            return cls(text)
        if isinstance(text, str) and text.startswith(PREFIX) and text != PREFIX:
            return cls("reader", text.removeprefix(PREFIX))
        raise ValueError(f"it must be majority, agreement or {PREFIX}<column of a reader>")

    def __str__(self) -> str:
        return PREFIX + self.reader if self.reader else self.rule

    def label(self, readers: Sequence[str], labels: CropReadings) -> int | None:
        """Return the label of a crop, None if its readers have no consensus.

        >>> [MAJORITY.label("abc", labels) for labels in ((1, 0, 1), (1, 0, -1), (1, -1, -1))]
        [1, None, 1]
        >>> rule = Consensus("agreement")
        >>> [rule.label("abc", labels) for labels in ((1, 0, 1), (0, 0, -1), (1, -1, -1))]
        [None, 0, None]
        """
        read = [label for label in labels if label != NOT_READ]
        match self.rule:
            case "majority":
                positive = 2 * sum(read)
                return None if positive == len(read) else int(positive > len(read))
            case "agreement":
                return read[0] if len(read) > 1 and len(set(read)) == 1 else None
            case "reader":
                label = labels[readers.index(self.reader)]
                return None if label == NOT_READ else label
            case _:
                assert_never(self.rule)


MAJORITY = Consensus("majority")


def warn_of_opposite(
    table: object, readers: Sequence[str], readings: Mapping[str, CropReadings]
) -> None:
    """Warn of two readers who seem to mean opposite classes by 1."""
    for (one, first), (other, second) in combinations(enumerate(readers), 2):
        pairs = Counter((labels[one], labels[other]) for labels in readings.values())
        both = pairs[0, 0] + pairs[1, 1] + pairs[0, 1] + pairs[1, 0]
        if both >= LEAST_READ and pairs[0, 0] + pairs[1, 1] < OPPOSITE * both:
            warn(
                f"{table}: {first} and {second} agree on {pairs[0, 0] + pairs[1, 1]} of {both} "
                "crops; is 1 globally sclerotic in both columns?"
            )
