"""Arguments that several programs take which apply a trained model."""

import argparse
from pathlib import Path


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, what it needs, and how it finds slides."""
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models"),
        help="the folder of the model (default: models)",
    )
    add_network_arguments(parser)
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help="features of the crops by another tool, if the model takes these (docs/encoders.md)",
    )
    parser.add_argument(
        "--slide",
        metavar="REGEX",
        help="with (?P<slide>...), for file names (default: the model's)",
    )


def files_of_model(arguments: argparse.Namespace) -> list[Path]:
    """Return the files and folders that the arguments of `add_model_arguments` name."""
    given = [one for one in (arguments.weights, arguments.embeddings) if one]
    if arguments.embeddings:  # The names of the rows of an .npy file are in a table.
        given += [arguments.embeddings.with_suffix(suffix) for suffix in (".csv", ".xlsx")]
    return [*given, *(file for one in [arguments.model, *given] for file in one.glob("*"))]


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --weights, which the network may need, and --allow-drawn."""
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="the encoder's folder, or the backbone's file of weights, if the model needs one",
    )
    parser.add_argument(
        "--allow-drawn",
        action="store_true",
        help="use a model that was trained on drawn glomeruli, as of data/demo",
    )


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --name-column and --label-column, which name columns of the table --labels."""
    parser.add_argument("--name-column", help="its column of file names (default: name or path)")
    parser.add_argument(
        "--label-column", help="its column of labels (default: label or ground truth)"
    )
