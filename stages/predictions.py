"""Tables of predicted probabilities, and where the results of validation stand."""

from pathlib import Path

from pydantic import BaseModel

from stages.base.files import read_json_as
from stages.calibration import Calibration

THRESHOLD = Path("models/threshold.json")


class Decision(BaseModel):
    """How a model's probability becomes a call: what prediction needs of models/threshold.json.

    The probability is calibrated first. Then it is called positive from `threshold` on, and `uncertain` between the bounds
    of the band.
    """

    class Band(BaseModel):
        low: float
        high: float

    threshold: float
    uncertain: Band
    calibration: Calibration


def read_decision(path: Path = THRESHOLD) -> Decision:
    """Return what the stage `threshold` decided. Raises `UserError` if the file is missing or damaged."""
    return read_json_as(path, Decision)
