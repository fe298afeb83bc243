"""Encoders: features as timm and transformers compute them, invalid folders, whole trainings."""

import io
import json
import os
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

# To import it takes seconds, and only one worker runs these tests.
if not find_spec("keras_hub"):
    pytest.skip("requirements-encoders.txt is not installed", allow_module_level=True)

from safetensors.numpy import load_file, save_file

from stages import calibrate, features, pad, split, train
from stages.base.errors import UserError
from stages.base.parameters import read_params
from stages.dataset.cohort import open_features, open_squares, read_cohort
from stages.evaluation.attention import Attention
from stages.evaluation.classifier import Crops, read_classifier
from stages.evaluation.scoring import score_crops
from stages.model.backend import keras
from stages.model.batches import predict
from stages.model.encoder import build_encoder
from stages.model.file import load_model
from stages.model.forward import ON_CPU
from stages.model.steps import ModelParameters
from tests.conftest import PROJECT, list_crops, make_classes
from tests.fork_server import python
from tests.model.eagerly import run
from tests.model.encoders import STORED, square, write_folder
from tests.repositories import set_params

FAMILIES = json.loads(STORED.read_text())
# The real encoder is recognized by its width, which the tiny one does not have.
BY_HAND = {"midnight": "class_and_mean"}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_match_timm_and_transformers(tmp_path, name):
    stored = FAMILIES[name]
    folder, tokens = write_folder(stored, tmp_path), BY_HAND.get(name, "card")
    encoder = build_encoder(folder, stored["size"], tokens, "float32")
    assert encoder.trained is None
    found = run(encoder.frozen, square(stored["size"])[None])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], stored["features"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_resizes_squares_as_the_folder_says(tmp_path, name):
    stored = FAMILIES[name]
    folder, size = write_folder(stored, tmp_path), 2 * stored["size"] + 6
    encoder = build_encoder(folder, size, BY_HAND.get(name, "card"), "float32")
    found = run(encoder.frozen, square(size)[None])[0]
    # Pillow rounds between the two passes: some pixels differ by one of 255.
    np.testing.assert_allclose(found, stored["of_a_larger_square"], rtol=0, atol=0.03)
    assert np.corrcoef(found, stored["of_a_larger_square"])[0, 1] > 0.9999


@pytest.fixture
def folder(tmp_path):
    """The folder of a tiny Virchow2."""
    return write_folder(FAMILIES["virchow2"], tmp_path / "encoder")


def test_features_are_the_chosen_tokens_without_registers(folder):
    pixels, size = square(42)[None], 42
    both, first, mean = (
        run(build_encoder(folder, size, tokens, "float32").frozen, pixels)[0]
        for tokens in ("card", "class", "mean")
    )
    assert np.array_equal(both, np.concatenate([first, mean]))
    assert np.allclose(both, FAMILIES["virchow2"]["features"], atol=1e-5)


def computes_in_bfloat16():
    layer = keras.layers.Conv2D(8, 2, dtype="bfloat16")
    try:
        keras.Sequential([keras.Input((4, 4, 3)), layer]).predict_on_batch(np.zeros((1, 4, 4, 3)))
    except Exception:
        return False
    return True


def test_bfloat16_is_close_to_float32(folder):
    pixels = square(42)[None]
    if not computes_in_bfloat16():
        with pytest.raises(UserError, match="does not compute in bfloat16 here"):
            build_encoder(folder, 42, "card", "bfloat16")
        return
    full, half = (
        run(build_encoder(folder, 42, "card", kind).frozen, pixels)[0]
        for kind in ("float32", "bfloat16")
    )
    assert half.dtype == np.float32 and not np.array_equal(full, half)
    assert np.corrcoef(full, half)[0, 1] > 0.999


def test_phikon_keeps_its_own_epsilon(tmp_path):
    """keras-hub's converter ignores it, and its effect on the features is only about 1e-7."""
    frozen = build_encoder(write_folder(FAMILIES["phikon"], tmp_path), 48, "card", "float32").frozen
    assert [
        layer.epsilon
        for layer in frozen.layers
        if isinstance(layer, keras.layers.LayerNormalization)
    ] == [1e-12]


@pytest.mark.parametrize("trainable", [1, 2, "all"])
def test_frozen_and_trained_parts_make_the_whole_encoder(folder, trainable):
    frozen, trained = build_encoder(folder, 42, "card", "float32", trainable)
    found = run(trained, run(frozen, square(42)[None]))
    np.testing.assert_allclose(found[0], FAMILIES["virchow2"]["features"], rtol=0, atol=1e-5)
    assert len(frozen.weights) == {1: 24, 2: 6, "all": 0}[trainable]


def changed(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def in_model_args(file, **values):
    found = json.loads(file.read_text())
    changed(file, model_args=found["model_args"] | values)


def with_tensors(change):
    def edit(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


def as_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BAD_TIMM = {
    "a pickle": (as_pickle, "pytorch_model.bin, a pickle, which can run code"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "has no model.safetensors",
    ),
    "damaged weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99),
        "is damaged",
    ),
    "cut weights": (lambda folder: os.truncate(folder / "model.safetensors", 9000), "is damaged"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json cannot be read"),
    "a broken config": (
        lambda folder: (folder / "config.json").write_text("{"),
        "config.json cannot be read",
    ),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "config.json holds []"),
    "another architecture": (
        lambda folder: changed(folder / "config.json", architecture="resnet50"),
        "is 'resnet50'",
    ),
    "no kind": (lambda folder: (folder / "config.json").write_text("{}"), "model_type is None"),
    "no colors": (
        lambda folder: changed(folder / "config.json", pretrained_cfg={}),
        "pretrained_cfg.input_size is {}",
    ),
    "another pooling": (
        lambda folder: changed(folder / "config.json", global_pool="map"),
        "global_pool is 'map'",
    ),
    "another activation": (
        lambda folder: in_model_args(folder / "config.json", qk_norm=True),
        "qk_norm True, which is",
    ),
    "another depth": (
        lambda folder: in_model_args(folder / "config.json", depth=3),
        "depth 3, but the weights say 2",
    ),
    "other heads": (lambda folder: in_model_args(folder / "config.json", num_heads=5), "5 heads"),
    "another size": (
        lambda folder: changed(
            folder / "config.json",
            pretrained_cfg=json.loads((folder / "config.json").read_text())["pretrained_cfg"]
            | {"input_size": [3, 56, 56]},
        ),
        "input_size is 56, but the weights have 14 positions",
    ),
    "a tensor too many": (
        with_tensors(lambda tensors: tensors.update(extra=np.zeros(3, np.float32))),
        "is not used: extra",
    ),
    "a head": (
        with_tensors(
            lambda tensors: tensors.update({"head.weight": np.zeros((2, 32), np.float32)})
        ),
        "head.weight",
    ),
    "a tensor missing": (
        with_tensors(lambda tensors: tensors.pop("blocks.1.norm2.bias")),
        "lacks encoder.layer.1.norm2.bias",
    ),
    "a scale missing": (
        with_tensors(lambda tensors: tensors.pop("blocks.1.ls1.gamma")),
        "lacks encoder.layer.1.layer_scale1.lambda1",
    ),
    "another shape": (
        with_tensors(
            lambda tensors: tensors.update({"blocks.1.mlp.fc2.bias": np.zeros(31, np.float32)})
        ),
        "has the shape (31,), but",
    ),
}


@pytest.mark.parametrize("name", BAD_TIMM)
def test_refuses_an_invalid_timm_folder_in_one_line(folder, name):
    spoil, said = BAD_TIMM[name]
    spoil(folder)
    with pytest.raises(UserError) as error:
        build_encoder(folder, 42, "card", "float32")
    assert (
        said in str(error.value)
        and "\n" not in str(error.value)
        and str(folder) in str(error.value)
    )


BAD_TRANSFORMERS = {
    "no processor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "preprocessor_config.json cannot be read",
    ),
    "no mean": (
        lambda folder: changed(folder / "preprocessor_config.json", image_mean=None),
        "image_mean is None",
    ),
    "not normalized": (
        lambda folder: changed(folder / "preprocessor_config.json", do_normalize=False),
        "do_normalize is False",
    ),
    "another range": (
        lambda folder: changed(folder / "preprocessor_config.json", rescale_factor=1.0),
        "rescale_factor is 1.0",
    ),
    "another size": (
        lambda folder: changed(folder / "preprocessor_config.json", size={"height": 9}),
        "has a side of 9",
    ),
    "another epsilon": (
        lambda folder: changed(folder / "config.json", layer_norm_eps=1e-5),
        "layer_norm_eps is 1e-05",
    ),
    "another activation": (
        lambda folder: changed(folder / "config.json", hidden_act="relu"),
        "hidden_act is 'relu'",
    ),
    "other heads": (
        lambda folder: changed(folder / "config.json", num_attention_heads=5),
        "config.json",
    ),
    "another depth": (
        lambda folder: changed(folder / "config.json", num_hidden_layers=1),
        "is not used: encoder.layer.1",
    ),
    "a deeper one": (
        lambda folder: changed(folder / "config.json", num_hidden_layers=3),
        "lacks encoder.layer.2",
    ),
    "another kind": (
        lambda folder: changed(folder / "config.json", model_type="swin"),
        "model_type is 'swin'",
    ),
    "no width": (lambda folder: changed(folder / "config.json", hidden_size="many"), "hidden_size"),
}


@pytest.mark.parametrize("name", BAD_TRANSFORMERS)
def test_refuses_an_invalid_transformers_folder_in_one_line(tmp_path, name):
    spoil, said = BAD_TRANSFORMERS[name]
    folder = write_folder(FAMILIES["hibou"], tmp_path)
    spoil(folder)
    with pytest.raises(UserError) as error:
        build_encoder(folder, 42, "card", "float32")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_refuses_to_train_more_blocks_than_there_are(folder):
    with pytest.raises(UserError, match=r"model\.trainable is 3, but .*encoder has 2 blocks"):
        build_encoder(folder, 42, "card", "float32", 3)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"weights": "imagenet"}, "must be the name of a folder in data/weights/"),
        ({"feature_layers": ["a"]}, "feature_layers must be"),
        ({"precision": "bfloat16", "trainable": 1}, "is for a frozen encoder"),
        ({"step": "logistic", "precision": "tf32"}, "with logistic leave it float32"),
        ({"step": "efficientnet_lite0", "precision": "bfloat16"}, "must be float32 or tf32"),
        ({"step": "efficientnet_lite0", "tokens": "mean"}, "with efficientnet_lite0 leave it card"),
    ],
)
def test_refuses_contradictory_parameters(workplace, values, said):
    given = {"step": "encoder", "weights": "virchow2"} | values
    set_params({f"model.{name}": value for name, value in given.items()})
    with pytest.raises(UserError, match=said):
        read_params("model", ModelParameters)


