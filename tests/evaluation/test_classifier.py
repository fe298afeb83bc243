"""The class names of a model, and its scores in batches."""

import numpy as np
import pytest

from stages.dataset.seen import Seen
from stages.evaluation.classifier import BATCH, Classifier, Crops
from stages.evaluation.scoring import score_crops
from stages.images.opening import load_image
from stages.measures.novelty import empty_reference
from tests.conftest import save_crop
from tests.evaluation.classifiers import a_card, a_decision
from tests.model.test_networks import build


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["nonGS", "GS"], ["nonGS", "GS"]),
        (["*/not_sclerotic", "*/sclerotic"], ["not sclerotic", "sclerotic"]),
        (None, ["a b", "c"]),
        # Not two different words: the defaults.
        (["0", "1"], ["a b", "c"]),
        (["1", "0"], ["a b", "c"]),
        (["0/crops", "1/crops"], ["a b", "c"]),
        (["*", "GS/*"], ["a b", "c"]),
    ],
)
def test_class_names_are_those_of_the_folders_if_these_are_words(folders, names):
    card = {"title": "t", "classes": folders}
    assert a_card(card, classes=["a_b", "c"]).class_names == names


def test_scores_do_not_depend_on_the_other_crops(tmp_path):
    """Nor on unreadable ones in the same batch."""
    model = build("conv1-dense1", size=16)
    made = a_card({"title": "t"}, step="conv1-dense1")
    decision = a_decision()
    classifier = Classifier(made, model, decision, empty_reference(), Seen({}))
    files = [
        save_crop(tmp_path / f"{n}.png", n, (12 + n % 7, 9 + n % 5)) for n in range(2 * BATCH + 3)
    ]
    files[BATCH + 1].write_bytes(b"nothing")
    together = score_crops(classifier, Crops(files, made))
    assert list(together.problems) == [BATCH + 1] and together.novelty is None
    squares = np.stack(
        [made.square(load_image(file)) for row, file in enumerate(files) if row != BATCH + 1]
    )
    expected = np.delete(together.probability, BATCH + 1)
    assert expected == pytest.approx(model.predict(squares, verbose=0)[:, 0], abs=1e-6)
    for some in (files[:1], files[:5], files[BATCH + 2 :]):
        found = score_crops(classifier, Crops(some, made)).probability
        first = files.index(some[0])
        # Identical at the same place of a batch, otherwise up to rounding.
        most = 1e-6 if first % BATCH else 0
        assert found == pytest.approx(
            together.probability[first : first + len(some)], rel=0, abs=most
        )
