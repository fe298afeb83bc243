"""The measures of a model on a test set, and how they are printed."""

import sys
from pathlib import Path
from typing import Literal, NamedTuple, assert_never

import numpy as np

from stages.base.errors import warn
from stages.base.files import write_table
from stages.measures.calibration_line import calibration_line
from stages.measures.decision import Decision, measure_rates
from stages.measures.influence import Sample
from stages.measures.intervals import Estimate, estimate, over_sites, proportion
from stages.measures.scores import MEASURES, WITHIN_FOLDS, confusion, sign
from stages.measures.sizes import too_small
from stages.measures.usefulness import LEVEL_OF_TWO, predictive_values

SITES = Path("metrics/sites.csv")
HEADLINE = ("roc_auc", "sensitivity", "specificity", "precision", "accuracy")
# The sizes of a test set, by short names: all columns fit a line of 120 characters.
SIZES = {"crops": "images", "pos": "positives", "slides": "slides"}
PRINTED = ("roc_auc", WITHIN_FOLDS, "sensitivity", "specificity", "f1", "precision", "npv")
FOLDS_TELL_MORE = "Folds pooled (`python -m stages.compare`) tell more."
# A test set is too small if one of these has a wide interval, or none.
OF_SIZE = ("roc_auc", "sensitivity", "specificity", "f1")
BY_SITE = ("roc_auc", "sensitivity", "specificity", "f1", "brier")


Unit = Literal["slides", "sites", "unknown"]


class Tested(NamedTuple):
    """Crops with their labels and predictions.

    Attributes:
        sites: text (n,), the site of each crop; None if they are unknown.
        over: what varies: slides; or sites, if training has seen none of several sites. There are
            no intervals if the slides are unknown.
    """

    sample: Sample
    sites: np.ndarray | None = None
    over: Unit = "slides"

    def estimate(self, name: str, level: float = 0.95) -> Estimate:
        """Return a measure with its interval."""
        if self.over == "sites" and self.sites is not None:
            return over_sites(name, self.sample, self.sites, level)
        found = estimate(name, [self.sample], level)
        if self.over == "unknown" and found.value is not None:
            return Estimate(0, found.value, reason="the slides are unknown")
        return found

    def positives(self, rows: np.ndarray) -> Estimate:
        """Return the share of positives in some rows, bool (n,), with its interval."""
        if self.over != "slides":
            return Estimate(0, float(self.sample.y_true[rows].mean()))
        return proportion(self.sample.y_true[rows] == 1, self.sample.slides[rows])

    def of_site(self, site: str) -> "Tested":
        """Return the crops of a site; their intervals are over its slides."""
        return Tested(self.sample.at(np.flatnonzero(self.sites == site)))


def as_tested(
    decision: Decision,
    y_true: np.ndarray,
    y_score: np.ndarray,
    slides: np.ndarray,
    sites: np.ndarray | None = None,
    folds: np.ndarray | None = None,
    unseen: bool = False,
) -> Tested:
    """Return the predictions of crops by calibrated probabilities.

    Args:
        slides, sites: text (n,); empty where the slide or the site is unknown.
        folds: of the models, if each crop was predicted by the one that has not seen it.
        unseen: whether no site was seen in training.
    """
    if sites is not None and (unknown := int(np.sum(sites == ""))):
        if unknown < len(sites):
            warn("no results by site", [f"the site of {unknown} of {len(sites)} crops is unknown"])
        sites = None
    y_pred = decision.is_positive(y_score).astype(np.int64)
    sample = Sample(y_true, y_score, y_pred, slides, folds)
    over: Unit = "slides" if all(slides) else "unknown"
    if unseen and sites is not None and len(np.unique(sites)) > 1:
        over = "sites"
    return Tested(sample, sites, over)


