"""Batches hold the right rows, and augmentation depends only on seed, epoch and row."""

import numpy as np
import pytest

from stages.model import batches as batches_module
from stages.model.augment import augment, change_stains, draw
from stages.model.augment_on_device import augmented, changes_as_arrays
from stages.model.backend import keras
from stages.model.batches import Batches, predict
from stages.model.draws import draws
from stages.model.parameters import AugmentParameters

NONE = {
    "orientations": False,
    "rotation": 0.0,
    "shift": 0.0,
    "scale": 0.0,
    "aspect": 0.0,
    "brightness": 0.0,
    "stain": 0.0,
}
ALL = {
    "orientations": True,
    "rotation": 45.0,
    "shift": 0.1,
    "scale": 0.2,
    "aspect": 0.1,
    "brightness": 0.2,
    "stain": 0.2,
}


def squares(n=10, size=16):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def changed(pixels, seed=0, **changes):
    return augment(pixels, AugmentParameters(**(NONE | changes)), np.random.default_rng(seed))


def test_rows_keep_their_order_without_augmentation():
    images, y = squares(), np.arange(10) % 2
    batches = Batches(images, np.array([7, 2, 5]), y, batch_size=2)
    assert len(batches) == 2
    pixels, labels = batches[0]
    assert (pixels == images[[7, 2]]).all()
    assert pixels.dtype == np.uint8
    assert (labels == [[1], [0]]).all()
    assert (batches[1][0] == images[[5]]).all()


def test_each_epoch_is_another_permutation():
    images = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 8, 8, 3), dtype=np.uint8
    )
    batches = Batches(
        images, np.arange(20), np.zeros(20, dtype=int), 6, AugmentParameters(**NONE), seed=3
    )

    def epoch():
        return np.concatenate(
            [batches[index][0][:, 0, 0, 0] for index in range(len(batches))]
        ).tolist()

    first = epoch()
    assert sorted(first) == list(range(20))
    assert first == epoch()
    batches.on_epoch_end()
    assert sorted(epoch()) == list(range(20))
    assert epoch() != first


def test_resumed_training_sees_the_same_batches():
    arguments = (squares(), np.arange(10), np.zeros(10, dtype=int), 4, AugmentParameters(**ALL), 5)
    straight, later = Batches(*arguments), Batches(*arguments, epoch=2)
    straight.on_epoch_end()
    straight.on_epoch_end()
    for index in range(3):
        assert (straight[index][0] == later[index][0]).all()


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (3, 1), (2**32 - 1, 99_999)])
def test_draws_are_those_of_a_numpy_generator_per_row(seed, epoch):
    rows = np.array([0, 1, 2, 977, 2**31, 2**32 - 1])
    orientations, numbers = draws(seed, epoch, rows, 12)
    for place, row in enumerate(rows):
        random = np.random.default_rng([seed, epoch, int(row)])
        assert orientations[place] == random.integers(8)
        assert (numbers[place] == random.uniform(-1, 1, 12)).all()


def test_each_row_is_augmented_with_its_own_generator():
    images, params = squares(), AugmentParameters(**ALL)
    pixels, _ = Batches(images, np.arange(10), np.arange(10), 10, params, seed=3, epoch=2)[0]
    _, labels = Batches(images, np.arange(10), np.arange(10), 10, params, seed=3, epoch=2)[0]
    for square, row in zip(pixels, labels[:, 0].astype(int)):
        random = np.random.default_rng([3, 2, row])
        assert (square == augment(images[row], params, random)).all()


@pytest.mark.parametrize(
    "changes", [NONE, NONE | {"orientations": True}, NONE | {"stain": 0.2}, ALL, ALL | {"stain": 0}]
)
def test_a_device_augments_like_opencv(changes):
    images, params = squares(20, 32), AugmentParameters(**changes)
    images[:, :5], images[:, -3:] = 255, 0
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    model = augmented(keras.Model(inputs, keras.layers.Identity()(inputs)), params)
    drawn = [draw(params, 32, np.random.default_rng(row)) for row in range(20)]
    found = model.predict_on_batch({"pixels": images, **changes_as_arrays(drawn, 32)})
    by_opencv = [augment(images[row], params, np.random.default_rng(row)) for row in range(20)]
    difference = np.abs(np.asarray(found).astype(int) - np.stack(by_opencv))
    moves = params.rotation > 0
    # Light and stain can make a level of difference two.
    assert difference.max() <= 2 * moves
    assert (difference > 0).mean() <= 0.001 * moves


def test_batches_for_an_accelerator_have_the_same_order_and_changes():
    arguments = (squares(), np.arange(10), np.arange(10), 4, AugmentParameters(**ALL), 5)
    ours, theirs = Batches(*arguments), Batches(*arguments, for_accelerator=True)
    for _ in range(2):
        for index in range(3):
            pixels, labels = theirs[index]
            inputs = keras.Input((16, 16, 3), dtype="uint8")
            model = augmented(keras.Model(inputs, keras.layers.Identity()(inputs)), arguments[4])
            found = np.asarray(model.predict_on_batch(pixels)).astype(int)
            assert np.abs(found - ours[index][0]).max() <= 2
            assert (labels == ours[index][1]).all()
        ours.on_epoch_end()
        theirs.on_epoch_end()


