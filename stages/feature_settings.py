"""Note what the features of a frozen backbone depend on: -> data/feature_settings.json.

The stage `features` depends on this file instead of params.yaml, so that it runs again only for a
parameter that changes its result. Without a frozen backbone the file holds {}.
"""

from pathlib import Path

from stages.base.errors import run_program
from stages.base.files import write_json
from stages.base.parameters import read_params
from stages.model.parameters import AugmentParameters
from stages.model.steps import ModelParameters

SETTINGS = Path("data/feature_settings.json")


def main() -> None:
    params = read_params("model", ModelParameters)
    changes = read_params("train.augment", AugmentParameters)
    write_json(SETTINGS, params.of_features(changes) if params.frozen else {})


if __name__ == "__main__":
    run_program(main, __doc__)