def measure(tested: Tested, decision: Decision, prevalence: float = 0) -> dict:
    """Return all measures, as in metrics/measures.json.

    Undefined measures are None; `undefined` and `no_interval` say why a value or an interval is
    missing.

    Args:
        prevalence: at which to give predictive values, besides that of these crops; 0 for none.
    """
    sample = tested.sample
    counts = confusion(sample.y_true, sample.y_pred)
    names = [*MEASURES, *([WITHIN_FOLDS] if sample.folds is not None else [])]
    found = {name: tested.estimate(name) for name in names}
    undefined = {
        name: MEASURES[name].why_undefined(counts) for name in MEASURES if found[name].value is None
    }
    for name, reason in undefined.items():
        print(f"warning: {name} is not defined: {reason}", file=sys.stderr)
    no_interval = {name: one.reason for name, one in found.items() if one.low is None}
    results = {
        **{name: one.value for name, one in found.items()},
        "threshold": decision.threshold,
        "confusion": counts._asdict(),
        "interval_95": {name: _limits(one) for name, one in found.items()},
        "interval_over": tested.over,
        **({"no_interval": no_interval} if no_interval else {}),
        **_coverage(sample, decision),
        **_sizes(tested),
        **({"undefined": undefined} if undefined else {}),
    }
    if tested.over == "slides":
        line = calibration_line(sample.y_true, sample.y_score, sample.slides)
        results["calibration_line"] = {name: record(one) for name, one in line._asdict().items()}
    if prevalence:
        ppv, npv = predictive_values(
            tested.estimate("sensitivity", LEVEL_OF_TWO),
            tested.estimate("specificity", LEVEL_OF_TWO),
            prevalence,
        )
        results["at_prevalence"] = {
            "prevalence": prevalence,
            "precision": record(ppv),
            "npv": record(npv),
        }
    return results


def _sizes(tested: Tested) -> dict[str, int]:
    sample, sites = tested.sample, tested.sites
    sizes = {"images": len(sample.y_true), "positives": int(np.sum(sample.y_true))}
    if tested.over != "unknown":
        sizes["slides"] = len(np.unique(sample.slides))
        sizes["slides_with_positives"] = len(np.unique(sample.slides[sample.y_true == 1]))
    return sizes | ({} if sites is None else {"sites": len(np.unique(sites))})


def _limits(one: Estimate) -> dict[str, float] | None:
    if one.low is None or one.high is None:
        return None
    effective = {} if one.crops is None else {"effective_crops": one.crops}
    return {"low": one.low, "high": one.high, **effective}


def record(one: Estimate) -> dict:
    """Return an estimate as in metrics/measures.json."""
    found = {"value": one.value, "low": one.low, "high": one.high}
    return found | ({"reason": one.reason} if one.reason else {})


def headline(results: dict) -> dict[str, float | None]:
    """Return the headline metrics and `SIZES`, rounded so that `dvc metrics` fits a terminal.

    `leakage` is there only if slides of test crops were also trained on, or may have been (None).
    """
    found = {name: results[name] for name in HEADLINE}
    found |= {short: results[name] for short, name in SIZES.items() if name in results}
    if results.get("leakage", 0) != 0:
        found["leakage"] = results["leakage"]
    return {name: None if value is None else round(value, 4) for name, value in found.items()}


def _coverage(sample: Sample, decision: Decision) -> dict[str, float | None]:
    """Return the share of images that are decided, and the error rates of these.

    The rates are None if no image, or none of the class, is decided.
    """
    found = measure_rates(sample.y_true, sample.y_score, decision.threshold, decision.uncertain)
    decided, wrong = ~decision.is_uncertain(sample.y_score), sample.y_true != sample.y_pred
    return {
        "coverage": found.coverage,
        "decided_error_rate": float(np.mean(wrong[decided])) if decided.any() else None,
        "decided_sensitivity": found.decided_sensitivity,
        "decided_specificity": found.decided_specificity,
    }