@pytest.fixture
def small(workplace):
    """A small, padded dataset and an encoder."""
    make_classes()
    write_folder(FAMILIES["virchow2"], Path("data/weights/tiny"))
    set_params(
        {
            "pad.size": 42,
            "split.folds": 3,
            "train.epochs": 1,
            "model.step": "encoder",
            "model.weights": "tiny",
        }
    )
    for stage in (list_crops, split.main, pad.main):
        stage()


def run_from_features():
    for stage in (features, train, calibrate):
        stage.main()


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.slow
def test_saves_only_the_head_with_a_frozen_encoder(small, averaged):
    views = 2 if averaged else 1
    set_params(
        {
            "model.views": views,
            "train.ensemble": True,
            "train.test_time_augmentation": averaged,
        }
    )
    run_from_features()
    saved = load_model("models/model.keras")
    assert saved.input_shape == (None, 64) and saved.count_params() < 500
    classifier = read_classifier(Path("models"))
    rows, found = read_cohort().rows("test"), open_features()
    heads = saved.predict_on_batch(np.array(found[rows, :views]).reshape(-1, 64))
    # A column per member.
    expected = heads.reshape(len(rows), views, -1).mean(axis=(1, 2))
    assert predict(classifier.model, open_squares(), rows) == pytest.approx(expected, abs=1e-5)
    cohort = read_cohort()
    scores = score_crops(
        classifier,
        Crops([Path("data/small") / path for path in cohort.paths], classifier.made),
    )
    assert scores.novelty.shape == (len(cohort.paths),)
    looks = Attention(classifier.model)(np.array(open_squares()[:3]))
    assert looks.shape == (3, 42, 42) and looks.max() == 1


