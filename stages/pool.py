"""Combine the results of several hospitals, which keep their crops.

    python -m stages.pool a.measures.json b.measures.json c.measures.json

Each hospital runs `python -m stages.external NAME --model MODEL` and sends
metrics/external/NAME.measures.json, which names no file, slide or patient. This writes pooled.json
and forest.png into --output: the means of all hospitals by fixed and by random effects, and the
intervals in which those of a further hospital are expected. It needs the packages of
requirements-pool.txt.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, astuple
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from stages.base.arguments import add_output, argument_parser
from stages.base.errors import UserError, refuse, run_program, warn
from stages.base.files import Sha256, read_record, refuse_outputs, write_json
from stages.comparison.forest import Line, draw_forest

if TYPE_CHECKING:
    from stages.measures.pooling import Interval, Pooled

SUFFIX = ".measures.json"
SHARES = {"roc_auc": "ROC AUC", "sensitivity": "sensitivity", "specificity": "specificity"}
TITLES = SHARES | {"intercept": "calibration intercept", "slope": "calibration slope"}
# Fewer hospitals tell little about how hospitals differ.
FEW = 5
SCHEMA = ConfigDict(frozen=True, allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, le=1)]


class Limits(BaseModel):
    """The interval of a share, and how many independent crops would give it."""

    model_config = SCHEMA

    low: Share
    high: Share
    effective_crops: Annotated[float, Field(gt=0)]


class Intervals(BaseModel):
    """The intervals of what is combined; those of other measures can be wider than a share."""

    roc_auc: Limits | None = None
    sensitivity: Limits | None = None
    specificity: Limits | None = None


class Coefficient(BaseModel):
    """The intercept or the slope of the calibration."""

    model_config = SCHEMA

    value: float | None
    low: float | None
    high: float | None


class Results(BaseModel):
    """What a hospital measured, as far as it is combined."""

    model_config = SCHEMA

    calibration_sha256: Sha256
    images: int
    positives: int
    roc_auc: Share | None
    sensitivity: Share | None
    specificity: Share | None
    interval_95: Intervals
    calibration_line: dict[str, Coefficient] = {}

    def of(self, measure: str) -> "Measured | None":
        """Return a measure with its interval; None if it has none."""
        if measure in SHARES:
            value, limits = getattr(self, measure), getattr(self.interval_95, measure)
            if value is None or limits is None:
                return None
            return Measured(value, limits.low, limits.high, limits.effective_crops)
        one = self.calibration_line.get(measure)
        if one is None or one.value is None or one.low is None or one.high is None:
            return None
        return Measured(one.value, one.low, one.high, None)


class Measured(NamedTuple):
    """A measure of one hospital with its interval.

    Attributes:
        crops: of a share, how many independent crops would give the interval.
    """

    value: float
    low: float
    high: float
    crops: float | None


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="NAME.measures.json of each hospital")
    add_output(parser, "pooled")
    arguments = parser.parse_args()
    if not find_spec("statsmodels"):
        raise UserError("statsmodels is not installed; pip install -r requirements-pool.txt")
    # It imports statsmodels, which only users who combine hospitals install.
    from stages.measures.pooling import of_interval, of_shares, pool

    table, picture = arguments.output / "pooled.json", arguments.output / "forest.png"
    refuse_outputs({str(path): path for path in (table, picture)}, arguments.files)
    hospitals = read_hospitals(arguments.files)
    measures: dict[str, dict] = {}
    plots: dict[str, list[Line]] = {}
    for measure, title in TITLES.items():
        known = {name: one for name, results in hospitals.items() if (one := results.of(measure))}
        without = [name for name in hospitals if name not in known]
        warn(f"{title} has no interval, and is not combined, of", without)
        if len(known) < 2:
            continue
        values, lows, highs, crops = zip(*known.values())
        if measure in SHARES:
            pooled = pool(of_shares(values, crops), as_shares=True)
        else:
            pooled = pool([*map(of_interval, values, lows, highs)], as_shares=False)
        measures[measure] = {"without": without, **asdict(pooled)}
        plots[title] = [Line(name, "hospital", *one[:3]) for name, one in known.items()]
        plots[title] += lines(pooled)
        print(sentence(title, pooled))
    if not measures:
        raise UserError("no measure has an interval at two hospitals; nothing can be combined")
    if len(hospitals) < FEW:
        warn(f"{len(hospitals)} hospitals tell little about how hospitals differ")
    content = {
        "calibration_sha256": next(iter(hospitals.values())).calibration_sha256,
        "hospitals": {
            name: {"images": one.images, "positives": one.positives}
            for name, one in hospitals.items()
        },
        "measures": measures,
    }
    draw_forest(picture, plots)
    write_json(table, content)
    print(f"{table} and {picture.name}", file=sys.stderr)


def read_hospitals(files: Sequence[Path]) -> dict[str, Results]:
    """Return the results of each hospital, by the name of its dataset, in the order of names.

    Raises:
        UserError: there are fewer than two files, or two that cannot be combined.
    """
    names = [path.name.removesuffix(SUFFIX) for path in files]
    refuse(
        f"{name}: {count} files have this name; rename them after their hospitals"
        for name, count in Counter(names).items()
        if count > 1
    )
    if len(files) < 2:
        raise UserError(f"{files[0]}: one hospital; at least two can be combined")
    found = {name: read_record(path, Results) for name, path in sorted(zip(names, files))}
    first, *others = found
    for name in others:
        if found[name].calibration_sha256 != found[first].calibration_sha256:
            raise UserError(
                f"{name} and {first} have measured different models, or different thresholds of "
                "one; all must use the same model folder"
            )
        if same := [other for other in found if other < name and found[other] == found[name]]:
            raise UserError(f"{name} and {same[0]} have the same results; give each only once")
    return found


def lines(pooled: "Pooled") -> list[Line]:
    """Return what the plot of a measure shows below its hospitals."""
    found = [
        Line("mean, random effects", "mean", *astuple(pooled.random)),
        Line("mean, fixed effect", "mean", *astuple(pooled.fixed)),
    ]
    if pooled.predicted:
        found.append(Line("a further hospital", "predicted", *astuple(pooled.predicted)))
    return found


def sentence(title: str, pooled: "Pooled") -> str:
    """Return a measure of several hospitals as text."""

    def limits(one: "Interval") -> str:
        return f"{one.low:.3f} to {one.high:.3f}"

    parts = [
        f"{title}: {pooled.random.value:.3f} (95 % interval {limits(pooled.random)})",
        f"fixed effect {pooled.fixed.value:.3f} ({limits(pooled.fixed)})",
        f"I² {100 * pooled.heterogeneity:.0f} %",
    ]
    if pooled.predicted:
        parts.append(f"at a further hospital {limits(pooled.predicted)}")
    return "; ".join(parts)


if __name__ == "__main__":
    run_program(main)
