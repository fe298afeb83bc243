"""Note what the features of a frozen backbone depend on: -> data/feature_settings.json.

The stage `features` depends on this file instead of params.yaml, so that it runs again only for a
parameter that changes its result. Without a frozen backbone the file holds {}.

With `model.step: embeddings`, data/embeddings.npy holds the features that another tool computed,
for each crop that opens, in the order of data/crops.csv; otherwise it has no rows. Crops that the
manifest leaves out need no features, and have none here (NaN).
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages.base.errors import run_program
from stages.base.files import read_table, replacing, write_json
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.cohort import EMBEDDINGS, MANIFEST
from stages.dataset.crops import crops_digest, read_crops
from stages.intake.embeddings import find_embeddings, match_embeddings
from stages.model.parameters import AugmentParameters
from stages.model.steps import ModelParameters

SETTINGS = Path("data/feature_settings.json")


def main() -> None:
    params = read_params("model", ModelParameters)
    changes = read_params("train.augment", AugmentParameters)
    settings: dict[str, Any] = params.of_features(changes) if params.frozen else {}
    features = np.empty((0, 0), dtype=np.float32)
    if params.is_embeddings:
        dataset = read_dataset_name()
        file = find_embeddings(params.weights_file, dataset)
        (listed,), crops = read_table(MANIFEST, ["path"]), read_crops()
        left_out = [crop.path for crop in crops]
        found = match_embeddings(file, listed, f"data/{dataset}", left_out=left_out)
        opened = [crop for crop in crops if not crop.problem]
        row_of = {crop.path: row for row, crop in enumerate(opened)}
        features = np.full((len(opened), found.shape[1]), np.nan, dtype=np.float32)
        features[[row_of[path] for path in listed]] = found
        settings["crops_sha256"] = crops_digest(
            [crop.path for crop in opened], [crop.pixels_sha256 for crop in opened]
        )
        print(f"{len(found)} crops, {found.shape[1]} features of each: {file}")
    with replacing(EMBEDDINGS, binary=True) as npy:
        np.save(npy, features)
    write_json(SETTINGS, settings)


if __name__ == "__main__":
    run_program(main, __doc__)
