"""Write the card of a dataset: look at its folder, propose, and check before anything is written.

    python -m stages.card data/mine
    python -m stages.card data/mine --slide '{site}_{slide}_{number}' --title 'Nephrectomies, PAS'
    python -m stages.card data/network/hospital-a      # a shard of the joined dataset data/network

The folder has the crops in two class folders, or with a table of labels. What the names do not tell
is asked if this runs in a terminal, and must be given by an option otherwise. --slide says which
part of a name is the slide (or the patient): {slide}, {site}, {number} and * stand for parts, as in
'{slide}_{number}', or it is a regular expression with (?P<slide>...), or `none`.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, run_program, warn
from stages.base.files import replacing
from stages.base.parameters import DatasetName
from stages.dataset.card import Dataset, read_dataset
from stages.intake.label_table import read_label_source
from stages.intake.listing import Listing, list_crops
from stages.intake.proposal import TableColumns, propose_labels, propose_slides, propose_words
from stages.intake.slides import assign_slides

SHOWN = 5
# With fewer slides with sclerotic glomeruli, a fold has none.
LEAST_SLIDES = 5


def main() -> None:
    arguments = parse_arguments()
    folder: Path = arguments.folder
    card = folder.with_name(f"{folder.name}.yaml")
    is_shard = folder.parent.name != "data" and folder.parent.parent.name == "data"
    if not folder.is_dir() or not (is_shard or folder.parent.name == "data"):
        raise UserError(
            f"{folder} must be a folder of crops in data/, such as data/mine, or a shard there, "
            "such as data/network/hospital-a"
        )
    try:
        TypeAdapter(DatasetName).validate_python(folder.name)
    except ValidationError:
        raise UserError(
            f"{folder}: params.yaml cannot name this dataset; a name has an ASCII letter or digit, "
            "then letters, digits, '.', '_' and '-'"
        ) from None
    if card.exists():
        raise UserError(f"{card} already exists; edit it, or remove it")
    listing = list_crops(folder)
    fields = propose(listing, arguments)
    fields["license"] = "not to be published"
    try:
        with replacing(card) as file:
            yaml = YAML()
            yaml.default_flow_style = None
            yaml.width = 4096
            yaml.dump(fields, file)
        say(read_dataset(folder.name, folder.parent), listing)
    except BaseException:
        # Also at Ctrl-C: a card that was not checked must not stay.
        card.unlink(missing_ok=True)
        raise
    whole = f", and list it in shards of {folder.parent}.yaml" if is_shard else ""
    print(f"written: {card}; next: dvc add {folder}{whole}")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the crops, such as data/mine")
    parser.add_argument("--title", help="what the dataset is, in a line (default: asked)")
    parser.add_argument(
        "--classes",
        nargs=2,
        metavar=("OTHER", "SCLEROTIC"),
        help="the class folders, or the words in the table, that of the sclerotic ones last",
    )
    parser.add_argument(
        "--slide", metavar="PATTERN", help="which part of a name is the slide (default: proposed)"
    )
    return parser.parse_args()


def propose(listing: Listing, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the card."""
    folder, images = listing.folder, listing.images
    fields: dict[str, Any] = {"title": arguments.title or ask("title", folder.name)}
    kinds = (".csv", ".tsv", ".xlsx")
    # Those in archives are not read.
    tables = [
        name for name in listing.others if name.lower().endswith(kinds) and (folder / name).exists()
    ]
    labels = propose_labels(folder, tables, images, arguments.classes)
    of_slides = None
    if isinstance(labels, TableColumns):
        if words := arguments.classes or propose_words(labels):
            fields["classes"] = [*words]
        named = {"name": labels.name, "label": labels.label}
        if labels.slides and not arguments.slide:
            named["slide"] = of_slides = labels.slides[0]
            if others := labels.slides[1:]:
                print(f"crops are grouped by the column {of_slides}, not {' or '.join(others)}")
        named |= {"site": labels.site} if labels.site else {}
        fields |= {"labels": labels.table, "columns": named}
    else:
        fields["classes"] = [*labels]
    if not of_slides:
        found = arguments.slide or propose_slides(images, fields.get("classes", []))
        fields["group"] = arguments.slide or ask("slide", found)
    return fields


def ask(name: str, proposed: str | None) -> str:
    """Return what the user enters at a terminal, or what is proposed."""
    text = proposed
    if sys.stdin.isatty():
        try:
            text = input(f"--{name} [{proposed or ''}]: ").strip() or proposed
        except EOFError:  # Ctrl-D accepts nothing.
            print()
            text = None
    if not text:
        raise UserError(f"the names do not tell the {name}; give --{name} (see --help)")
    return text


def say(dataset: Dataset, listing: Listing) -> None:
    """Print what the card makes of the folder, and warn of what cannot work."""
    found = read_label_source(dataset, listing)
    slides = assign_slides(dataset, listing.images, found.groups)
    for path in listing.images[:: max(1, len(listing.images) // SHOWN)][:SHOWN]:
        slide, site = slides[path]
        print(f"{path}: slide {slide}" + f", site {site}" * bool(site))
    crops = Counter(slide for slide, _ in slides.values())
    positive = {slides[path][0] for path, label in found.labels.items() if label == 1}
    print(
        f"{len(slides)} crops of {len(crops)} slides, {len(positive)} with sclerotic glomeruli; "
        f"{min(crops.values())} to {max(crops.values())} crops per slide"
    )
    if len(set(found.labels.values())) < 2:
        warn("all crops have one label; a model needs both")
    elif len(positive) < LEAST_SLIDES:
        warn(
            f"{len(positive)} slides have sclerotic glomeruli; five folds need at least "
            f"{LEAST_SLIDES}, and ten are better: recalibrate published/aidpath instead"
        )


if __name__ == "__main__":
    run_program(main)
