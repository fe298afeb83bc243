"""Write models/README.md, the model card for people: what the model is, and how good it is.

It follows Model Cards for Model Reporting (Mitchell et al., FAccT 2019), travels with the model's
folder, and names no slide.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stages.base.errors import run_program
from stages.base.files import read_json, read_table, replacing, sha256
from stages.base.parameters import read_params
from stages.dataset.card import ORIGIN, Dataset, read_dataset
from stages.dataset.cohort import CLASS_NAMES, LOCKED, SPLITS, Cohort, read_cohort
from stages.dataset.used_card import read_used_card
from stages.experiments.markdown import BY_SITE, as_cell, site_table
from stages.intake.parameters import ManifestParameters
from stages.measures.decision import Decision, read_decision
from stages.measures.scores import title
from stages.model.folder import CARD, FOLDER

MODEL_CARD, METRICS = FOLDER / "README.md", Path("metrics")
SHOWN = ("roc_auc", "average_precision", "sensitivity", "specificity", "precision", "npv", "brier")


def main() -> None:
    dataset, decision = read_dataset(read_used_card().name), read_decision()
    cohort = read_cohort()
    cohort = cohort._replace(splits=cohort.seen_by(len(decision.calibration.members) > 1))
    made, results = read_json(FOLDER / CARD), read_json(METRICS / "measures.json")
    unreadable, no_consensus = (
        len(read_table(METRICS / table, ["path"])[0])
        for table in ("unreadable.csv", "no_consensus.csv")
    )
    consensus = read_params("manifest", ManifestParameters).consensus
    sites = list(zip(*read_table(METRICS / "sites.csv", BY_SITE)))
    sections = (
        introduction(made, dataset),
        training_data(dataset, cohort, unreadable, no_consensus, consensus),
        operating_point(decision),
        performance(results, sites),
        LIMITS,
        how_made(made),
    )
    with replacing(MODEL_CARD) as file:
        file.write("\n".join(sections))
    print(f"see {MODEL_CARD}")


def introduction(made: dict[str, Any], dataset: Dataset) -> str:
    """Return what the model is and what it is for."""
    warning = DRAWN if dataset.card.drawn else ""
    if given := made.get("embeddings"):
        warning += f"\n\nIt takes {given['length']} features by another tool, not pixels."
    return f"""# Global sclerosis of glomeruli: {made["step"]}, trained on {dataset.name}

From a crop of one PAS-stained glomerulus to the probability that it is globally sclerotic (label
1, `{CLASS_NAMES[1]}`).{warning}

- **Intended for** research on crops of single glomeruli, at the scale and in the stain of those
  that it was trained on, with a pathologist who looks at the uncertain ones.
- **Not intended for** diagnosis, for crops of other stains or of several glomeruli, or for deciding
  about a donor kidney without a pathologist.
"""


def training_data(
    dataset: Dataset, cohort: Cohort, unreadable: int, no_consensus: int, consensus: str
) -> str:
    """Return where the crops and labels come from, and the flow from files to the sets."""
    lines = ["## Training data", "", f"{dataset.card.title}.", ""]
    for part in (dataset, *dataset.shards):
        of_part = f" of {part.name}" * (part is not dataset)
        for name in ORIGIN:
            if value := getattr(part.card, name):
                lines.append(f"- {name}{of_part}: {' '.join(value.split())}")
    files = len(cohort.paths) + unreadable + no_consensus
    lines.append(f"- {files} files, of which {unreadable} were left out because they do not open")
    if dataset.readers:
        lines.append(
            f"- labels: `{consensus}` of {len(dataset.readers)} readers; {no_consensus} files "
            "without a consensus were left out"
        )
    if corrected := int(np.sum(cohort.labels != cohort.published)):
        lines.append(f"- {corrected} labels are corrections of the published ones")
    lines += ["", "| set | crops | globally sclerotic | slides | sites |"]
    lines.append("| -- | -- | -- | -- | -- |")
    for name in (*SPLITS, LOCKED):
        if not len(rows := cohort.rows(name)):
            continue
        positive, slides = int(cohort.labels[rows].sum()), len(np.unique(cohort.slides[rows]))
        share = 100 * positive / len(rows)
        sites = ", ".join(as_cell(site) or "unknown" for site in np.unique(cohort.sites[rows]))
        lines.append(f"| {name} | {len(rows)} | {positive} ({share:.0f} %) | {slides} | {sites} |")
    return "\n".join(lines) + "\n"


def operating_point(decision: Decision) -> str:
    """Return how a probability becomes a decision."""
    low, high = decision.uncertain.low, decision.uncertain.high
    band = "none" if low is None or high is None else f"from {low:.4f} to {high:.4f}"
    rates = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in decision.validation
        if value is not None
    )
    return f"""## Decision