def test_predict_on_an_accelerator_keeps_the_order_of_the_rows(monkeypatch):
    monkeypatch.setattr(batches_module, "has_accelerator", lambda: True)
    monkeypatch.setattr(batches_module, "PIXELS", 3 * 8 * 8)
    test_predict_keeps_the_order_of_the_rows()


def test_number_of_workers_does_not_change_the_training():
    images, y = squares(20), np.arange(20) % 2
    losses = []
    for workers in (1, 4):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((16, 16, 3), dtype="uint8"),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
            ]
        )
        model.add(keras.layers.Dense(1, activation="sigmoid"))
        model.compile(keras.optimizers.SGD(0.01), "binary_crossentropy")
        batches = Batches(images, np.arange(20), y, 3, AugmentParameters(**ALL))
        batches._workers = workers
        losses.append(model.fit(batches, epochs=4, shuffle=False, verbose=0).history["loss"])
    assert losses[0] == losses[1]


def test_exactly_the_eight_orientations_occur():
    pixels = squares(1, 8)[0]
    expected = {
        np.rot90(side, turns).tobytes() for side in (pixels, pixels[:, ::-1]) for turns in range(4)
    }
    assert len(expected) == 8
    assert {changed(pixels, seed, orientations=True).tobytes() for seed in range(100)} == expected


def test_disabled_augmentation_changes_nothing():
    pixels = squares(1)[0]
    assert (changed(pixels) == pixels).all()


def blob(side=33, row=16, column=16):
    y, x = np.mgrid[:side, :side]
    return np.repeat(
        (255 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8))[..., None], 3, axis=2
    ).astype(np.uint8)


def center(pixels):
    weight = pixels[..., 0].astype(float)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return (y * weight).sum() / weight.sum(), (x * weight).sum() / weight.sum()


@pytest.mark.parametrize("seed", range(5))
def test_rotation_is_about_the_center(seed):
    assert center(changed(blob(), seed, rotation=45.0)) == pytest.approx((16, 16), abs=0.1)
    turned = changed(blob(row=16, column=20), seed, rotation=45.0)
    y, x = center(turned)
    assert np.hypot(y - 16, x - 16) == pytest.approx(4, abs=0.1)
    random = np.random.default_rng(seed)
    random.integers(8)
    angle = np.radians(45 * random.uniform(-1, 1, 4)[0])
    assert (y - 16, x - 16) == pytest.approx((4 * np.sin(angle), 4 * np.cos(angle)), abs=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_shift_moves_by_the_drawn_share_of_the_side(seed):
    random = np.random.default_rng(seed)
    random.integers(8)
    _, right, down, _ = random.uniform(-1, 1, 4)
    y, x = center(changed(blob(), seed, shift=0.1))
    assert (y - 16, x - 16) == pytest.approx((3.3 * down, 3.3 * right), abs=0.1)


def test_new_border_pixels_are_tissue_and_not_black():
    pixels = np.full((16, 16, 3), 200, dtype=np.uint8)
    for seed in range(20):
        assert (changed(pixels, seed, rotation=180.0, shift=0.5) == 200).all()


def test_brightness_stays_within_its_share_and_range():
    pixels = np.full((4, 4, 3), 100, dtype=np.uint8)
    values = {int(changed(pixels, seed, brightness=0.2)[0, 0, 0]) for seed in range(200)}
    assert min(values) >= 80 and max(values) <= 120 and len(values) > 30
    assert changed(np.full((4, 4, 3), 250, dtype=np.uint8), 2, brightness=0.9).max() <= 255


@pytest.mark.parametrize("margin", (0, 255))
@pytest.mark.parametrize("changes", ({"brightness": 0.5}, {"stain": 0.5}, ALL))
def test_white_and_black_margins_keep_their_color_alike(margin, changes):
    pixels = np.full((32, 32, 3), margin, dtype=np.uint8)
    tissue = np.random.default_rng(0).integers(60, 200, (32, 12, 3), dtype=np.uint8)
    pixels[:, 10:22] = tissue
    still = {name: value for name, value in changes.items() if name not in ("brightness", "stain")}
    moved = changed(pixels, **still)
    found = changed(pixels, **changes)
    was_margin = (moved == margin).all(axis=-1)
    assert was_margin.any() and (found[was_margin] == margin).all()
    assert (found[~was_margin] != moved[~was_margin]).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("stain", range(3))
def test_an_offset_of_one_is_an_optical_density_of_a_tenth(stain):
    gray = np.full((2, 2, 3), 128, dtype=np.uint8)
    more = change_stains(gray, np.ones(3), np.eye(3)[stain])
    denser = np.log10(gray / more)[0, 0]
    assert np.linalg.norm(denser) == pytest.approx(0.1, abs=0.004)


def test_predict_keeps_the_order_of_the_rows():
    images = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 8, 8, 3), dtype=np.uint8
    )
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(
        inputs,
        keras.layers.Reshape((1,))(
            keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))[:, :1]
        ),
    )
    rows = np.array([40, 3, 17, 4, 9])
    assert predict(model, images, rows, batch_size=2) == pytest.approx(rows / 255, abs=1e-6)
