"""One compiled function for all batches; batches in flight; what fits the memory of a GPU."""

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.model import forward
from stages.model.backend import keras, make_deterministic
from stages.model.forward import Forward, in_flight
from tests.model.test_networks import build

SQUARES = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), dtype=np.uint8)


class Counted(keras.layers.Layer):
    """Counts how often Python runs it: a compiled function runs no Python."""

    count = 0

    def call(self, x):
        Counted.count += 1
        return x


def run(one, squares):
    batches = (squares[start : start + one.batch] for start in range(0, len(squares), one.batch))
    found = list(in_flight(map(one.start, batches)))
    return [np.concatenate(outputs) for outputs in zip(*found)]


@pytest.mark.parametrize("views", [1, 2, 8])
def test_is_compiled_once_for_all_batches_also_the_last(views):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    outputs = keras.layers.Flatten()(Counted()(inputs))
    one = Forward(keras.Model(inputs, outputs), views, 4)
    one.start(SQUARES[:4])()
    before = Counted.count
    (found,) = run(one, SQUARES)
    assert found.shape == (11, views, 192) and Counted.count == before
    assert np.array_equal(found[:, 0], SQUARES.reshape(11, -1))


def test_features_do_not_depend_on_the_size_of_batches():
    make_deterministic(0)
    network = build("conv2-dense1", size=8)
    maps = network.get_layer("conv2_pooling").output
    model = keras.Model(network.inputs, keras.layers.GlobalAveragePooling2D()(maps))
    (expected,) = run(Forward(model, 8, 1), SQUARES)
    for batch in (2, 3, 11, 16):
        assert np.array_equal(run(Forward(model, 8, batch), SQUARES)[0], expected)
    turned = [np.rot90(SQUARES, quarter, axes=(1, 2)) for quarter in range(4)]
    views = [*turned, *(one[:, :, ::-1] for one in turned)]
    by_hand = [model.predict_on_batch(np.ascontiguousarray(view)) for view in views]
    assert expected == pytest.approx(np.stack(by_hand, axis=1), abs=1e-6)
    for fewer in (1, 2, 4):
        assert np.array_equal(run(Forward(model, fewer), SQUARES)[0], expected[:, :fewer])


@pytest.mark.parametrize("accelerated, most", [(False, 1), (True, forward.IN_FLIGHT + 1)])
def test_a_gpu_always_has_the_next_batches(monkeypatch, accelerated, most):
    monkeypatch.setattr(forward, "has_accelerator", lambda: accelerated)
    started, fetched, waiting = [], [], []

    def start(number):
        started.append(number)
        return lambda: fetched.append(number) or number

    for _ in in_flight(map(start, range(7))):
        waiting.append(len(started) - len(fetched) + 1)
    assert fetched == started == list(range(7)) and max(waiting) == most


def test_halves_batches_that_do_not_fit_the_memory_of_a_gpu(monkeypatch):
    def compiled(model, prepare):
        def function(pixels):
            if len(pixels) > 10:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
            return [pixels.reshape(len(pixels), -1)]

        return function

    monkeypatch.setattr(forward, "has_accelerator", lambda: True)
    monkeypatch.setattr(forward, "compiled", compiled)
    model = build("conv1-dense1", size=8)
    assert Forward(model).batch == 8
    with pytest.raises(UserError, match="too small for batches of 16"):
        Forward(model, batch=16)