- threshold: {decision.threshold:.4f}, by the rule `{decision.threshold_rule}`
- on the validation slides, on which it was chosen: {rates}
- uncertain probabilities: {band}
- calibration of the probabilities: `{decision.calibration.method}`
"""


def performance(results: dict[str, Any], sites: list[tuple[str, ...]]) -> str:
    """Return the measures with their intervals, overall and by site."""
    if "out_of_fold" in results:
        results = results["out_of_fold"]
        on = "The model was trained on all slides; each crop is measured by a member that has not "
        on += "seen its slide. Calibration and threshold were chosen on the same predictions, so "
        on += "the rates are slightly optimistic."
    else:
        on = "On the test slides, which the model has not seen."
    over = results["interval_over"]
    sizes = f"{results['images']} crops, {results['positives']} of them globally sclerotic"
    if "slides" in results:
        sizes += f", of {results['slides']} slides, {results['slides_with_positives']} with any"
    lines = ["## Performance", "", f"{on} {sizes}.", ""]
    lines.append(f"| measure | value | 95 % interval over {over} |")
    lines.append("| -- | -- | -- |")
    for name in SHOWN:
        value, span = results[name], results["interval_95"][name]
        shown = "not defined" if value is None else f"{value:.3f}"
        limits = f"{span['low']:.3f} to {span['high']:.3f}" if span else "none"
        lines.append(f"| {title(name)} | {shown} | {limits} |")
    if sites:
        lines += ["", *site_table(sites)]
    if "readers" in results:
        lines += agreement(results["readers"])
    return "\n".join(lines) + "\n"


def agreement(readers: dict[str, Any]) -> list[str]:
    """Return how well the readers agree, with each other and with the model."""
    lines = ["", "| kappa (95 % interval) | all crops | crops as above |", "| -- | -- | -- |"]
    everything, above = readers["of_all"], readers["of_tested"]
    both = [_shown(one["fleiss_kappa"]) for one in (everything, above)]
    lines.append(f"| all readers (Fleiss) | {' | '.join(both)} |")
    for pairs in zip(everything["pairs"], above["pairs"]):
        both = [_shown(pair["cohen_kappa"]) for pair in pairs]
        lines.append(f"| {as_cell(' and '.join(pairs[0]['readers']))} | {' | '.join(both)} |")
    for one in readers["model"]:
        lines.append(
            f"| the model and {as_cell(one['reader'])} |  | {_shown(one['cohen_kappa'])} |"
        )
    if left_out := above["no_consensus"]:
        lines += ["", f"The crops as above are without those that have no consensus ({left_out}), "]
        lines[-1] += "which flatters readers and model."
    lines += ["", "| reader | crops | sensitivity of the model | specificity |"]
    lines.append("| -- | -- | -- | -- |")
    for one in readers["model"]:
        rates = _shown(one["sensitivity"]), _shown(one["specificity"])
        lines.append(f"| {as_cell(one['reader'])} | {one['crops']} | {' | '.join(rates)} |")
    return lines


def _shown(one: dict[str, Any]) -> str:
    if one["value"] is None:
        return "not defined"
    limits = "none" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
    return f"{one['value']:.3f} ({limits})"


DRAWN = "\n\n**Trained on drawn glomeruli, none of a patient: of use to try the software only.**"
LIMITS = """## Limits

- These numbers hold for the laboratories of the training data. Elsewhere the stain and
  the scanner move the probabilities: label a dozen crops and run `python -m stages.recalibrate`.
- The labels are those of the dataset. Where its readers disagree, so will the model.
- Sex, age and ethnicity of the patients are not in the dataset, and nothing is known by them.
"""


def how_made(made: dict[str, Any]) -> str:
    """Return how to make the same model again."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(made["versions"].items()))
    return f"""## How it was made

- `model.keras` has the SHA-256 `{sha256(FOLDER / "model.keras")}`.
- `model.json` has all parameters, and the hashes of the code and of the data.
- made with {versions}
- In the repository, `git log -S <md5 of model.keras> dvc.lock` finds the commit with this model;
  `git checkout <commit>` and `dvc repro` make it again, and `python -m stages.verify <commit>`
  checks that.
"""


if __name__ == "__main__":
    run_program(main, __doc__)
