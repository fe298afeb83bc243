"""Each name that a parameter can have is run, and gives a different result.

The names come from the schemas in stages/parameters/whole.py: a name that is added to a `Literal`
and whose case is forgotten ends in an error here, or in the result of another name.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from stages import crops, features, manifest, pad, split, train
from stages.base.errors import UserError
from stages.base.parameters import read_params
from stages.dataset.card import read_dataset
from stages.dataset.seen import Seen
from stages.external import without_training_crops
from stages.images.squares import make_square
from stages.intake.crops import make_manifest
from stages.intake.parameters import ManifestParameters
from stages.intake.readers import Consensus
from stages.ladder.parameters import ClimbParameters
from stages.measures.calibration import fit_calibration
from stages.measures.scores import MEASURES
from stages.measures.threshold import choose_threshold
from stages.model.backend import make_deterministic
from stages.model.forward import orientations
from stages.model.networks import build_model
from stages.parameters.whole import Whole
from tests.conftest import list_crops, make_classes, save_crop
from tests.drawn import model_parameters
from tests.model.eagerly import run
from tests.repositories import set_params

Y_TRUE = np.random.default_rng(0).integers(0, 2, 80)
Y_SCORE = np.clip(0.3 * Y_TRUE + np.random.default_rng(1).uniform(0.01, 0.69, 80), 0, 1)


def choices(schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each parameter of a schema that takes names, `block.name`, with its names."""
    for name, field in schema.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from choices(field.annotation, f"{prefix}{name}.")
        elif found := tuple(literals(field.annotation)):
            yield f"{prefix}{name}", found


def literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for part in get_args(annotation):
            yield from literals(part)


CHOICES = dict(choices(Whole))


def unreadable(member: str) -> object:
    make_classes(slides=3)
    Path("data/small/GS/s0-0.png").write_text("no image")
    params = read_with("manifest", ManifestParameters, unreadable=member)
    try:
        return make_manifest(read_dataset("small"), Path("list.csv"), params.skips_unreadable)
    except UserError as error:
        return str(error)


def read_with(block: str, schema: Any, **changes: str) -> Any:
    set_params({f"{block}.{name}": value for name, value in changes.items()})
    return read_params(block, schema)


def drawn(**changes: object) -> str:
    """Three sites of six slides, two of them locked, split."""
    for number in range(18 * 4):
        slide, site = divmod(number // 4, 3)
        kind = "GS" if number % 4 == 0 else "nonGS"
        save_crop(Path(f"data/sites/{kind}/{'abc'[site]}{slide}-{number}.png"), number)
    pattern = r"(?P<slide>(?P<site>[abc])\d)-\d+\.png$"
    locked = "" if changes.get("split.by") == "site" else "locked_test: [a0, b0]\n"
    card = f"title: t\nclasses: [nonGS, GS]\ngroup: '{pattern}'\n{locked}"
    Path("data/sites.yaml").write_text(card)
    set_params({"data": "sites", "split.folds": 3} | changes)
    list_crops()
    split.main()
    return Path("data/split.csv").read_text()


def square(member: Any) -> object:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 20, 4), dtype=np.uint8)
    return make_square(Image.fromarray(pixels), member, 32).tolist()


def trained(**changes: object) -> object:
    """What a tiny model gives after one epoch."""
    make_classes(slides=10)
    small = {"pad.size": 32, "model.conv_filters": 2, "model.dense_units": 4}
    small |= {"model.weights": "none", "train.epochs": 1, "train.resume": False}
    set_params(small | changes)
    for stage in (crops, manifest, split, pad, features, train):
        stage.main()
    return Path("models/validation.csv").read_text()


def of_network(name: str) -> Callable[[str], object]:
    """What a new, tiny network gives for noise."""

    def built(member: str) -> object:
        small = {"step": "conv1-dense1", "conv_filters": 2, "dense_units": 4, name: member}
        make_deterministic(0)
        model = build_model(model_parameters(**small), 16, [180.0] * 3, [900.0] * 3)
        pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
        return run(model, pixels).tolist()

    return built


