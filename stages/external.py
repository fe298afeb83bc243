"""Measure the model on a dataset that it was not trained on.

    python -m stages.external NAME
    python -m stages.external NAME --model published/aidpath

NAME is a dataset, data/NAME/ with its card. dvc.yaml runs this stage for each name in `external` of
params.yaml, with the model in models/. Measures and predictions are written to metrics/external/.
The measures are free of names of files and slides, and `stages.pool` combines those of several
hospitals.
"""

import sys
from pathlib import Path
from typing import Literal, assert_never

import numpy as np

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.base.files import sha256, write_json, write_table
from stages.base.parameters import read_params
from stages.dataset.card import Dataset, read_dataset
from stages.dataset.crops import CropFile
from stages.dataset.seen import Seen
from stages.evaluation.classifier import Crops, ModelCard, read_card, read_classifier, warn_if_drawn
from stages.evaluation.pictures import mistakes_picture, worst_mistakes
from stages.evaluation.readers import crops_read, measure_readers, print_readers
from stages.evaluation.results import (
    as_tested,
    headline,
    measure,
    print_results,
    report_sites,
)
from stages.evaluation.scoring import score_crops
from stages.images.archives import locate
from stages.images.sheets import save_png
from stages.intake.crops import (
    Manifest,
    ManifestRow,
    NoConsensus,
    Unreadable,
    make_manifest,
    write_no_consensus,
)
from stages.intake.embeddings import find_embeddings, match_embeddings
from stages.intake.opened import open_files
from stages.intake.parameters import ManifestParameters
from stages.measures.decision import CALIBRATION
from stages.measures.parameters import EvaluateParameters
from stages.model.folder import FOLDER
from stages.model.steps import WEIGHTS

OUTPUT = Path("metrics/external")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("name", help="the dataset")
    model_help = "the folder of a model (default: models)"
    parser.add_argument("--model", type=Path, default=FOLDER, help=model_help)
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.name, asked=f"external has {arguments.name!r}")
    params = read_params("evaluate", EvaluateParameters)
    manifest = read_params("manifest", ManifestParameters)
    embeddings = read_card(arguments.model).embeddings
    takes = embeddings is not None
    classifier = read_classifier(arguments.model, allow_drawn=True, embeddings=takes)
    if not dataset.card.drawn:
        warn_if_drawn(classifier.made)
    unreadable_list = OUTPUT / f"{dataset.name}.unreadable.csv"
    if dataset.name == classifier.made.dataset.name:
        raise UserError(
            f"{dataset.folder}: it is the dataset that the model was trained on; `external` needs "
            "another"
        )
    found = open_files(dataset.folder)
    made = make_manifest(dataset, unreadable_list, manifest.skips_unreadable, manifest.rule, found)
    crops = without_training_crops(dataset, made.rows, classifier.seen, params.trained_on)
    given = features_of(dataset, made, crops, embeddings) if embeddings else None
    files = [locate(dataset.folder, crop.path) for crop in crops]
    opened = Crops(files, classifier.made, embeddings=given)
    y_score, problems, _, _ = score_crops(classifier, opened)
    refuse([problems[row] for row in sorted(problems)])

    y_true = np.array([crop.label for crop in crops])
    slides = np.array([crop.slide for crop in crops])
    decision, threshold = classifier.decision, classifier.decision.threshold
    sites = np.array([crop.site for crop in crops])
    tested = as_tested(decision, y_true, y_score, slides, sites, unseen=True)
    y_pred = tested.sample.y_pred
    results = measure(tested, decision, params.prevalence)
    # With the hash of the model that it was made for, so this identifies all that decides.
    results["calibration_sha256"] = sha256(arguments.model / CALIBRATION.name)
    results["corrected_labels"] = sum(crop.label != crop.published for crop in crops)
    results["trained_on"] = len(made.rows) - len(crops)
    if readers := dataset.readers:
        labeled, left_out = (
            crops_read(readers, [one.readings for one in some], [one.slide for one in some])
            for some in (crops, never_seen(made.no_consensus, found.crops, classifier.seen))
        )
        missed, everything = len(left_out.slides), labeled.joined(left_out)
        results["readers"] = measure_readers(tested, labeled, everything, missed, missed)
    write_json(OUTPUT / f"{dataset.name}.json", headline(results))
    write_json(OUTPUT / f"{dataset.name}.measures.json", results)
    write_table(unreadable_list, Unreadable._fields, made.unreadable)
    write_no_consensus(OUTPUT / f"{dataset.name}.no_consensus.csv", readers, made.no_consensus)
    columns = ("path", "slide", "label", "probability", "predicted")
    rows = [
        (crop.path, crop.slide, crop.label, np.float32(p), predicted)
        for crop, p, predicted in zip(crops, y_score, y_pred)
    ]
    write_table(OUTPUT / f"{dataset.name}.csv", columns, rows)
    paths = np.array([crop.path for crop in crops])
    mistakes = worst_mistakes(y_true, y_score, y_pred)
    worst = mistakes_picture(dataset.folder, paths, slides, y_score, mistakes, threshold)
    save_png(OUTPUT / f"{dataset.name}.png", worst)
    print_results(results)
    report_sites(tested, OUTPUT / f"{dataset.name}.sites.csv")
    print_readers(results, "this dataset")


def features_of(
    dataset: Dataset, made: Manifest, crops: list[ManifestRow], embeddings: ModelCard.Embeddings
) -> np.ndarray:
    """Return the features of crops that another tool computed, float32 (n, D)."""
    source = WEIGHTS / embeddings.weights
    if source.is_file():
        raise UserError(
            f"{source}: it holds the features of one dataset; for `external` make it a folder with "
            f"one file for each dataset, such as {dataset.name}.h5"
        )
    return match_embeddings(
        find_embeddings(source, dataset.name),
        [crop.path for crop in crops],
        dataset.folder,
        embeddings.length,
        [crop.path for some in made for crop in some],
    )


def without_training_crops(
    dataset: Dataset,
    crops: list[ManifestRow],
    seen: Seen,
    trained_on: Literal["leave_out", "refuse"],
) -> list[ManifestRow]:
    """Return the crops that the model was not trained on, and warn of the others.

    Raises:
        UserError: all crops are in the training dataset, or some are and `trained_on` is `refuse`.
    """
    rest = [crop for crop in crops if not seen.trained_on(crop.pixels_sha256)]
    if count := len(crops) - len(rest):
        found = (
            f"{dataset.folder}: the model was trained on {count} of these {len(crops)} crops, "
            "which have the same pixels"
        )
        if all(seen.knows(crop.pixels_sha256) for crop in crops):
            raise UserError(
                f"{dataset.folder}: all of its {len(crops)} crops are of the dataset that the "
                "model was trained on"
            )
        match trained_on:
            case "refuse":
                raise UserError(
                    f"{found}; remove them, or set evaluate.trained_on to leave_out (params.yaml)"
                )
            case "leave_out":
                print(f"warning: {found}; they are left out", file=sys.stderr)
            case _:
                assert_never(trained_on)
    return rest


def never_seen(crops: list[NoConsensus], files: list[CropFile], seen: Seen) -> list[NoConsensus]:
    """Return the crops that the model was not trained on; those that do not open are kept."""
    digest_of = {file.path: file.pixels_sha256 for file in files}
    return [crop for crop in crops if not seen.trained_on(digest_of[crop.path])]


if __name__ == "__main__":
    run_program(main)
