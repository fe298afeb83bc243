"""TensorFlow runs no operation that rounds differently on other processors; results are right."""

import subprocess
import sys

import numpy as np
import pytest

from stages.base.arithmetic import choice
from stages.evaluation.attention import Attention
from stages.model.backbone import build_backbone, set_trainable
from stages.model.backend import keras, make_deterministic
from stages.model.batches import predict
from stages.model.file import save_model
from stages.model.networks import (
    build_head,
    build_model,
    join_to_train,
    mean_of_orientations,
    side_by_side,
)
from stages.model.operations import LONGEST_SUM, longest_divisor
from stages.training.fit import Record, fit
from tests.drawn import model_parameters, train_parameters

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow" or choice() == "native",
        reason="needs TensorFlow with portable arithmetic",
    ),
]

DIFFER = {"Rsqrt", "RsqrtGrad", "Reciprocal", "ReciprocalGrad", "Inv", "InvGrad"}


def noise(number, size):
    return np.random.default_rng(0).integers(0, 256, (number, size, size, 3), dtype=np.uint8)


@pytest.fixture
def operations(monkeypatch):
    """Return the operations of all optimized graphs that ran so far, when called."""
    from tensorflow.python.eager import context

    context.context().enable_run_metadata()

    def found():
        names = set()
        for run in context.context().export_run_metadata().function_graphs:
            for graph in (run.post_optimization_graph, *run.partition_graphs):
                names |= {node.op for node in graph.node}
                names |= {
                    node.op for function in graph.library.function for node in function.node_def
                }
        return names

    yield found
    context.context().disable_run_metadata()


@pytest.mark.parametrize(
    "changes",
    [{}, {"step": "conv1-dense1", "batch_norm": False, "pooling": "average"}, {"step": "logistic"}],
    ids=str,
)
def test_training_and_prediction_run_no_operation_that_differs(operations, changes):
    make_deterministic(0)
    squares, y = noise(6, 64), np.arange(6) % 2
    model = build_model(model_parameters(**changes), 64, [180.0] * 3, [900.0] * 3, dropout=0.2)
    fit(
        model,
        squares,
        y,
        np.arange(4),
        np.arange(6),
        train_parameters(batch_size=2),
        Record(log=None),
    )
    predict(mean_of_orientations(side_by_side([model], "one")), squares, np.arange(6))
    Attention(model)(squares)
    found = operations()
    assert {"Softplus", "Sqrt", "Sigmoid"} <= found or changes
    assert {
        "Conv2D",
        "_MklNativeConv2D",
        "_FusedConv2D",
        "MatMul",
        "_MklMatMul",
        "BatchMatMulV2",
        "_MklBatchMatMulV2",
    } & found
    assert not DIFFER & found


def test_a_trained_backbone_runs_no_operation_that_differs(operations):
    make_deterministic(0)
    squares, y = noise(4, 32), np.arange(4) % 2
    backbone = build_backbone("efficientnet_lite0", "none", 32, ("head_relu",))
    set_trainable(backbone, 2)
    head = build_head(np.asarray(backbone.predict_on_batch(squares)))
    model = join_to_train(backbone, head, "tuned")
    fit(
        model,
        squares,
        y,
        np.arange(4),
        np.arange(4),
        train_parameters(batch_size=2),
        Record(log=None),
    )
    predict(model, squares, np.arange(4))
    Attention(model)(squares)
    found = operations()
    assert "DepthwiseConv2dNative" in found or "_MklNativeDepthwiseConv2dNative" in found
    assert not DIFFER & found
    # Training leaves the statistics of batch normalization as they are: here, the initial zeros.
    moving = [weight for weight in model.weights if "moving_mean" in weight.path]
    assert moving and not any(np.any(weight.numpy()) for weight in moving)


def test_graph_optimizer_keeps_divisions():
    import tensorflow as tf

    options = tf.config.optimizer.get_experimental_options()
    assert options["arithmetic_optimization"] is False and options["constant_folding"] is False


@pytest.mark.parametrize(
    ("terms", "expected"),
    [(1, 1), (1024, 1024), (1025, 205), (16384, 1024), (7744, 968), (49152, 1024)],
)
def test_length_of_the_blocks_of_a_long_sum(terms, expected):
    assert longest_divisor(terms) == expected <= LONGEST_SUM and terms % expected == 0


@pytest.mark.parametrize("terms", [3, 1024, 1280, 1031, 3 * 67 * 67])
def test_blockwise_product_is_the_matrix_product(terms):
    """Even for a prime number of terms, whose blocks are single terms."""
    random = np.random.default_rng(0)
    rows, columns = (
        random.normal(size=(5, terms)).astype(np.float32),
        random.normal(size=(terms, 4)).astype(np.float32),
    )
    expected = rows.astype(np.float64) @ columns
    np.testing.assert_allclose(keras.ops.matmul(rows, columns), expected, atol=1e-4 * terms**0.5)
    layer = keras.layers.Dense(4, use_bias=False)
    layer.build((None, terms))
    layer.set_weights([columns])
    np.testing.assert_allclose(layer(rows), expected, atol=1e-4 * terms**0.5)
    # Integers and more than two dimensions use Keras's own product.
    assert (
        keras.ops.matmul(np.ones((2, 2000), np.int32), np.ones((2000, 3), np.int32))
        .numpy()
        .tolist()
        == [[2000] * 3] * 2
    )
    assert keras.ops.matmul(np.ones((2, 2, terms), np.float32), columns).shape == (2, 2, 4)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("scaled", [True, False])
def test_batch_normalization_follows_its_formula(axis, scaled):
    random = np.random.default_rng(1)
    x = random.normal(3, 2, (4, 6, 6, 6)).astype(np.float32)
    mean, variance, gamma, beta = (random.uniform(0.5, 2, 6).astype(np.float32) for _ in range(4))
    layer = keras.layers.BatchNormalization(axis=axis, scale=scaled, center=scaled, epsilon=1e-3)
    layer.build(x.shape)
    layer.set_weights([*([gamma, beta] if scaled else []), mean, variance])
    shape = (1, 1, 1, 6) if axis == -1 else (1, 6, 1, 1)
    mean, variance, gamma, beta = (one.reshape(shape) for one in (mean, variance, gamma, beta))
    expected = (x - mean) / np.sqrt(variance + 1e-3)
    expected = expected * gamma + beta if scaled else expected
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_model_file_is_plain_keras(tmp_path):
    """Loaded without this project, it gives the same probabilities except for rounding."""
    make_deterministic(0)
    squares = noise(2, 48)
    model = build_model(model_parameters(), 48, [180.0] * 3, [900.0] * 3)
    save_model(model, tmp_path / "model.keras")
    np.save(tmp_path / "squares.npy", squares)
    code = (
        "import keras, numpy, sys; folder = sys.argv[1];"
        "model = keras.models.load_model(folder + '/model.keras');"
        "print(*model.predict(numpy.load(folder + '/squares.npy'), verbose=0).ravel())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    np.testing.assert_allclose(
        np.array(done.stdout.split(), float), predict(model, squares, np.arange(2)), rtol=1e-4
    )