def test_refuses_another_encoder_and_takes_the_right_one_from_anywhere(small, tmp_path):
    run_from_features()
    Path("data/weights/tiny").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"data/weights/tiny does not exist.*--weights"):
        read_classifier(Path("models"))
    assert read_classifier(Path("models"), tmp_path / "elsewhere").model.input_shape == (
        None,
        42,
        42,
        3,
    )
    with_tensors(lambda tensors: tensors["norm.bias"].__iadd__(1))(tmp_path / "elsewhere")
    with pytest.raises(
        UserError,
        match=r"model.safetensors is not what the model was made with: its SHA-256",
    ):
        read_classifier(Path("models"), tmp_path / "elsewhere")


def test_refuses_encoder_weights_for_a_model_without_an_encoder(small):
    set_params({"model.step": "logistic", "model.weights": "imagenet"})
    run_from_features()
    with pytest.raises(UserError, match="omit --weights"):
        read_classifier(Path("models"), Path("data/weights/tiny"))


@pytest.mark.parametrize("trainable, ensemble", [(1, False), ("all", True)])
@pytest.mark.slow
def test_saves_only_the_trained_blocks_of_an_encoder(small, trainable, ensemble):
    set_params(
        {
            "model.trainable": trainable,
            "train.ensemble": ensemble,
            "train.test_time_augmentation": False,
        }
    )
    run_from_features()
    assert open_features().size == 0
    # Per member: blocks, the last normalization and the head; with all, the embedding as well.
    members = 2 if ensemble else 1
    assert len(load_model("models/model.keras").weights) == members * (
        {1: 18, "all": 6 + 2 * 18}[trainable] + 2 + 2
    )
    classifier = read_classifier(Path("models"))
    assert Attention(classifier.model)(np.array(open_squares()[:2])).shape == (2, 42, 42)
    cohort = read_cohort()
    said = {
        line.split(",")[0]: float(line.split(",")[3])
        for line in Path("models/validation.csv").read_text().splitlines()[1:]
    }
    assert len(said) == np.sum(cohort.folds > 0 if ensemble else cohort.splits == "val")
    if not ensemble:
        rows = cohort.rows("val")
        found = predict(classifier.model, open_squares(), rows)
        assert found == pytest.approx([said[path] for path in cohort.paths[rows]], abs=1e-5)