def print_results(results: dict, advice: str = "") -> None:
    """Print the main measures with their intervals.

    Args:
        advice: what to do if the test set is too small to tell much.
    """
    for name in PRINTED:
        if name in results:
            print(f"{name}: {with_interval(_entry(results, name))}")
    if line := results.get("calibration_line"):
        intercept, slope = (with_interval(line[name]) for name in ("intercept", "slope"))
        print(f"calibration intercept: {intercept}; 0 at best")
        print(f"calibration slope: {slope}; 1 at best")
    if values := results.get("at_prevalence"):
        for name in ("precision", "npv"):
            share = f"{100 * values['prevalence']:g} %"
            print(f"{name} at a prevalence of {share}: {with_interval(values[name])}")
    decided = [
        f"{name} {'not defined' if value is None else f'{value:.3f}'}"
        for name in ("sensitivity", "specificity")
        for value in [results[f"decided_{name}"]]
    ]
    print(f"decided: {results['coverage']:.3f} of the crops; of these {', '.join(decided)}")
    on = f"on {results['images']} glomeruli ({results['positives']} positive)"
    unit: Unit = results["interval_over"]
    match unit:
        case "unknown":
            print(f"{on} of unknown slides")
            return
        case "slides" | "sites":
            slides, positives = results["slides"], results["slides_with_positives"]
            of = f"{slides} slide{'s' * (slides != 1)} ({positives} with positives)"
            print(f"{on} of {of}")
        case _:
            assert_never(unit)
    if unit == "sites":
        print(f"intervals are over {results['sites']} sites that training has not seen")
        return
    widths = {
        name: span and span["high"] - span["low"]
        for name in OF_SIZE
        if (span := results["interval_95"][name]) or results[name] is not None
    }
    if small := too_small(slides, positives, widths):
        print(f"{small} {advice}".rstrip())


def _entry(results: dict, name: str) -> dict:
    limits = results["interval_95"][name] or {"low": None, "high": None}
    return {
        "value": results[name],
        "low": limits["low"],
        "high": limits["high"],
        "reason": results.get("no_interval", {}).get(name, ""),
    }


def with_interval(one: dict) -> str:
    """Return a `record` as text."""
    if one["value"] is None:
        return "not defined"
    if one["low"] is None:
        return f"{one['value']:.3f} (no interval: {one['reason']})"
    return f"{one['value']:.3f} (95 % interval {one['low']:.3f} to {one['high']:.3f})"


class SiteRow(NamedTuple):
    """A measure of one site, with its interval over the slides of that site."""

    site: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    glomeruli: int
    sclerotic: int
    slides: int
    slides_with_positives: int


def by_site(tested: Tested) -> list[SiteRow]:
    """Return the headline measures of each site, by name; nothing if the sites are unknown."""
    if tested.sites is None:
        return []
    rows = []
    for site in np.unique(tested.sites).tolist():
        of_site = tested.of_site(site)
        sizes = [*_sizes(of_site).values()]
        for name in BY_SITE:
            one = of_site.estimate(name)
            rows.append(SiteRow(site, name, one.value, one.low, one.high, *sizes))
    return rows


def report_sites(tested: Tested, path: Path) -> None:
    """Write the table of sites that `dvc plots` draws, and print the range of each measure over
    several sites, the worst first.
    """
    rows = by_site(tested)
    write_table(path, SiteRow._fields, rows)
    if len(sites := {row.site for row in rows}) < 2:
        return
    print(f"over {len(sites)} sites, the worst first ({path} has the intervals of each):")
    for name in BY_SITE:
        known = sorted(
            (sign(name) * row.value, row.site)
            for row in rows
            if row.measure == name and row.value is not None
        )
        if known:
            ends = dict.fromkeys((known[0], known[-1]))
            values = " to ".join(f"{abs(value):.3f} ({site})" for value, site in ends)
            missing = len(sites) - len(known)
            print(f"  {name}: {values}{f'; undefined at {missing}' if missing else ''}")
