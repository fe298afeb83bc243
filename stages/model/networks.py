"""Build networks from pixels to the probability of global sclerosis: rungs, heads, ensembles."""

from collections.abc import Sequence
from typing import Any, assert_never, cast

import numpy as np

from stages.base.errors import UserError
from stages.model.backend import keras
from stages.model.forward import orientations
from stages.model.steps import ModelParameters, Views, parse_step

MOST_WEIGHTS = 500_000_000
# As in kidney-hfm-eval, the published comparison of encoders on kidney tissue.
NEIGHBORS = 20


def build_model(
    params: ModelParameters,
    size: int,
    mean: Sequence[float],
    variance: Sequence[float],
    dropout: float = 0.0,
) -> keras.Model:
    """Return the untrained model of a rung, from pixels to the probability of global sclerosis.

    Normalization is the first layer, so that a saved model takes raw pixels. C blocks follow: a
    3 x 3 convolution, optional batch normalization, ReLU and 2 x 2 pooling; the first has
    `conv_filters` filters, and the number doubles from block to block. Then D times dropout and a
    Dense layer of `dense_units` with ReLU, then dropout and one sigmoid neuron. There is never
    dropout on the pixels.

    Args:
        size: pixels per side of the input.
        mean, variance: of red, green and blue over the training images, in units of 0 to 255.
        dropout: the share of inputs dropped before each Dense layer in training, 0 <= dropout < 1.

    Returns:
        a model from uint8 (batch, size, size, 3) to float32 (batch, 1).

    Raises:
        UserError: it has more than 500 million weights, or pooling halves `size` to nothing.
    """
    blocks, dense_layers = parse_step(params.step)
    if params.pooling != "none" and size >> blocks == 0:
        raise UserError(
            f"params.yaml: model.step {params.step} halves the picture {blocks} times; "
            f"pad.size {size} is too small"
        )
    # All layers have names: Keras's own numbers go on counting within a process, and names are part
    # of a saved file's bytes.
    inputs = x = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    normalization = keras.layers.Normalization
    x = normalization(mean=list(mean), variance=list(variance), name="normalization")(x)
    for block in range(1, blocks + 1):
        # The offset of batch normalization makes the convolution's redundant.
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
        match params.pooling:
            case "max":
                x = keras.layers.MaxPooling2D(2, name=f"conv{block}_pooling")(x)
            case "average":
                x = keras.layers.AveragePooling2D(2, name=f"conv{block}_pooling")(x)
            case "none":
                pass
            case _:
                assert_never(params.pooling)
    x = keras.layers.Flatten(name="flatten")(x)
    features, units = x.shape[1], params.dense_units
    if dense_layers and features * units > MOST_WEIGHTS:
        raise UserError(
            f"params.yaml: model.step {params.step} would have a Dense layer of {features:,} x "
            f"{units:,} weights; at most {MOST_WEIGHTS:,} are built; use pooling, a smaller "
            "pad.size or fewer dense_units"
        )
    for layer in range(1, dense_layers + 1):
        if dropout and blocks + layer > 1:
            x = keras.layers.Dropout(dropout, name=f"dense{layer}_dropout")(x)
        x = keras.layers.Dense(
            units, activation="relu", kernel_initializer=params.initializer, name=f"dense{layer}"
        )(x)
    if dropout and blocks + dense_layers > 0:
        x = keras.layers.Dropout(dropout, name="probability_dropout")(x)
    log_odds = keras.layers.Dense(1, name="log_odds")(x)
    return keras.Model(inputs, _probability(log_odds), name=params.step)


def build_head(features: np.ndarray) -> keras.Model:
    """Return the untrained head of a backbone, from its features to the probability.

    The features are normalized by their mean and variance over `features`; one sigmoid neuron
    follows.

    Args:
        features: those of the training crops, float32 (n, D).
    """
    inputs, x = _normalized(features)
    log_odds = keras.layers.Dense(1, kernel_initializer="zeros", name="log_odds")(x)
    return keras.Model(inputs, _probability(log_odds), name="head")


