"""The scores of crops by a model: in batches, and continued after an interruption."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stages.base.errors import warn
from stages.evaluation.classifier import Classifier, Crops
from stages.images.archives import as_file
from stages.workers.progress import progress, warn_if_long

if TYPE_CHECKING:
    from stages.evaluation.finished import Finished
    from stages.model.forward import Forward


class CropScores(NamedTuple):
    """The scores of n files.

    Attributes:
        probability: of global sclerosis, calibrated, float64 (n,).
        problems: by row, why a file does not open; its scores are meaningless.
        novelty: float64 (n,); None if the model has no novelty reference.
        trained_on: rows of crops that the model was trained on.
    """

    probability: np.ndarray
    problems: dict[int, str]
    novelty: np.ndarray | None
    trained_on: set[int]


class Scored(NamedTuple):
    """What a model and the checks of a picture say of a crop.

    Attributes:
        probability: of each member, not calibrated, float32.
        novelty: None if the model has no novelty reference.
        digest: of the pixels; None if the file does not open.
    """

    probability: list[float]
    novelty: float | None
    digest: str | None
    doubts: list[str]


def scoring_model(classifier: Classifier) -> "Forward":
    """Return the compiled model, which also outputs the features if the classifier has novelty."""
    from stages.model.forward import Forward
    from stages.model.networks import one_orientation, with_features

    one, views = one_orientation(classifier.model)
    return Forward(with_features(one) if classifier.reference else one, views)


def score_crops(
    classifier: Classifier, crops: Crops, finished: "Finished | None" = None
) -> CropScores:
    """Return the scores of crops; warn of doubtful ones and of those that it was trained on.

    Args:
        finished: the scores by an interrupted run, which are taken over; new ones are added.
    """
    files = crops.files
    scores: dict[int, Scored] = {}
    if finished:
        found = {row: finished.find(as_file(file)) for row, file in enumerate(files)}
        scores = {row: scored for row, scored in found.items() if scored}
    rest = [row for row in range(len(files)) if row not in scores]
    if scores:
        given = None if crops.embeddings is None else crops.embeddings[rest]
        crops = Crops([files[row] for row in rest], crops.made, embeddings=given)
    with progress(total=len(files), initial=len(scores), desc="predicting", unit="crop") as bar:
        start = 0
        batches = score_batches(classifier, scoring_model(classifier), crops)
        for number, batch in enumerate(batches):
            rows = rest[start : start + len(batch)]
            scores |= zip(rows, batch)
            if finished:
                done = [place for place in range(len(batch)) if start + place not in crops.problems]
                finished.add((as_file(files[rows[place]]), batch[place]) for place in done)
            start += len(batch)
            bar.update(len(batch))
            warn_if_long(bar, number)
    problems = {rest[place]: problem for place, problem in crops.problems.items()}
    result = _gathered(classifier, [scores[row] for row in range(len(files))], problems)
    warn("read, with a doubt", [doubt for row in range(len(files)) for doubt in scores[row].doubts])
    if result.trained_on:
        counts = f"{len(result.trained_on)} of these {len(files)} crops"
        print(
            f"warning: the model was trained on {counts}: their predictions do not show how good "
            "it is",
            file=sys.stderr,
        )
    return result


def score(classifier: Classifier, model: "Forward", crops: Crops) -> CropScores:
    """Return the scores of crops, at least one, and print nothing.

    Args:
        model: the `scoring_model` of the classifier.
    """
    scores = [one for batch in score_batches(classifier, model, crops) for one in batch]
    return _gathered(classifier, scores, crops.problems)


def score_batches(classifier: Classifier, model: "Forward", crops: Crops) -> Iterator[list[Scored]]:
    """Yield the scores of all crops in their order, batch by batch."""
    from stages.model.forward import in_flight

    row = 0
    for by_view, *others in in_flight(map(model.start, crops.batches(model.batch))):
        probability, novelty = mean_of_views(by_view), [None] * len(by_view)
        if others:  # The features, of which those of the upright square count.
            novelty = classifier.reference.novelty(others[0][:, 0]).tolist()
        rows = range(row, row := row + len(by_view))
        yield [
            Scored(
                probability[place].tolist(),
                novelty[place],
                crops.digests.get(row),
                crops.doubts.get(row, []),
            )
            for place, row in enumerate(rows)
        ]


def _gathered(
    classifier: Classifier, scores: Sequence[Scored], problems: dict[int, str]
) -> CropScores:
    probability = np.array([one.probability for one in scores], dtype=np.float32)
    novelty = np.array([one.novelty for one in scores], dtype=np.float64)
    seen = classifier.seen
    return CropScores(
        classifier.decision.calibration(probability),
        problems,
        novelty if classifier.reference else None,
        {row for row, one in enumerate(scores) if one.digest and seen.trained_on(one.digest)},
    )


def mean_of_views(outputs: np.ndarray) -> np.ndarray:
    """Return the mean over views, float32 (n, views, D) to (n, D), rounded as by `Average`."""
    total = outputs[:, 0]
    for view in range(1, outputs.shape[1]):
        total = total + outputs[:, view]
    return total / np.float32(outputs.shape[1])
