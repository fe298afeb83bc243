"""Every rung of the ladder builds, learns, and has as many weights as worked out by hand."""

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.model.backend import keras
from stages.model.file import load_model, save_model
from stages.model.networks import ModelParameters, build_model, mean_of_orientations, side_by_side
from stages.model.steps import parse_step

SIZE = 32
RUNGS = ["logistic", *(f"conv{c}-dense{d}" for c in range(6) for d in range(5))]
MEAN, VARIANCE = [180.0, 120.0, 160.0], [3000.0, 4000.0, 2500.0]


def parameters(step, **changes):
    fields = {
        "conv_filters": 2,
        "dense_units": 3,
        "batch_norm": True,
        "pooling": "max",
        "initializer": "he_normal",
    }
    fields |= {
        "weights": "imagenet",
        "trainable": "frozen",
        "feature_layers": [],
        "center_fraction": 0.7,
        "views": 8,
        "jittered_views": 0,
    }
    fields |= {"tokens": "card", "precision": "float32", "head": "logistic"}
    return ModelParameters(step=step, **(fields | changes))


def build(step, dropout=0.0, size=SIZE, **changes):
    keras.utils.set_random_seed(0)
    return build_model(parameters(step, **changes), size, MEAN, VARIANCE, dropout)


def count_by_hand(blocks, dense_layers, filters, units, batch_norm, pooled, size=SIZE):
    total, channels, side = 0, 3, size
    for block in range(blocks):
        out = filters * 2**block
        total += 3 * 3 * channels * out + (4 * out if batch_norm else out)
        channels, side = out, side // 2 if pooled else side
    features = side * side * channels
    for _ in range(dense_layers):
        total += features * units + units
        features = units
    return total + features + 1


def test_number_of_weights_worked_out_by_hand():
    # 32 x 32 x 3 pixels and an offset.
    assert build("logistic").count_params() == 3073 == count_by_hand(0, 0, 2, 3, True, True)
    # 3*3*3*2 + 4*2 = 62; 3*3*2*4 + 4*4 = 88; 8*8*4 = 256 features into 3 units, 771; 3 into 1, 4.
    assert (
        build("conv2-dense1").count_params()
        == 62 + 88 + 771 + 4
        == count_by_hand(2, 1, 2, 3, True, True)
    )


def crops(n=8, size=SIZE):
    """Dark and bright crops, and their labels."""
    random = np.random.default_rng(0)
    y = np.arange(n) % 2
    pixels = random.integers(0, 120, (n, size, size, 3)) + 120 * y[:, None, None, None]
    return pixels.astype(np.uint8), y.astype(np.float32)[:, None]


@pytest.mark.parametrize("step", RUNGS)
def test_every_rung_builds(step):
    model = build(step, dropout=0.2)
    blocks, dense_layers = parse_step(step)
    assert model.output_shape == (None, 1)
    assert model.input_shape == (None, SIZE, SIZE, 3)
    assert model.count_params() == count_by_hand(blocks, dense_layers, 2, 3, True, True)


@pytest.mark.parametrize("step", [RUNGS[0], "conv0-dense4", "conv5-dense0", RUNGS[-1]])
def test_the_smallest_and_largest_rungs_learn(step):
    model = build(step)
    pixels, y = crops()
    model.compile(keras.optimizers.SGD(0.001), "binary_crossentropy")
    before = model.train_on_batch(pixels, y)
    after = model.train_on_batch(pixels, y)
    assert after < before


@pytest.mark.parametrize(
    ("batch_norm", "pooling"), [(False, "max"), (True, "average"), (True, "none"), (False, "none")]
)
def test_batch_norm_and_pooling_are_parameters(batch_norm, pooling):
    model = build("conv3-dense2", batch_norm=batch_norm, pooling=pooling, size=16)
    assert model.count_params() == count_by_hand(3, 2, 2, 3, batch_norm, pooling != "none", size=16)
    kinds = {type(layer).__name__ for layer in model.layers}
    assert ("BatchNormalization" in kinds) == batch_norm
    assert ("AveragePooling2D" in kinds) == (pooling == "average")


def test_logistic_is_conv0_dense0():
    assert parse_step("logistic") == parse_step("conv0-dense0") == (0, 0)


def test_dropout_is_never_on_the_pixels():
    def layers(step):
        return [type(layer).__name__ for layer in build(step, dropout=0.5).layers]

    assert "Dropout" not in layers("logistic")
    assert layers("conv0-dense2").count("Dropout") == 2
    assert layers("conv1-dense2").count("Dropout") == 3


