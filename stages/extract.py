"""Cut annotated glomeruli out of whole-slide images: a folder of crops, its labels and its card.

    python -m stages.extract slides/*.svs --annotations annotations/ --output data/mine
    python -m stages.extract S1.ndpi --annotations S1.geojson --no-labels --output new-crops

The second command cuts crops for predict, without labels. Slides are what OpenSlide reads (SVS,
NDPI, MRXS, SCN, pyramidal TIFF, ...) and OME-TIFF. Annotations are QuPath GeoJSON, ImageScope XML
or Digital Slide Archive JSON: one file for one slide, or a folder with a file named after each
slide. Crops are PNG at --resolution, with --margin around the glomerulus. Next to the folder are
its card (.yaml) and its outlines (.geojson), which `predict --geojson` needs.
"""

import argparse
import functools
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.base.parameters import DatasetName

PACKAGES = ("defusedxml", "openslide", "shapely", "tiffslide")
# A class called only "sclerotic" may include segmental sclerosis, so it is not a default.
POSITIVE = ("globally sclerotic", "GS")
NEGATIVE = ("non globally sclerotic", "not globally sclerotic", "non-globally sclerotic", "nonGS")


def main() -> None:
    arguments = parse_arguments()
    if lacking := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(
            f"{', '.join(lacking)} is not installed; pip install -r requirements-slides.txt"
        )
    # Only users who cut slides install these modules' packages.
    from stages.slides.cutting import Cut, card_of, cut_all, open_sources
    from stages.slides.glomeruli import Classes, refuse_overlap
    from stages.slides.places import outlines_of

    output, labeled = arguments.output, not arguments.no_labels
    paths = (output, card_of(output), outlines_of(output))
    refuse(
        f"--output: {path} already exists; choose another name, or remove it"
        for path in paths
        if path.exists() or path.is_symlink()
    )
    if labeled and output.resolve().parent == Path("data").resolve():
        _refuse_name(output)
    classes = Classes(
        arguments.positive or POSITIVE,
        arguments.negative or NEGATIVE,
        arguments.ignore or [],
        unlabeled=not labeled,
    )
    refuse_overlap(classes)
    cut = Cut(
        arguments.resolution,
        arguments.margin,
        arguments.slide_resolution,
        arguments.beyond == "cut",
        arguments.origin,
    )
    sources = open_sources(arguments.slides, arguments.annotations, classes, cut, arguments.slide)
    glomeruli = [one for source in sources for one in source.glomeruli]
    if labeled:
        for label, name in ((1, "globally sclerotic"), (0, "not globally sclerotic")):
            counts = Counter(
                one.annotation.classification for one in glomeruli if one.label == label
            )
            said = [f"{count} of the class {kind!r}" for kind, count in sorted(counts.items())]
            print(f"label {label}, {name}: {', '.join(said) or 'none'}", flush=True)
    crops = cut_all(sources, cut, output, arguments.title or output.name, labeled)
    for source in sources:
        source.slide.close()
    positive = sum(one.label == 1 for one in glomeruli)
    of_these = f", {positive} of them globally sclerotic" if labeled else ""
    plural = "s" if len(sources) != 1 else ""
    print(
        f"{crops} crops of {len(sources)} slide{plural}{of_these}, {cut.resolution:g} µm per "
        f"pixel, margin {cut.margin:g} µm: {output}"
    )


def _refuse_name(output: Path) -> None:
    """Raise `UserError` if `data` of params.yaml cannot name a dataset's folder."""
    try:
        TypeAdapter(DatasetName).validate_python(output.resolve().name)
    except ValidationError:
        raise UserError(
            f"--output: params.yaml cannot name the dataset {output}; a name has an ASCII letter "
            "or digit, then letters, digits, '.', '_' and '-'"
        ) from None


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("slides", type=Path, nargs="+", metavar="SLIDE", help="whole-slide images")
    add("--annotations", type=Path, required=True, help="a file, or a folder with one per slide")
    add("--output", type=Path, required=True, help="the folder to write, such as data/mine")
    add("--resolution", type=_positive, default=0.5, help="µm per pixel of crops (default: 0.5)")
    add("--margin", type=_length, default=10.0, help="µm around a glomerulus (default: 10)")
    add(
        "--slide-resolution",
        type=_positive,
        metavar="UM",
        help="µm per pixel of the slides, instead of what they state",
    )
    add_class = functools.partial(parser.add_argument, action="append", metavar="CLASS")
    add_class("--positive", help=f"a class of label 1 (default: {', '.join(POSITIVE)})")
    add_class("--negative", help=f"a class of label 0 (default: {', '.join(NEGATIVE)})")
    add_class("--ignore", help="a class of something other than glomeruli, such as Tissue")
    add("--no-labels", action="store_true", help="cut all that is not ignored, without a card")
    add(
        "--beyond",
        choices=("refuse", "cut"),
        default="refuse",
        help="what to do with outlines beyond the slide's edge (default: refuse)",
    )
    add(
        "--origin",
        choices=("auto", "bounds", "slide"),
        default="auto",
        help="the corner that annotations count from, of the scanned bounds or of the slide "
        "(default: auto, as the program that wrote them does)",
    )
    add(
        "--slide",
        metavar="REGEX",
        help="with (?P<slide>...): the patient in a slide's name (default: the whole name)",
    )
    add("--title", help="of the dataset's card (default: the name of the folder)")
    return parser.parse_args()


def _positive(text: str) -> float:
    value = _length(text)
    if value == 0:
        raise argparse.ArgumentTypeError("it must be above 0")
    return value


def _length(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of µm from 0 to 10000")
    return value


if __name__ == "__main__":
    run_program(main)
