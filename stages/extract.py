"""Cut annotated glomeruli out of whole-slide images: a folder of crops, with its table of labels
and its card.

    python -m stages.extract slides/*.svs --annotations annotations/ --output data/mine
    python -m stages.extract S1.ndpi --annotations S1.geojson --no-labels --output to-judge
    crops for predict, without labels

Annotations are GeoJSON of QuPath, XML of ImageScope or JSON of the Digital Slide Archive: one file
for one slide, or a folder with a file for each, of the slide's name. Crops are PNG at --resolution
micrometers a pixel, with --margin micrometers around the glomerulus. Beside the folder stand its
card (.yaml), and the outlines (.geojson), by which `predict --geojson` brings verdicts back. Slides
are what OpenSlide reads (SVS, NDPI, MRXS, SCN, pyramidal TIFF, ...), and OME-TIFF.
"""

import argparse
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.base.parameters import DatasetName

PACKAGES = ("defusedxml", "openslide", "shapely", "tiffslide")
# A class that is called sclerotic alone may hold segmental sclerosis, too: it is not among them.
POSITIVE = ("globally sclerotic", "GS")
NEGATIVE = ("non globally sclerotic", "not globally sclerotic", "non-globally sclerotic", "nonGS")


def main() -> None:
    arguments = parse_arguments()
    if lacking := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(
            f"{', '.join(lacking)} is not installed; pip install -r requirements-slides.txt"
        )
    # Installed by those alone who cut slides.
    from stages.slides.cutting import Cut, card_of, cut_all, open_sources
    from stages.slides.glomeruli import Classes, refuse_overlap
    from stages.slides.places import outlines_of

    output = arguments.output
    taken = [
        path
        for path in (output, card_of(output), outlines_of(output))
        if path.exists() or path.is_symlink()
    ]
    refuse(
        [f"--output: {path} is there already; choose another name, or remove it" for path in taken]
    )
    if not arguments.no_labels and output.resolve().parent == Path("data").resolve():
        _refuse_name(output)
    classes = Classes(
        arguments.positive or POSITIVE,
        arguments.negative or NEGATIVE,
        arguments.ignore or [],
        unlabeled=arguments.no_labels,
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
    if not arguments.no_labels:
        for label, name in ((1, "globally sclerotic"), (0, "not globally sclerotic")):
            of_class = Counter(
                one.annotation.classification
                for source in sources
                for one in source.glomeruli
                if one.label == label
            )
            counts = (
                ", ".join(
                    f"{count} of the class {kind!r}" for kind, count in sorted(of_class.items())
                )
                or "none"
            )
            print(f"label {label}, {name}: {counts}", flush=True)
    crops = cut_all(sources, cut, output, arguments.title or output.name, not arguments.no_labels)
    for source in sources:
        source.slide.close()
    positive = sum(one.label == 1 for source in sources for one in source.glomeruli)
    counts = "" if arguments.no_labels else f", {positive} of them globally sclerotic"
    of_slides = f"{crops} crops of {len(sources)} slide{'s' * (len(sources) != 1)}"
    print(
        f"{of_slides}{counts}, {cut.resolution:g} micrometers a pixel, {cut.margin:g} around: {output}"
    )


def _refuse_name(output: Path) -> None:
    """Raise `UserError` if `data` of params.yaml cannot name a dataset's folder."""
    try:
        TypeAdapter(DatasetName).validate_python(output.resolve().name)
    except ValidationError:
        valid = "a letter or digit of ASCII, then letters, digits, '.', '_' and '-'"
        raise UserError(
            f"--output: {output} would be a dataset that params.yaml cannot name; a name has {valid}"
        ) from None


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("slides", type=Path, nargs="+", metavar="SLIDE", help="whole-slide images")
    parser.add_argument(
        "--annotations",
        type=Path,
        required=True,
        help="a file, or a folder with a file for each slide",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the folder to write, such as data/mine; not there yet",
    )
    parser.add_argument(
        "--resolution",
        type=_positive,
        default=0.5,
        help="of the crops, micrometers a pixel (default: 0.5)",
    )
    parser.add_argument(
        "--margin",
        type=_not_negative,
        default=10.0,
        help="micrometers around a glomerulus (default: 10)",
    )
    parser.add_argument(
        "--slide-resolution",
        type=_positive,
        metavar="MICROMETRES",
        help="in place of what the slides say",
    )
    parser.add_argument(
        "--positive",
        action="append",
        metavar="CLASS",
        help=f"of label 1 (default: {', '.join(POSITIVE)})",
    )
    parser.add_argument(
        "--negative",
        action="append",
        metavar="CLASS",
        help=f"of label 0 (default: {', '.join(NEGATIVE)})",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        metavar="CLASS",
        help="of what is no glomerulus, such as Tissue",
    )
    parser.add_argument(
        "--no-labels",
        action="store_true",
        help="cut all that is not ignored, to be judged; no card",
    )
    parser.add_argument(
        "--beyond",
        choices=("refuse", "cut"),
        default="refuse",
        help="the slide's edge (default: refuse)",
    )
    parser.add_argument(
        "--origin",
        choices=("auto", "bounds", "slide"),
        default="auto",
        help="what annotations count from, where a slide was scanned in part (default: auto, as their program does)",
    )
    parser.add_argument(
        "--slide",
        metavar="REGEX",
        help="with (?P<slide>...): what of a slide's name is the patient (default: all)",
    )
    parser.add_argument("--title", help="of the dataset's card (default: the name of the folder)")
    return parser.parse_args()


def _positive(text: str) -> float:
    value = _not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError("it must be above 0")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= value < 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not a number of micrometers from 0 to 10000")
    return value


if __name__ == "__main__":
    run_program(main)