@pytest.mark.slow
def test_features_resume_after_a_kill(small, monkeypatch):
    """SIGKILL leaves no time to clean up."""
    script = (
        "import os, signal; from stages.workers import growing; from stages import features\n"
        "plain = growing.GrowingArray._write; growing.BETWEEN_SYNCS = 0\n"
        "def write(self, *rows):\n"
        "    plain(self, *rows); write.count += 1\n"
        "    if write.count == 1:\n"
        "        self.file.write(b'torn'); self.file.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "write.count = 0; growing.GrowingArray._write = write; features.main()"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    run = [python(), "-c", script]
    first = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not Path("data/features/features.npy").exists() and Path("data/features.part").exists()
    # After a second kill in a row there are two batches: those of the first run are reused.
    assert subprocess.run(run, env=environment, capture_output=True).returncode == -signal.SIGKILL
    keys = np.frombuffer(Path("data/features.keys.part").read_bytes(), np.uint8).reshape(-1, 32)
    assert keys.any(axis=1).sum() == 2 * ON_CPU[8]
    again = subprocess.run(
        [python(), "-c", script.replace("== 1", "== -1")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    found = Path("data/features/features.npy").read_bytes()
    assert not list(Path("data").glob("*.part"))
    features.main()
    assert Path("data/features/features.npy").read_bytes() == found
    # Rows of other parameters are not reused.
    assert subprocess.run(run, env=environment, capture_output=True).returncode == -signal.SIGKILL
    set_params({"model.tokens": "class"})
    features.main()
    assert open_features().shape[-1] == 32 and np.array_equal(
        open_features()[:, 0], np.load(io.BytesIO(found))[:, 0, :32]
    )


def test_ignores_other_files_in_a_downloaded_folder(small):
    (Path("data/weights/tiny/.cache/huggingface")).mkdir(parents=True)
    Path("data/weights/tiny/README.md").write_text("license")
    features.main()
    train.main()
    assert open_features().shape[-1] == 64 and load_model("models/model.keras").input_shape == (
        None,
        64,
    )
