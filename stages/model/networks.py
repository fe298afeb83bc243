"""The model of a rung of the ladder, or of a pretrained backbone: from pixels to the probability of
global sclerosis.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.base.errors import UserError
from stages.model.backend import keras
from stages.model.steps import ModelParameters, parse_step

MOST_WEIGHTS = 500_000_000
# As many as kidney-hfm-eval asks, with which encoders of kidney tissue were compared in print.
NEIGHBOURS = 20


def build_model(
    params: ModelParameters,
    size: int,
    mean: Sequence[float],
    variance: Sequence[float],
    dropout: float = 0.0,
) -> keras.Model:
    """Return the untrained model of a step, from pixels to the probability of global sclerosis.

    Normalisation is the first layer, so that a saved model takes raw pixels. Then C times: a 3 x 3
    convolution, batch normalization if asked for, ReLU, 2 x 2 pooling; the first has `conv_filters`
    filters, each further one twice as many. Then D times: dropout and a Dense layer of
    `dense_units` with ReLU. Then dropout and one sigmoid neuron. Dropout is never on the pixels
    themselves.

    Args:
        params: the step and its sizes.
        size: pixels a side of the input.
        mean, variance: of red, green and blue over the training images, in units of 0 to 255.
        dropout: the share of inputs that is dropped before each Dense layer in training, 0 <=
            dropout < 1.

    Returns:
        a model from uint8 (batch, size, size, 3) to float32 (batch, 1).

    Raises:
        UserError: more than 500 million weights, or more halvings by pooling than `size` has.
    """
    blocks, dense_layers = parse_step(params.step)
    if params.pooling != "none" and size >> blocks == 0:
        raise UserError(
            f"params.yaml: model.step {params.step} halves the picture {blocks} times; pad.size {size} is too small"
        )
    # All layers are named: Keras's own numbers go on counting within a process, and names are part
    # of a saved file's bytes.
    inputs = x = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    x = keras.layers.Normalization(mean=list(mean), variance=list(variance), name="normalization")(
        x
    )
    for block in range(1, blocks + 1):
        # Batch normalization has an offset of its own, which makes the convolution's redundant.
        x = keras.layers.Conv2D(
            filters=params.conv_filters * 2 ** (block - 1),
            kernel_size=3,
            padding="same",
            use_bias=not params.batch_norm,
            kernel_initializer=params.initializer,
            name=f"conv{block}",
        )(x)
        if params.batch_norm:
            x = keras.layers.BatchNormalization(name=f"conv{block}_batch_norm")(x)
        x = keras.layers.ReLU(name=f"conv{block}_relu")(x)
        if params.pooling != "none":
            pooling = (
                keras.layers.MaxPooling2D
                if params.pooling == "max"
                else keras.layers.AveragePooling2D
            )
            x = pooling(2, name=f"conv{block}_pooling")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    features = x.shape[1]
    if dense_layers and features * params.dense_units > MOST_WEIGHTS:
        raise UserError(
            f"params.yaml: model.step {params.step} would have a Dense layer of {features:,} x {params.dense_units:,} weights; "
            f"at most {MOST_WEIGHTS:,} are built; use pooling, a smaller pad.size or fewer dense_units"
        )
    for layer in range(1, dense_layers + 1):
        if dropout and blocks + layer > 1:
            x = keras.layers.Dropout(dropout, name=f"dense{layer}_dropout")(x)
        x = keras.layers.Dense(
            params.dense_units,
            activation="relu",
            kernel_initializer=params.initializer,
            name=f"dense{layer}",
        )(x)
    if dropout and blocks + dense_layers > 0:
        x = keras.layers.Dropout(dropout, name="probability_dropout")(x)
    log_odds = keras.layers.Dense(1, name="log_odds")(x)
    return keras.Model(inputs, _probability(log_odds), name=params.step)


def build_head(features: np.ndarray) -> keras.Model:
    """Return the untrained head of a backbone: from its features to the probability of global
    sclerosis.

    The features are normalized by their mean and variance over `features` (those for training),
    then comes one sigmoid neuron.

    Args:
        features: float32 (n, D).
    """
    inputs, x = _normalized(features)
    log_odds = keras.layers.Dense(1, kernel_initializer="zeros", name="log_odds")(x)
    return keras.Model(inputs, _probability(log_odds), name="head")


def build_neighbors_head(features: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Return the head that asks the nearest of the training crops: the share of the `NEIGHBOURS`
    that are globally sclerotic.

    Distances are Euclid's, between features that are normalized as by `build_head`.

    Args:
        features: float32 (n, D), one row for each crop; n is at least `NEIGHBOURS`.
        labels: int (n,) of 0 and 1.
    """
    inputs, x = _normalized(features)
    normalized = np.asarray(keras.Model(inputs, x)(features))
    # Half of |t|^2 - 2 x t, which orders the training crops as their distance to x does.
    nearness = keras.layers.Dense(len(features), name="nearness")
    _, nearest = keras.ops.top_k(nearness(x), k=NEIGHBOURS)
    nearness.set_weights([normalized.T, -(normalized**2).sum(axis=1) / 2])
    table = keras.layers.Embedding(len(features), 1, name="labels")
    share = keras.ops.mean(table(nearest), axis=1)
    table.set_weights([labels.astype(np.float32)[:, None]])
    return keras.Model(
        inputs, keras.layers.Activation("linear", name="probability")(share), name="head"
    )


