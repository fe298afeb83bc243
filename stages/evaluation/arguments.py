"""Arguments that several programs take which apply a trained model."""

import argparse
from pathlib import Path


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --model, --weights and --slide: which model, and how it finds the slide of a crop."""
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("models"),
        help="the folder of the model (default: models)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="PATH",
        help="the encoder's folder, or the backbone's file of weights, if the model needs one",
    )
    parser.add_argument(
        "--slide",
        metavar="REGEX",
        help="with (?P<slide>...), for file names (default: the model's)",
    )


def add_column_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --name-column and --label-column, which name columns of the table --labels."""
    parser.add_argument("--name-column", help="its column of file names (default: name or path)")
    parser.add_argument(
        "--label-column", help="its column of labels (default: label or ground truth)"
    )
