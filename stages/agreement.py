"""Compare the labels of two or more readers, as saved on the page of `predict --html`.

    python -m stages.agreement page-labels-AB.csv page-labels-CD.csv
    python -m stages.agreement *-labels-*.csv --output readers.csv

prints Cohen's kappa of each pair of readers and Fleiss' kappa of all, with intervals over slides. A
reader may have several files, such as one for each slide. --output writes a table with a column for
each reader, which the card of a dataset can name as `columns.readers` (docs/datasets.md).
"""

from collections import Counter
from pathlib import Path

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, run_program, warn
from stages.base.files import refuse_outputs, write_table
from stages.base.parameters import quoted
from stages.dataset.card import as_key
from stages.dataset.readings import NOT_READ, as_cells
from stages.dataset.slides import written_alike
from stages.evaluation.readers import crops_read, print_agreement
from stages.intake.readers import warn_of_opposite
from stages.intake.saved_labels import by_crop, read_saved_labels


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="tables that the page has saved")
    parser.add_argument("--output", type=Path, help="write a table with a column for each reader")
    arguments = parser.parse_args()
    if arguments.output:
        refuse_outputs({"--output": arguments.output}, arguments.files)
    labels = [one for file in arguments.files for one in read_saved_labels(file)]
    readers = sorted({one.reader for one in labels})
    if len(readers) < 2:
        raise UserError(
            f"{arguments.files[0]}: all labels are by {readers[0]}; give the tables of two readers"
        )
    warn("readers that are kept apart, and may be one", written_alike(readers))
    words: tuple[dict[str, str], dict[str, str]] = {}, {}
    for one in labels:
        words[one.label][as_key(one.word)] = one.word
    for label, own in enumerate(words):
        if len(own) > 1:
            said = " and ".join(map(quoted, sorted(own.values())))
            raise UserError(f"class: label {label} is {said}; the words must be the same in all")
    if both := words[0].keys() & words[1].keys():
        said = quoted(words[0][both.pop()])
        raise UserError(f"class: {said} is label 0 in one table and 1 in another; keep one of them")
    crops = by_crop(labels)
    readings = {
        path: tuple(
            next((one.label for one in own if one.reader == reader), NOT_READ) for reader in readers
        )
        for path, own in crops.items()
    }
    slides = {path: own[0].slide for path, own in crops.items()}
    # A crop may be in several tables of a reader, such as an earlier one; it counts once.
    # It is blind only if all of them are.
    read = Counter(reader for reader, _ in {(one.reader, one.path) for one in labels})
    not_blind = {(one.reader, one.path) for one in labels if not one.blind}
    seen = Counter(reader for reader, _ in not_blind)
    for reader in readers:
        print(f"{reader}: {read[reader]} crops, {read[reader] - seen[reader]} of them blind")
        if seen[reader]:
            warn(
                f"{reader} had seen predictions of {seen[reader]} crops: readers who see the same "
                "predictions agree more"
            )
    warn_of_opposite("the tables", readers, readings)
    found = crops_read(readers, list(readings.values()), list(slides.values()))
    print_agreement(found.agreement())
    if arguments.output:
        with_slides = all(slides.values())
        rows = (
            [path, *[slides[path]] * with_slides, *as_cells(row)] for path, row in readings.items()
        )
        write_table(arguments.output, ["name", *["slide"] * with_slides, *readers], rows)
        print(f"written: {arguments.output}")


if __name__ == "__main__":
    run_program(main)
