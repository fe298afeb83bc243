"""Train an epoch as the notebooks do it, for each line of standard input.

    python -P benchmarks/notebook_generator.py CROPS

The network is conv3-dense1 of params.yaml, written with Keras only; the generator is Keras's own,
which augments image by image. Nothing of stages/ is used: which kernels TensorFlow takes is left to
the environment.
"""

import sys

import keras
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator


def network() -> keras.Model:
    layers = [keras.Input((128, 128, 3)), keras.layers.Rescaling(1 / 255)]
    for filters in (16, 32, 64):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
        ]
        layers += [keras.layers.ReLU(), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Flatten(), keras.layers.Dropout(0.2), keras.layers.Dense(64, "relu")]
    model = keras.Sequential([*layers, keras.layers.Dropout(0.2), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.AdamW(0.001), "binary_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    count = int(sys.argv[1])
    images = np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8)
    changes = {
        "rotation_range": 45,
        "width_shift_range": 0.05,
        "height_shift_range": 0.05,
        "brightness_range": (0.9, 1.1),
    }
    generator = ImageDataGenerator(
        horizontal_flip=True, vertical_flip=True, fill_mode="reflect", **changes
    )
    batches = generator.flow(images.astype(np.float32), np.arange(count) % 2, batch_size=32, seed=0)
    model = network()
    for _ in sys.stdin:
        model.fit(batches, epochs=1, verbose=0)
        print("done", flush=True)


if __name__ == "__main__":
    main()
