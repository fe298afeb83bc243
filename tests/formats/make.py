"""Write the small model folders of the current format: python -m tests.formats.make

Needed once for each FORMAT_VERSION; the folders of a version are then never written again.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import glomeruli
from stages import calibrate, features, pad, split, train
from stages.base.files import write_json
from stages.model.folder import FORMAT_VERSION
from tests.conftest import list_crops
from tests.drawn import drawn_crops
from tests.repositories import PROJECT, set_params

PLACE = Path(__file__).parent / str(FORMAT_VERSION)
SLIDES, SIZE = 9, 32
SMALL = {
    "data": "drawn",
    "external": [],
    "split.folds": 3,
    "pad.size": 16,
    "train.epochs": 40,
    "train.learning_rate": 0.01,
    "model.conv_filters": 4,
    "model.dense_units": 4,
    "calibrate.method": "sigmoid",
}
KINDS: dict[str, dict[str, object]] = {
    "conv": {"model.step": "conv1-dense1", "calibrate.method": "none"},
    "frozen": {
        "model.step": "efficientnet_lite0",
        "model.feature_layers": ["block2_add"],
        "pad.size": 32,
        "train.test_time_augmentation": True,
    },
    "ensemble": {"model.step": "logistic", "split.test": "none", "train.ensemble": True},
}


def main() -> None:
    crops, labels = drawn_crops(8 * SLIDES + 4, SIZE)
    PLACE.mkdir()
    np.savez_compressed(PLACE / "crops.npz", crops=crops[-4:])
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        for row, (crop, label) in enumerate(zip(crops[:-4], labels)):
            folder = Path("data/drawn", "GS" if label else "nonGS")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(crop).save(folder / f"s{row % SLIDES}-{row}.png")
        Path("data/drawn.yaml").write_text(
            "title: Drawn crops, for tests\nclasses: [nonGS, GS]\n"
            "group: '(?P<slide>s\\d+)-\\d+\\.png$'\nsource: drawn\nlicense: none\n"
        )
        for kind, changes in KINDS.items():
            shutil.copy(PROJECT / "params.yaml", ".")
            set_params(SMALL | changes)
            list_crops()
            for stage in (split, pad, features, train, calibrate):
                stage.main()
            shutil.move("models", PLACE / kind)
            predictions = glomeruli.load(PLACE / kind).predict(list(crops[-4:]))
            write_json(PLACE / f"{kind}.json", [one._asdict() for one in predictions])


if __name__ == "__main__":
    main()