def _normalized(features: np.ndarray) -> tuple[Any, Any]:
    inputs = keras.Input((features.shape[1],), name="backbone_features")
    # A feature that hardly varies tells nothing; without a floor it would be blown up by the
    # normalization.
    mean, variance = (
        features.mean(0, dtype=np.float64),
        np.maximum(features.var(0, dtype=np.float64), 1e-4),
    )
    return inputs, keras.layers.Normalization(mean=mean, variance=variance, name="normalization")(
        inputs
    )


def join(backbone: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """Return one model from pixels to the probability: `backbone`, then `head` or the mean of
    several.
    """
    probability = head(backbone.outputs[0])
    # Of a model that was saved and loaded, Keras gives a list.
    return keras.Model(
        backbone.inputs, probability[0] if isinstance(probability, list) else probability, name=name
    )


def join_to_train(backbone: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """Return what `join` does, in a form that `to_log_odds` takes, of one head by `build_head`."""
    return keras.Model(
        backbone.inputs, _probability(to_log_odds(head)(backbone.outputs[0])), name=name
    )


def _probability(log_odds: Any) -> Any:
    return keras.layers.Activation("sigmoid", name="probability")(log_odds)


def to_log_odds(model: keras.Model) -> keras.Model:
    """Return what `build_model`, `build_head` or `join_to_train` made, without its last step: to
    log-odds.

    It has the same weights. A loss is exact in log-odds; probabilities are 0 or 1 long before these
    end.
    """
    return keras.Model(model.inputs, model.get_layer("probability").input, name=model.name)


def mean_of(models: Sequence[keras.Model], name: str) -> keras.Model:
    """Return one model whose probability is the mean of those of `models`, which take the same; of
    one model, that model.
    """
    if len(models) == 1:
        return models[0]
    inputs = keras.Input(
        models[0].input_shape[1:], dtype=models[0].inputs[0].dtype, name=models[0].inputs[0].name
    )
    members = []
    for number, model in enumerate(models, start=1):
        model.name = f"member{number}"
        members.append(model(inputs))
    return keras.Model(inputs, keras.layers.Average(name="mean_of_members")(members), name=name)


def with_features(model: keras.Model) -> keras.Model:
    """Return a model by `join`, or the mean of its orientations, that gives beside the probability
    the features of the square as it is, float32 (batch, D).
    """
    names = {layer.name for layer in model.layers}
    one = model.get_layer("one_orientation") if "one_orientation" in names else model
    names = {layer.name for layer in one.layers}
    features = one.get_layer("averages" if "averages" in names else "average1").output
    upright = keras.Model(one.inputs, features, name="upright")
    return keras.Model(model.inputs, [model.outputs[0], upright(model.inputs[0])], name=model.name)


def mean_of_orientations(model: keras.Model) -> keras.Model:
    """Return one model whose probability is the mean of those that `model` gives to the eight
    orientations of a square.
    """
    inputs = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    # As floating point: TensorFlow's fast library does not turn bytes, and says so on the screen.
    square = keras.ops.cast(inputs, "float32")
    turned = [keras.ops.rot90(square, k=turns, axes=(1, 2)) for turns in (1, 2, 3)]
    views = [inputs]
    for view in (*turned, *(keras.ops.flip(one, axis=2) for one in (square, *turned))):
        views.append(keras.ops.cast(view, "uint8"))
    name, model.name = model.name, "one_orientation"
    return keras.Model(
        inputs,
        keras.layers.Average(name="mean_of_orientations")([model(view) for view in views]),
        name=name,
    )
