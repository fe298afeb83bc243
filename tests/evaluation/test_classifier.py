"""What the two classes of a model are called, wherever it is read."""

import pytest

from stages.evaluation.classifier import ModelCard


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["nonGS", "GS"], ["nonGS", "GS"]),
        (["*/not_sclerotic", "*/sclerotic"], ["not sclerotic", "sclerotic"]),
        (None, ["a b", "c"]),
        # No words, or not two of them: as everywhere.
        (["0", "1"], ["a b", "c"]),
        (["1", "0"], ["a b", "c"]),
        (["0/crops", "1/crops"], ["a b", "c"]),
        (["*", "GS/*"], ["a b", "c"]),
    ],
)
def test_the_classes_are_called_as_the_folders_where_these_are_words(folders, names):
    card = {"title": "t", "classes": folders}
    assert ModelCard(step="logistic", padding="white", size=16, classes=["a_b", "c"], dataset={"card": card}).class_names == names