@pytest.mark.parametrize(
    "initializer", ["he_normal", "he_uniform", "glorot_normal", "glorot_uniform"]
)
def test_the_initializer_is_a_parameter(initializer):
    layer = build("conv1-dense1", initializer=initializer).layers[2]
    assert keras.initializers.serialize(layer.kernel_initializer)[
        "class_name"
    ].lower() == initializer.replace("_", "")


def test_normalization_is_inside_the_model():
    model = build("logistic")
    kernel = np.zeros((SIZE * SIZE * 3, 1), dtype=np.float32)
    kernel[:3, 0] = 1
    model.get_layer("log_odds").set_weights([kernel, np.zeros(1, dtype=np.float32)])
    pixels = np.zeros((1, SIZE, SIZE, 3), dtype=np.uint8)
    pixels[0, 0, 0] = (200, 60, 160)
    logit = (200 - 180) / 3000**0.5 + (60 - 120) / 4000**0.5 + (160 - 160) / 2500**0.5
    assert model.predict(pixels, verbose=0)[0, 0] == pytest.approx(
        1 / (1 + np.exp(-logit)), abs=1e-6
    )


def test_refuses_a_picture_that_pooling_halves_to_nothing():
    with pytest.raises(
        UserError,
        match=r"model.step conv5-dense1 halves the picture 5 times; pad.size 16 is too small",
    ):
        build("conv5-dense1", size=16)


def test_refuses_too_large_a_layer():
    with pytest.raises(
        UserError,
        match=r"would have a Dense layer of 16,777,216 x 8,192 weights; at most 500,000,000",
    ):
        build("conv1-dense1", size=4096, dense_units=8192, conv_filters=4)


@pytest.mark.parametrize(
    "step",
    [
        "",
        "conv",
        "conv3",
        "dense1",
        "conv3-dense1 ",
        "Conv3-Dense1",
        "conv10-dense1",
        "logistic\n",
        "VGG61",
    ],
)
def test_refuses_names_that_are_not_steps(step):
    with pytest.raises(
        ValueError,
        match="the steps are logistic, or convC-denseD with C from 0 to 5 and D from 0 to 4",
    ):
        parse_step(step)


def test_saved_model_predicts_the_same_and_has_the_same_bytes(tmp_path, monkeypatch):
    model = build("conv2-dense1", dropout=0.3)
    pixels, y = crops()
    model.compile("adam", "binary_crossentropy")
    model.fit(pixels, y, verbose=0)
    save_model(model, tmp_path / "a.keras")
    for year in (1904, 1975, 2033, 2108):  # A zip archive holds times from 1980 to 2107.
        monkeypatch.setattr("time.time", lambda year=year: (year - 1970) * 31_556_952.0)
        save_model(model, tmp_path / "b.keras")
        assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert b"adam" not in (tmp_path / "a.keras").read_bytes()
    loaded = load_model(tmp_path / "a.keras")
    assert (loaded.predict(pixels, verbose=0) == model.predict(pixels, verbose=0)).all()
    assert (
        keras.models.load_model(tmp_path / "a.keras").get_weights()[0] == model.get_weights()[0]
    ).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]


def test_refuses_a_model_file_with_code(tmp_path):
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs)).save(tmp_path / "code.keras")
    with pytest.raises(UserError, match="does not load as a Keras model"):
        load_model(tmp_path / "code.keras")


@pytest.mark.parametrize("kept", [0, 100, 2000])
def test_refuses_a_damaged_model_file(tmp_path, kept):
    save_model(build("logistic"), tmp_path / "a.keras")
    (tmp_path / "a.keras").write_bytes((tmp_path / "a.keras").read_bytes()[:kept])
    with pytest.raises(UserError, match=r"a\.keras does not load as a Keras model"):
        load_model(tmp_path / "a.keras")


def test_mean_over_orientations_of_each_member(tmp_path):
    """Worked out view by view and member by member, before and after saving."""
    keras.utils.set_random_seed(0)
    members = [build("conv1-dense1", size=8), build("conv1-dense1", size=8)]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    views = [
        np.rot90(some, turns, axes=(1, 2))
        for some in (pixels, pixels[:, :, ::-1])
        for turns in range(4)
    ]
    expected = np.mean(
        [
            np.hstack([member.predict_on_batch(np.ascontiguousarray(view)) for member in members])
            for view in views
        ],
        axis=0,
    )
    whole = mean_of_orientations(side_by_side(members, "conv1-dense1"))
    assert whole.name == "conv1-dense1"
    assert expected.shape == (3, 2)
    assert whole.predict_on_batch(pixels) == pytest.approx(expected, abs=1e-6)
    for name in ("a", "b"):
        save_model(whole, tmp_path / f"{name}.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert np.array_equal(
        load_model(tmp_path / "a.keras").predict_on_batch(pixels), whole.predict_on_batch(pixels)
    )
    assert side_by_side(members[:1], "x") is members[0]