def build_neighbors_head(features: np.ndarray, labels: np.ndarray) -> keras.Model:
    """Return a head that gives the share of sclerotic crops among the 20 nearest training crops.

    Distances are Euclidean, between features normalized as by `build_head`.

    Args:
        features: float32 (n, D), one row per crop; n is at least `NEIGHBORS`.
        labels: int (n,) of 0 and 1.
    """
    inputs, x = _normalized(features)
    normalized = np.asarray(keras.Model(inputs, x)(features))
    # x t - |t|^2 / 2 orders the training crops t by their distance to x.
    nearness = keras.layers.Dense(len(features), name="nearness")
    _, nearest = keras.ops.top_k(nearness(x), k=NEIGHBORS)
    nearness.set_weights([normalized.T, -(normalized**2).sum(axis=1) / 2])
    table = keras.layers.Embedding(len(features), 1, name="labels")
    share = keras.ops.mean(table(nearest), axis=1)
    table.set_weights([labels.astype(np.float32)[:, None]])
    probability = keras.layers.Activation("linear", name="probability")(share)
    return keras.Model(inputs, probability, name="head")


def _normalized(features: np.ndarray) -> tuple[Any, Any]:
    inputs = keras.Input((features.shape[1],), name="backbone_features")
    mean = features.mean(0, dtype=np.float64)
    # A feature that hardly varies is uninformative; the floor keeps it from being inflated.
    variance = np.maximum(features.var(0, dtype=np.float64), 1e-4)
    layer = keras.layers.Normalization(mean=mean, variance=variance, name="normalization")
    return inputs, layer(inputs)


def join(backbone: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """Return one model: `backbone`, then `head`, which may be several heads side by side."""
    probability = head(backbone.outputs[0])
    # A model that was saved and loaded returns a list.
    output = probability[0] if isinstance(probability, list) else probability
    return keras.Model(backbone.inputs, output, name=name)


def join_to_train(backbone: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """Join like `join`, in a form that `to_log_odds` takes; `head` is one of `build_head`."""
    log_odds = to_log_odds(head)(backbone.outputs[0])
    return keras.Model(backbone.inputs, _probability(log_odds), name=name)


def _probability(log_odds: Any) -> Any:
    return keras.layers.Activation("sigmoid", name="probability")(log_odds)


def to_log_odds(model: keras.Model) -> keras.Model:
    """Return a model of `build_model`, `build_head` or `join_to_train` up to its log-odds.

    The weights are shared. A loss is exact in log-odds; probabilities reach 0 or 1 much earlier.
    """
    return keras.Model(model.inputs, model.get_layer("probability").input, name=model.name)


def side_by_side(models: Sequence[keras.Model], name: str) -> keras.Model:
    """Return one model with a column of probabilities for each of `models`; one model as it is.

    Their mean is taken after each is calibrated (stages/measures/calibration.py).
    """
    if len(models) == 1:
        return models[0]
    first = models[0].inputs[0]
    inputs = keras.Input(models[0].input_shape[1:], dtype=first.dtype, name=first.name)
    members = []
    for number, model in enumerate(models, start=1):
        model.name = f"member{number}"
        members.append(model(inputs))
    return keras.Model(inputs, keras.layers.Concatenate(name="members")(members), name=name)


def one_orientation(model: keras.Model) -> tuple[keras.Model, Views]:
    """Return the model that is averaged over orientations, and over how many of them.

    A model that is not averaged is returned as it is, with 1.
    """
    names = {layer.name for layer in model.layers}
    if "one_orientation" not in names:
        return model, 1
    views = len(model.get_layer("mean_of_orientations").input)
    return model.get_layer("one_orientation"), cast(Views, views)


def with_features(model: keras.Model) -> keras.Model:
    """Return a model that also outputs the features, float32 (batch, D).

    Args:
        model: one of `join`, or a head, which takes them.
    """
    names = {layer.name for layer in model.layers}
    last = next((name for name in ("averages", "average1") if name in names), None)
    features = model.get_layer(last).output if last else model.inputs[0]
    return keras.Model(model.inputs, [model.outputs[0], features], name=model.name)


def mean_of_orientations(model: keras.Model, views: Views = 8) -> keras.Model:
    """Return one model whose probabilities are the mean over `orientations` of a square."""
    inputs = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    name, model.name = model.name, "one_orientation"
    outputs = [model(view) for view in orientations(inputs, views)]
    mean = keras.layers.Average(name="mean_of_orientations")(outputs)
    return keras.Model(inputs, mean, name=name)
