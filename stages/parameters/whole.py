"""The schema of params.yaml as a whole, which every stage checks before it begins.

It is imported by name (stages/base/parameters.py) and is a dependency of no stage. Its imports must
be light: each program waits for them.
"""

from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from stages.base.parameters import DatasetName, Parameters, check
from stages.images.parameters import PadParameters
from stages.intake.parameters import ManifestParameters, SplitParameters
from stages.ladder.parameters import ClimbParameters
from stages.measures.parameters import CalibrateParameters, EvaluateParameters
from stages.measures.pseudonyms import read_key
from stages.model.parameters import FeaturesParameters
from stages.model.steps import ModelParameters, is_backbone, parse_step
from stages.synthetic.parameters import DemoParameters
from stages.training.parameters import TrainParameters


class Whole(Parameters):
    """params.yaml: its blocks, and what must hold between them."""

    data: DatasetName
    demo: DemoParameters
    manifest: ManifestParameters
    split: SplitParameters
    pad: PadParameters
    model: ModelParameters
    features: FeaturesParameters
    train: TrainParameters
    calibrate: CalibrateParameters
    evaluate: EvaluateParameters
    external: list[DatasetName]
    climb: ClimbParameters

    @field_validator("data", mode="before")
    @classmethod
    def _one_name(cls, name: Any) -> Any:
        if isinstance(name, list):
            raise ValueError("it must be one name; `shards:` in its card joins several folders")
        return name

    @model_validator(mode="after")
    def _fit_together(self) -> "Whole":
        if self.split.test == "none" and not self.train.ensemble:
            raise ValueError(
                "split.test is 'none', so train.ensemble must be true: each member leaves one fold "
                "out, on which calibration, threshold and measures rest"
            )
        if self.model.views == 1 and self.train.test_time_augmentation:
            raise ValueError(
                "model.views is 1, so that there are no orientations to average: "
                "train.test_time_augmentation must be false, or model.views 2, 4 or 8"
            )
        if self.model.is_embeddings and self.train.test_time_augmentation:
            raise ValueError(
                f"train.test_time_augmentation is true; with model.step {self.model.step} it must "
                "be false, as each crop has one view"
            )
        blocks = 0 if is_backbone(self.model.step) else parse_step(self.model.step)[0]
        if self.model.pooling != "none" and self.pad.size < 2**blocks:
            halved = f"model.step {self.model.step} halves it {blocks} times"
            raise ValueError(
                f"pad.size is {self.pad.size}; {halved}, so it must be {2**blocks} or more"
            )
        if self.climb.validations > (most := self.split.others):
            given = f"climb.validations is {self.climb.validations}"
            raise ValueError(
                f"{given}; with split.folds {self.split.folds} it must be at most {most}"
            )
        if self.data in self.external:
            raise ValueError(
                f"external names {self.data!r}, the dataset that the model is trained on; "
                "it must name others"
            )
        if len(set(self.external)) < len(self.external):
            raise ValueError(f"external is {self.external}; it must name each dataset once")
        for name in self.external:
            if not Path("data", f"{name}.yaml").is_file():
                raise ValueError(f"external names {name!r}, but data/{name}.yaml does not exist")
        return self


def refuse_wrong(params: dict, path: str, note: str) -> None:
    """Raise `UserError` with a line for each value of params.yaml that is wrong.

    Args:
        note: appended to each line; empty if no stage runs. Such a program needs no key either.
    """
    whole = check(params, Whole, path, note=note)
    if note:
        read_key(whole.evaluate.pseudonyms)
