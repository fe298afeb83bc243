"""Pretrained backbones: reference outputs, weights from files, trainable blocks, and heads."""

import json
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from stages import calibrate, crops, features, pad, split, train
from stages.base.errors import UserError
from stages.base.parameters import read_params
from stages.dataset.cohort import FEATURES, IMAGES, open_features, open_squares, read_cohort
from stages.evaluation.attention import Attention
from stages.evaluation.classifier import Crops, read_card, read_classifier, read_network
from stages.evaluation.scoring import mean_of_views, score_crops, scoring_model
from stages.model.backbone import build_backbone, set_trainable
from stages.model.backend import keras
from stages.model.batches import predict
from stages.model.efficientnet_lite0 import efficientnet_lite0, read_torch_file
from stages.model.file import load_model, save_model
from stages.model.forward import orientations
from stages.model.steps import ModelParameters, backbone_names
from stages.training.fit import balanced_class_weight
from stages.training.head import fit_head, fit_neighbors
from stages.training.members import resume_key
from stages.training.parameters import TrainParameters
from tests.conftest import PROJECT, keep_outputs, list_crops, make_classes, save_crop
from tests.fork_server import python
from tests.model.eagerly import run
from tests.repositories import set_params


def test_packaged_backbone_matches_its_pytorch_reference():
    """The stored features are PyTorch's, of noise and of a gradient, both drawn again here."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.float32)
    slope = np.linspace(0, 255, 224, dtype=np.float32)
    across, down = slope[None, :], slope[:, None]
    pixels[1] = np.stack(np.broadcast_arrays(down, across, (down + across) / 2), axis=-1)
    expected = json.loads(Path(__file__).with_name("efficientnet_lite0.json").read_text())[
        "features"
    ]
    found = efficientnet_lite0(224).predict(pixels, verbose=0).mean((1, 2))
    assert found.shape == (2, 1280)
    assert np.abs(found - expected).max() < 1e-4


def test_reading_a_weights_file_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    file = tmp_path / "weights.pth"
    file.write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({}, 2)
        + pickle.dumps(Evil(), 2)
    )
    with pytest.raises(UserError, match="it asks for "):
        read_torch_file(file)
    assert not (tmp_path / "touched").exists()
    for content in (
        b"",
        b"PK\x03\x04",
        pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        pickle.dumps([1], 2),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match="is not a file of weights by torch.save"):
            read_torch_file(file)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "VGG16"])
def test_keras_backbone_goes_from_pixels_to_features(name, tmp_path):
    backbone = build_backbone(name, "none", 32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = run(backbone, pixels)
    assert found.dtype == np.float32 and found.ndim == 2 and np.isfinite(found).all()
    save_model(backbone, tmp_path / "backbone.keras")
    assert np.array_equal(run(load_model(tmp_path / "backbone.keras"), pixels), found)


def test_backbone_includes_the_preprocessing_of_keras():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    keras.utils.set_random_seed(0)
    backbone = build_backbone("VGG16", "none", 32)
    keras.utils.set_random_seed(0)
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    prepared = keras.applications.vgg16.preprocess_input(pixels.astype(np.float32))
    expected = run(network, prepared).mean((1, 2))
    assert run(backbone, pixels) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_lists_the_backbones_of_keras_and_loads_weights_from_a_file(workplace):
    assert {
        "VGG16",
        "VGG19",
        "ResNet50",
        "EfficientNetV2B0",
        "ConvNeXtTiny",
        "MobileNetV3Large",
    } <= set(backbone_names())
    network = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    Path("data/weights").mkdir()
    network.save_weights("data/weights/mine.weights.h5")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    loaded = build_backbone("MobileNetV3Small", "mine.weights.h5", 32)
    expected = run(network, pixels.astype(np.float32)).mean((1, 2))
    assert run(loaded, pixels) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    with pytest.raises(UserError, match="^MobileNetV3Small with weights nowhere.weights.h5: "):
        build_backbone("MobileNetV3Small", "nowhere.weights.h5", 32)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../mine.h5", "folder/mine.h5", "", "-x", "mine h5"]
)
def test_refuses_weights_outside_data_weights(workplace, name):
    set_params({"model.weights": name})
    with pytest.raises(
        UserError, match=r"it must be imagenet, none, or the name of a file of weights"
    ):
        read_params("model", ModelParameters)


def test_new_weights_under_an_old_name_change_the_resume_key(workplace):
    make_classes()
    set_params({"pad.size": 8, "split.folds": 3})
    for stage in (list_crops, split.main, pad.main, features.main):
        stage()
    set_params(
        {
            "model.step": "MobileNetV3Small",
            "model.trainable": "all",
            "model.weights": "mine.weights.h5",
        }
    )
    Path("data/weights").mkdir()
    keys = []
    for content in (b"one", b"two", b"one"):
        Path("data/weights/mine.weights.h5").write_bytes(content)
        keys.append(
            resume_key(
                read_params("train", TrainParameters), read_params("model", ModelParameters), 1
            )
        )
    assert keys[0] == keys[2] != keys[1]


def test_failed_download_names_the_file_to_bring():
    try:
        build_backbone("MobileNetV3Small", "imagenet", 224)
    except UserError as error:
        assert "bring the file weights_mobilenet_v3_small" in str(error) and "\n" not in str(error)
    else:
        pytest.skip("the weights are here, or can be downloaded")


def test_eight_different_orientations():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    views = np.stack([np.asarray(view) for view in orientations(pixels)])
    assert views.shape == (8, 2, 4, 4, 3) and np.array_equal(views[0], pixels)
    assert len({view[0].tobytes() for view in views}) == 8
    assert all(
        np.array_equal(np.sort(view, axis=None), np.sort(pixels, axis=None)) for view in views
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a small dataset, padded and with the features of a random backbone.

    VGG16 has few layers: its graphs are made fastest.
    """
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "data").mkdir()
    shutil.copy(PROJECT / "params.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_classes()
        set_params(
            {
                "pad.size": 32,
                "split.folds": 3,
                "train.epochs": 3,
                "model.step": "VGG16",
                "model.weights": "none",
            }
        )
        for stage in (list_crops, split.main, pad.main, features.main):
            stage()
    return folder


@pytest.fixture
def small(prepared, tmp_path, monkeypatch):
    """A copy of `prepared` to work in."""
    monkeypatch.chdir(shutil.copytree(prepared, tmp_path / "small"))


@pytest.mark.slow
def test_frozen_backbone_is_computed_once_and_saved_with_its_head(small):
    squares, found = open_squares(), open_features()
    assert found.shape[:2] == (len(squares), 8) and found.dtype == np.float32
    before = FEATURES.read_bytes()
    features.main()
    assert FEATURES.read_bytes() == before

    set_params({"train.seed": 7})
    train.main()
    rows, head = read_cohort().rows("val"), load_model("models/model.keras")
    assert head.input_shape == (None, 512) and Path("models/model.keras").stat().st_size < 50_000
    made = read_card(Path("models"))
    probability = predict(read_network(Path("models"), made), squares, rows)
    by_head = head.predict(np.array(found[rows, 0]), verbose=0)[:, 0]
    assert probability == pytest.approx(by_head, abs=1e-4)
    assert made.backbone.step == "VGG16" and made.backbone.package == f"keras=={keras.__version__}"


@pytest.mark.slow
def test_one_crop_added_removed_and_renamed(small, capsys, monkeypatch):
    set_params({"model.views": 1, "model.jittered_views": 1})

    def run():
        for stage in (crops, pad, features):
            stage.main()
        printed = re.findall(r"\((\d+) new\)", capsys.readouterr().out)
        outputs = [Path("data/crops.csv"), IMAGES, FEATURES, *sorted(Path("data").glob("*.npy"))]
        return printed, [output.read_bytes() for output in outputs]

    assert run()[0] == ["24", "24", "24"]
    keep_outputs(monkeypatch)
    assert run()[0] == ["0", "0", "0"]
    folder = Path("data/small")
    save_crop(folder / "GS/s0-9.png", seed=9)
    (folder / "GS/s3-0.png").unlink()
    (folder / "GS/s1-0.png").rename(folder / "GS/s5-9.png")
    printed, found = run()
    assert printed == ["1", "1", "1"]
    monkeypatch.setenv("GLOMERULI_COMPUTE_ALL", "1")
    assert run() == (["24", "24", "24"], found)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.slow
def test_saved_model_also_outputs_the_features_of_the_upright_square(small, views):
    if views == 2:
        of_eight = np.array(open_features())
        set_params({"model.views": views})
        features.main()
        assert np.array_equal(open_features(), of_eight[:, :2])
    set_params({"train.test_time_augmentation": views > 1})
    train.main()
    calibrate.main()
    classifier = read_classifier(Path("models"))
    squares, rows = open_squares(), np.arange(4)
    probability, found = scoring_model(classifier).start(squares[rows])()
    assert probability.shape == (4, views, 1) and found.shape == (4, views, 512)
    assert mean_of_views(probability)[:, 0] == pytest.approx(
        predict(classifier.model, squares, rows), abs=1e-5
    )
    assert found[:, 0] == pytest.approx(np.array(open_features()[rows, 0]), rel=1e-3, abs=1e-4)
    cohort = read_cohort()
    scores = score_crops(
        classifier,
        Crops([Path("data/small") / path for path in cohort.paths], classifier.made),
    )
    assert scores.novelty.shape == (len(cohort.paths),) and np.all(
        (scores.novelty >= 0) & (scores.novelty <= 1)
    )


@pytest.mark.slow
def test_refuses_another_backbone_in_one_line(small, tmp_path, monkeypatch):
    train.main()
    made, here = read_card(Path("models")), f"keras=={keras.__version__}"
    for change, said in [
        (
            {"package": "keras==2.0"},
            f"the model needs the package keras==2.0; installed is {keras.__version__}: "
            "pip install keras==2.0",
        ),
        (
            {"sha256": {"values of the weights": 64 * "1"}},
            f"{here}: values of the weights is not what the model was made with: its SHA-256 is "
            f"{made.backbone.sha256['values of the weights']}, not {64 * '1'}",
        ),
        (
            {"weights": "mine.weights.h5"},
            "data/weights/mine.weights.h5 does not exist; the model needs the weights "
            "mine.weights.h5: give them with --weights",
        ),
    ]:
        other = made.model_copy(update={"backbone": made.backbone.model_copy(update=change)})
        with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
            read_network(Path("models"), other)
    of_training = r"^VGG16 gives other features than when the model was trained: .* of the largest"
    for answer in (np.multiply(made.backbone.answer, 1.02), made.backbone.answer[1:]):
        card = made.backbone.model_copy(update={"answer": list(answer)})
        with pytest.raises(UserError, match=of_training):
            read_network(Path("models"), made.model_copy(update={"backbone": card}))
    rounded = made.backbone.model_copy(update={"answer": [0.999 * x for x in made.backbone.answer]})
    read_network(Path("models"), made.model_copy(update={"backbone": rounded}))
    with monkeypatch.context() as edited:
        # As an edit of `build_backbone` would: no preprocessing.
        edited.setattr("keras.src.applications.vgg16.preprocess_input", lambda x: x)
        with pytest.raises(UserError, match=of_training):
            read_network(Path("models"), made)
    monkeypatch.setattr("stages.model.backbone_card.PACKAGES", {"VGG16": "no-such-package"})
    with pytest.raises(UserError, match="the model needs the package keras==.*; installed is none"):
        read_network(Path("models"), made)
    with pytest.raises(UserError, match="the model in models needs no others; omit --weights"):
        read_network(Path("models"), made, tmp_path)


@pytest.mark.slow
def test_takes_a_file_of_weights_from_anywhere(small, tmp_path):
    train.main()
    made = read_card(Path("models"))
    model, file = read_network(Path("models"), made), tmp_path / "elsewhere.weights.h5"
    model.get_layer("vgg16").save_weights(file)
    own = made.backbone.model_copy(update={"weights": "mine.weights.h5"})
    found = read_network(Path("models"), made.model_copy(update={"backbone": own}), file)
    squares, rows = open_squares(), np.arange(4)
    assert np.array_equal(predict(found, squares, rows), predict(model, squares, rows))


@pytest.mark.slow
def test_frozen_ensemble_averages_its_heads_over_the_orientations(small):
    """These are the recommended settings for real crops."""
    set_params({"train.ensemble": True, "train.test_time_augmentation": True})
    train.main()
    heads, squares, found = load_model("models/model.keras"), open_squares(), open_features()
    model = read_network(Path("models"), read_card(Path("models")))
    rows = read_cohort().rows("test")
    views = np.array(found[rows]).reshape(-1, found.shape[-1])
    # A column per member.
    expected = heads.predict(views, verbose=0).reshape(len(rows), 8, -1).mean(axis=(1, 2))
    assert predict(model, squares, rows) == pytest.approx(expected, abs=1e-4)
    validated = Path("models/validation.csv").read_text().count("\n") - 1
    assert validated == np.sum(read_cohort().folds > 0)


def test_head_is_the_logistic_regression_of_scikit_learn(workplace):
    random = np.random.default_rng(0)
    y = (random.uniform(size=80) < 0.3).astype(int)
    found = (random.normal(size=(80, 8, 5)) + y[:, None, None] * [1, 0.5, 0, 0, 0]).astype(
        np.float32
    )
    params, train_rows, val = (
        read_params("train", TrainParameters),
        np.arange(60),
        np.arange(60, 80),
    )
    head, measures = fit_head(found, y, train_rows, val, params, 8)
    learned = found[:60].reshape(-1, 5)
    scaler = StandardScaler().fit(learned)
    # A crop counts once, however many views it has.
    weight = np.repeat(
        balanced_class_weight(y[:60])[0] * (y[:60] == 0)
        + balanced_class_weight(y[:60])[1] * y[:60],
        8,
    )
    expected = LogisticRegression(C=1 / params.head_penalty, max_iter=1000, tol=1e-8)
    expected.fit(scaler.transform(learned), np.repeat(y[:60], 8), sample_weight=weight / 8)
    said = head.predict_on_batch(found[60:, 0])[:, 0]
    assert said == pytest.approx(
        expected.predict_proba(scaler.transform(found[60:, 0]))[:, 1], abs=2e-3
    )
    assert measures["val"]["auc"] == pytest.approx(roc_auc_score(y[60:], said))
    assert measures["val"]["loss"] == pytest.approx(log_loss(y[60:], said), rel=1e-4)
    # Without orientations, the upright view and the jittered ones are used.
    still = params.model_copy(
        update={"augment": params.augment.model_copy(update={"orientations": False})}
    )
    alone, _ = fit_head(found, y, train_rows, val, still, 8)
    single, _ = fit_head(found[:, :1], y, train_rows, val, params, 1)
    assert np.array_equal(alone.predict_on_batch(found[:, 0]), single.predict_on_batch(found[:, 0]))
    jittered = np.concatenate([found, found[:, 3:5]], axis=1)
    with_both, _ = fit_head(jittered, y, train_rows, val, still, 8)
    of_three, _ = fit_head(jittered[:, [0, 8, 9]], y, train_rows, val, params, 1)
    assert np.array_equal(
        with_both.predict_on_batch(found[:, 0]), of_three.predict_on_batch(found[:, 0])
    )


def test_features_of_inner_layers_are_concatenated():
    keras.utils.set_random_seed(0)
    whole = build_backbone("MobileNetV3Small", "none", 32)
    keras.utils.set_random_seed(0)
    inner = build_backbone("MobileNetV3Small", "none", 32, ["expanded_conv_2_add", "activation_17"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found, last = run(inner, pixels), run(whole, pixels)
    assert found.shape[1] > last.shape[1]
    assert found[:, -last.shape[1] :] == pytest.approx(last, abs=1e-5)
    with pytest.raises(
        UserError,
        match=r"^params.yaml: model.feature_layers holds 'top', which MobileNetV3Small does not ",
    ):
        build_backbone("MobileNetV3Small", "none", 32, ["top"])


def test_features_of_the_center_ignore_the_rim():
    keras.utils.set_random_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    names = ["activation"]  # The first convolution, at half the size: a place sees three pixels.
    found = {}
    for center in (0.5, 1.0):
        keras.utils.set_random_seed(0)
        backbone = build_backbone("MobileNetV3Small", "none", 64, names, center)
        other = pixels.copy()
        other[:, :12] = 0
        found[center] = run(backbone, pixels), run(backbone, other)
    assert np.array_equal(*found[0.5]) and not np.array_equal(*found[1.0])


@pytest.mark.parametrize(
    ("name", "blocks", "free", "still"),
    [
        ("VGG16", 1, "block5_conv1", "block4_conv3"),
        ("ResNet50", 2, "conv5_block2_1_conv", "conv5_block1_3_conv"),
        ("MobileNetV3Small", 1, "expanded_conv_10_expand", "expanded_conv_9_project"),
        ("EfficientNetV2B0", 3, "block6f_expand_conv", "block6e_project_conv"),
    ],
)
def test_trains_the_last_blocks_without_their_batch_normalization(name, blocks, free, still):
    backbone = build_backbone(name, "none", 32)
    set_trainable(backbone, blocks)
    network = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    assert (
        network.get_layer(free).trainable and network.get_layer(network.layers[-1].name).trainable
    )
    assert not network.get_layer(still).trainable and not network.layers[2].trainable
    assert not any(
        layer.trainable
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    trained = {weight.path.split("/")[-2] for weight in backbone.trainable_weights}
    assert free in trained and still not in trained
    with pytest.raises(
        UserError,
        match=r"^params.yaml: model.trainable is 99, but .* has \d+ blocks; try frozen or all$",
    ):
        set_trainable(backbone, 99)


CLIENT = """
from stages import features
from stages.base.errors import run_program
from stages.workers import programs
from tests.workers.killing import killing_one

killed = []
programs.in_any_order, features.BLOCK = killing_one(killed), 1
run_program(features.main, "")
print(len(killed), "killed")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("environment_kept")
def test_a_cluster_whose_worker_comes_late_and_dies_computes_the_same_features(small, monkeypatch):
    before = FEATURES.read_bytes()
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    here = dict(os.environ)
    as_forks = [f"import sys; sys.executable = {python()!r}"]
    of = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "preload": as_forks}
    with LocalCluster(n_workers=0, **of) as some:
        environment = here | {"DASK_SCHEDULER_ADDRESS": some.scheduler_address}
        command = [python(), "-c", CLIENT]
        with subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True) as client:
            said = client.stderr.readline()
            some.scale(1)
            printed, errors = client.communicate()
    assert said == "warning: the cluster has no worker; waiting for one\n", said + errors
    assert printed.endswith("1 killed\n") and "(24 new)" in printed, errors
    assert FEATURES.read_bytes() == before
    assert not [*Path("data").glob("*.part")]
    # Workers with another processor would compute other bytes.
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", some.scheduler_address)
    monkeypatch.setenv("GLOMERULI_ARITHMETIC", "native")
    with pytest.raises(UserError, match="without a GPU only the portable arithmetic"):
        features.main()


@pytest.mark.slow
def test_jittered_views_are_added_to_the_orientations(small):
    set_params({"model.jittered_views": 2, "train.augment.stain": 0.3, "train.augment.scale": 0.3})
    before = np.array(open_features())
    features.main()
    found = open_features()
    assert found.shape == (before.shape[0], 10, before.shape[2])
    assert np.array_equal(found[:, :8], before)
    assert not np.array_equal(found[:, 8], found[:, 9])
    train.main()
    made = read_card(Path("models"))
    assert read_network(Path("models"), made).input_shape == (None, 32, 32, 3)


def test_neighbors_head_matches_scikit_learn(tmp_path):
    random = np.random.default_rng(0)
    y = (random.uniform(size=90) < 0.3).astype(int)
    found = (random.normal(size=(90, 8, 6)) + y[:, None, None] * [1, 0.5, 0, 0, 0, 0]).astype(
        np.float32
    )
    learned, val = np.arange(60), np.arange(60, 90)
    head, measures = fit_neighbors(found, y, learned, val)
    save_model(head, tmp_path / "head.keras")
    scaler = StandardScaler().fit(found[learned, 0])
    expected = KNeighborsClassifier(n_neighbors=20).fit(
        scaler.transform(found[learned, 0]), y[learned]
    )
    expected = expected.predict_proba(scaler.transform(found[val, 0]))[:, 1]
    for model in (head, load_model(tmp_path / "head.keras")):
        assert model.predict_on_batch(found[val, 0])[:, 0] == pytest.approx(expected, abs=1e-6)
    assert measures["val"]["auc"] == pytest.approx(roc_auc_score(y[val], expected))


@pytest.mark.slow
def test_model_with_a_neighbors_head_predicts_shares(small, monkeypatch):
    monkeypatch.setattr("stages.training.head.NEIGHBORS", 5)
    monkeypatch.setattr("stages.model.networks.NEIGHBORS", 5)
    set_params({"model.head": "knn", "train.ensemble": True, "train.test_time_augmentation": True})
    train.main()
    calibrate.main()
    cohort = read_cohort()
    classifier = read_classifier(Path("models"))
    scores = score_crops(
        classifier,
        Crops([Path("data/small") / path for path in cohort.paths], classifier.made),
    )
    said = {
        line.split(",")[0]: float(line.split(",")[3])
        for line in Path("models/validation.csv").read_text().splitlines()[1:]
    }
    assert not Attention(classifier.model)(np.array(open_squares()[:2])).any()
    # Two members, five neighbors, eight orientations.
    assert all(abs(80 * value - round(80 * value)) < 1e-3 for value in scores.probability)
    assert all(abs(40 * value - round(40 * value)) < 1e-3 for value in said.values())


def test_refuses_fewer_crops_than_neighbors(workplace):
    with pytest.raises(
        UserError, match="model.head is knn, which needs 20 training crops; there are 3"
    ):
        fit_neighbors(
            np.zeros((6, 8, 2), np.float32), np.array([0, 1] * 3), np.arange(3), np.arange(3, 6)
        )
