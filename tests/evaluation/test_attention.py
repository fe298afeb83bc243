"""Attention maps point at a red patch, for models that are built to detect red."""

import numpy as np
import pytest
from PIL import Image

from stages.evaluation.attention import Attention, overlay
from stages.model.backend import keras
from stages.model.networks import mean_of_orientations, side_by_side

SIZE = 32


def squares():
    """A gray square with a red patch at the top left, and one without."""
    pixels = np.full((2, SIZE, SIZE, 3), 120, dtype=np.uint8)
    pixels[0, 4:12, 6:14] = (250, 20, 20)
    return pixels


def red_model(flat=False, pooling=4):
    """A model of red minus green, by a convolution or, if `flat`, by single pixels."""
    inputs = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    if not flat:
        x = keras.layers.Conv2D(1, 1, name="red")(x)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D(pooling)(x))
    else:
        x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="probability")(x))
    if flat:
        weight = np.zeros((SIZE, SIZE, 3, 1))
        weight[4:12, 6:14, 0] = 0.1
        model.get_layer("probability").set_weights([weight.reshape(-1, 1), np.zeros(1)])
    else:
        model.get_layer("red").set_weights([np.array([1, -1, 0]).reshape(1, 1, 3, 1), np.zeros(1)])
        model.get_layer("probability").set_weights([np.full((1, 1), 5.0), np.zeros(1)])
    return model


def center(heat):
    return (np.indices(heat.shape) * heat).sum((1, 2)) / heat.sum() + 0.5


@pytest.mark.parametrize(
    "model",
    [
        red_model,
        lambda: red_model(flat=True),
        lambda: side_by_side([red_model(pooling=2), red_model(pooling=4)], "both"),
        lambda: mean_of_orientations(side_by_side([red_model(), red_model(pooling=2)], "both")),
    ],
    ids=["convolution", "pixels", "members", "orientations"],
)
def test_points_at_the_red_patch(model):
    heat = Attention(model())(squares())
    assert heat.shape == (2, SIZE, SIZE) and heat.dtype == np.float32
    assert heat[0].max() == 1 and heat[0].min() >= 0
    assert center(heat[0]) == pytest.approx([8, 10], abs=1.5)


@pytest.mark.parametrize("nested", [False, True], ids=["layers", "a backbone with two outputs"])
def test_weights_several_layers_by_their_share_in_the_log_odds(nested):
    """Red by a layer at full size, blue by one at a quarter; the head weights both."""

    def heat_of(red, blue):
        inputs = keras.Input((SIZE, SIZE, 3), dtype="uint8")
        x = keras.layers.Rescaling(1 / 255)(inputs)
        maps = keras.layers.Conv2D(1, 1)(x), keras.layers.Conv2D(1, 4, strides=4)(x)
        if nested:
            maps = keras.Model(inputs, maps)(inputs)
        averages = [keras.layers.GlobalAveragePooling2D()(one) for one in maps]
        outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Concatenate()(averages))
        model = keras.Model(inputs, outputs)
        of_blue = np.zeros((4, 4, 3, 1))
        of_blue[:, :, 2] = 1 / 16
        of_blue[:, :, 1] = -1 / 16
        weights = [
            np.array([1, -1, 0]).reshape(1, 1, 3, 1),
            np.zeros(1),
            of_blue,
            np.zeros(1),
            [[red], [blue]],
            np.zeros(1),
        ]
        model.set_weights([np.array(weight) for weight in weights])
        return Attention(model)(pixels)[0]

    pixels = squares()[:1]
    pixels[0, 20:28, 20:28] = (20, 20, 250)
    assert center(heat_of(1, 0)) == pytest.approx([8, 10], abs=0.5)
    assert center(heat_of(0, 1)) == pytest.approx([24, 24], abs=1)
    # Both patches are equally large and strong.
    assert center(heat_of(1, 1)) == pytest.approx([16, 17], abs=1)


def test_cropped_margins_are_zero():
    inputs = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    maps = keras.layers.Conv2D(1, 1)(keras.layers.Rescaling(1 / 255)(inputs))
    average = keras.layers.GlobalAveragePooling2D()(keras.layers.Cropping2D(8)(maps))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(average))
    model.set_weights(
        [np.array([1, -1, 0]).reshape(1, 1, 3, 1), np.zeros(1), np.ones((1, 1)), np.zeros(1)]
    )
    pixels = squares()[1:]
    pixels[0, 2:6, 2:6] = pixels[0, 18:22, 10:14] = (250, 20, 20)
    heat = Attention(model)(pixels)[0]
    assert center(heat) == pytest.approx([20, 12], abs=0.5)
    assert not heat[:8].any() and heat[19, 11] == 1


def test_overlay_is_gray_where_cold_and_red_where_hot():
    heat = np.zeros((SIZE, SIZE), dtype=np.float32)
    heat[8:16, 8:16] = 1
    picture = overlay(squares()[1], heat)
    assert isinstance(picture, Image.Image)
    pixels = np.asarray(picture).astype(int)
    assert (pixels[0, 0] == 120).all()
    assert pixels[10, 10, 0] > pixels[10, 10, 1] + 100


def test_a_map_is_shown_without_the_noise_of_single_pixels():
    """As on the page of predictions, whose maps have 28 pixels per side."""
    heat = np.indices((112, 112)).sum(axis=0) % 2
    shown = np.asarray(overlay(np.full((112, 112, 3), 90, dtype=np.uint8), heat.astype(np.float32)))
    assert shown.shape == (112, 112, 3) and np.ptp(shown.reshape(-1, 3), axis=0).max() <= 1
