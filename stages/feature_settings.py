"""Note what the features of a frozen backbone depend on: -> data/feature_settings.json.

The stage `features` depends on this file instead of params.yaml, so that it runs again only for a
parameter that changes its result. Without a frozen backbone the file holds {}.

With `model.step: embeddings`, data/embeddings.npy holds the features that another tool computed,
in the order of the crops; otherwise it has no rows.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages.base.errors import run_program
from stages.base.files import read_table, replacing, write_json
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.cohort import EMBEDDINGS, MANIFEST, crops_of_manifest
from stages.intake.embeddings import find_embeddings, match_embeddings
from stages.model.parameters import AugmentParameters
from stages.model.steps import ModelParameters

SETTINGS = Path("data/feature_settings.json")
LEFT_OUT = (Path("metrics/no_consensus.csv"), Path("metrics/unreadable.csv"))


def main() -> None:
    params = read_params("model", ModelParameters)
    changes = read_params("train.augment", AugmentParameters)
    settings: dict[str, Any] = params.of_features(changes) if params.frozen else {}
    features = np.empty((0, 0), dtype=np.float32)
    if params.is_embeddings:
        dataset = read_dataset_name()
        file = find_embeddings(params.weights_file, dataset)
        (paths,) = read_table(MANIFEST, ["path"])
        left_out = [path for table in LEFT_OUT for path in read_table(table, ["path"])[0]]
        features = match_embeddings(file, paths, f"data/{dataset}", left_out=left_out)
        settings |= crops_of_manifest()
        print(f"{len(features)} crops, {features.shape[1]} features of each: {file}")
    with replacing(EMBEDDINGS, binary=True) as npy:
        np.save(npy, features)
    write_json(SETTINGS, settings)


if __name__ == "__main__":
    run_program(main, __doc__)