def of_backbone(name: str) -> Callable[[str], object]:
    return lambda member: trained(**{"model.step": "VGG16", name: member})


def of_views(member: Any) -> object:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), dtype=np.uint8)
    return [np.asarray(view).tolist() for view in orientations(pixels, member)]


def of_encoder(name: str) -> Callable[[Any], object]:
    """The features by two encoders whose model cards ask for other tokens."""

    def encoded(member: Any) -> object:
        pytest.importorskip("keras_hub", reason="encoders need requirements-encoders.txt")
        from stages.model.encoder import build_encoder
        from tests.model import encoders

        settings = {"tokens": "card", "precision": "float32"} | {name: member}
        found = []
        for family in ("virchow2", "uni"):
            stored = json.loads(encoders.STORED.read_text())[family]
            folder = encoders.write_folder(stored, Path(family))
            model = build_encoder(folder, stored["size"], **settings).frozen
            pixels = encoders.square(stored["size"])[None]
            found.append(run(model, pixels).astype(np.float32).tolist())
        return found

    return encoded


def of_precision(member: str) -> object:
    """Features, and how a GPU would multiply: a CPU does not know TF32."""
    import tensorflow

    from stages.model.device import set_precision

    set_precision(member)
    has_tf32 = tensorflow.config.experimental.tensor_float_32_execution_enabled()
    try:
        return has_tf32, of_encoder("precision")(member)
    except UserError as error:  # Not every processor computes in bfloat16.
        return str(error)


def trained_on(member: Any) -> object:
    make_classes(slides=3)
    dataset = read_dataset("small")
    crops, *_ = make_manifest(dataset, Path("list.csv"))
    try:
        seen = Seen({crops[0].pixels_sha256[:16]: "train"})
        return without_training_crops(dataset, crops, seen, member)
    except UserError as error:
        return str(error)


def measured(member: str) -> object:
    params = read_with("climb", ClimbParameters, measure=member)
    return MEASURES[params.measure].function(Y_TRUE, Y_SCORE)


# How the code is run with a name of each parameter.
RUN: dict[str, Callable[[Any], object]] = {
    "manifest.unreadable": unreadable,
    "manifest.consensus": lambda member: Consensus.parse(member).label("ab", (1, -1)),
    "split.test": lambda member: drawn(**{"split.test": member, "train.ensemble": True}),
    "split.by": lambda member: drawn(**{"split.by": member}),
    "split.validation_by": lambda member: drawn(
        **{"split.by": "site", "split.validation_by": member}
    ),
    "pad.mode": square,
    "model.pooling": of_network("pooling"),
    "model.initializer": of_network("initializer"),
    "model.trainable": of_backbone("model.trainable"),
    "model.tokens": of_encoder("tokens"),
    "model.precision": of_precision,
    "model.head": lambda member: trained(
        **{"model.step": "VGG16", "model.views": 1, "model.head": member}
    ),
    "model.views": of_views,
    "train.class_weight": lambda member: trained(
        **{"model.step": "conv1-dense1", "train.class_weight": member}
    ),
    "calibrate.method": lambda member: fit_calibration(Y_TRUE, Y_SCORE, member)(
        Y_SCORE[:, None]
    ).tolist(),
    "calibrate.threshold_rule": lambda member: choose_threshold(
        Y_TRUE, Y_SCORE, member, 0.8, np.arange(80)
    ),
    "evaluate.trained_on": trained_on,
    "climb.measure": measured,
}


def test_each_parameter_that_takes_names_is_run():
    assert set(RUN) == set(CHOICES)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * name.startswith(("model.", "train.")))
        for name in CHOICES
    ],
)
def test_each_name_gives_a_result_of_its_own(name, workplace, monkeypatch):
    results = {}
    for member in CHOICES[name]:
        place = workplace / f"of-{member}"
        (place / "data").mkdir(parents=True)
        (place / "params.yaml").write_bytes((workplace / "params.yaml").read_bytes())
        monkeypatch.chdir(place)
        result = repr(RUN[name](member))
        same = [other for other, found in results.items() if found == result]
        assert not same, f"{name}: {member} gives the same as {same[0]}; is its case forgotten?"
        results[member] = result
