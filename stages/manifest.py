"""Label the images of a dataset: data/crops.csv and its card -> data/manifest.csv.

No image is opened here: a corrected label costs seconds. The rows are sorted by path. `split` is
another stage, so that another fold, seed or `split.by` reads no table again; data/card.json holds
what the other stages use of the card.
"""

from pathlib import Path

from stages.base.errors import run_program, warn
from stages.base.files import write_table
from stages.base.parameters import read_dataset_name, read_params
from stages.dataset.card import read_dataset
from stages.dataset.cohort import MANIFEST
from stages.dataset.crops import read_files
from stages.dataset.readings import NO_CONSENSUS, NOT_READ
from stages.dataset.used_card import UsedCard, write_used_card
from stages.intake.committed import warn_if_tables_uncommitted
from stages.intake.crops import (
    Manifest,
    Unreadable,
    make_manifest,
    write_manifest,
    write_no_consensus,
)
from stages.intake.parameters import ManifestParameters
from stages.intake.readers import Consensus

UNREADABLE = Path("metrics/unreadable.csv")
CROP_SIZES = Path("metrics/plots/crop_sizes.csv")
DRAWN_SIZES = 2000  # points of the scatter plot, at most


def main() -> None:
    params = read_params("manifest", ManifestParameters)
    dataset = read_dataset(read_dataset_name())
    card, readers = dataset.card, dataset.readers
    if params.rule.reader and not readers:
        # An external dataset may have this reader.
        warn(
            f"params.yaml: manifest.consensus {params.consensus} does not matter here: "
            f"{dataset.card_path} names no readers"
        )
    for part in dataset.parts:
        warn_if_tables_uncommitted(part)
    files = read_files(dataset.name)
    made = make_manifest(dataset, UNREADABLE, params.skips_unreadable, params.rule, files)
    rows = made.rows
    write_manifest(MANIFEST, readers, rows)
    fields = {name: getattr(card, name) for name in UsedCard.Card.model_fields}
    write_used_card(dataset.name, UsedCard.Card(**fields))
    write_table(UNREADABLE, Unreadable._fields, made.unreadable)
    write_no_consensus(NO_CONSENSUS, readers, made.no_consensus)
    drawn = rows[:: -(-len(rows) // DRAWN_SIZES)]
    sizes = ((row.width, row.height, row.label) for row in drawn)
    write_table(CROP_SIZES, ("width", "height", "label"), sizes)
    positives = sum(row.label for row in rows)
    slides = len({row.slide for row in rows})
    corrected = sum(row.label != row.published for row in rows)
    tables = ", ".join(filter(None, (part.card.corrections for part in dataset.parts)))
    labels = f"; {corrected} labels corrected by {tables}" if corrected else ""
    counts = f"{len(rows)} glomeruli, {positives} of them globally sclerotic, {slides} slides"
    print(f"{card.title}: {counts}{labels}")
    if readers:
        print(about_readers(readers, made, params.rule))


def about_readers(readers: list[str], made: Manifest, rule: Consensus) -> str:
    """Return how many crops the readers have read, and on how many labels they agree.

    The sclerotic ones of each reader show an inversion even if readers share no crops.
    """
    read = [[one for one in crop.readings if one != NOT_READ] for crop in made.crops_read]
    each = zip(*(crop.readings for crop in made.crops_read))
    counts = [
        f"{name} {len(one) - one.count(NOT_READ)} ({one.count(1)})"
        for name, one in zip(readers, each)
    ]
    several = [labels for labels in read if len(labels) > 1]
    same = sum(len(set(labels)) == 1 for labels in several)
    decided = sum(rule.label(readers, row.readings) is None for row in made.rows)
    parts = [
        f"readers, crops (globally sclerotic): {', '.join(counts)}",
        f"all agree on {same} of the {len(several)} crops that two or more have read",
    ]
    if single := sum(len(labels) == 1 for labels in read):
        parts.append(f"one has read {single}")
    if decided:
        parts.append(f"{decided} without a consensus are labeled by corrections")
    if made.no_consensus:
        parts.append(f"{len(made.no_consensus)} without a consensus are left out")
    return "; ".join(parts)


if __name__ == "__main__":
    run_program(main, __doc__)
