"""List the labels that a pathologist should check again, as models find them unlikely.

    python -m stages.label_issues fold-0 fold-1 fold-2 fold-3 fold-4

finds them with cleanlab (confident learning: Northcutt, Jiang and Chuang, JAIR 70:1373, 2021) from
the test predictions of experiments, each by a model that has not seen the glomerulus. Writes
label_issues.csv, the most unlikely first, and label_issues.png into --output. It changes no label:
a correction is a line `path,label` in the table that the dataset's card names as `corrections`.
"""

import sys
from pathlib import Path

from stages.base.arguments import add_output, argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.base.files import refuse_outputs, write_table
from stages.dataset.card import read_dataset
from stages.experiments.inputs import digest
from stages.experiments.label_issues import LabelIssue, find_label_issues, out_of_fold
from stages.experiments.reading import named, read_experiments
from stages.images.archives import locate
from stages.images.opening import load_image
from stages.images.sheets import contact_sheet, save_png

ON_SHEET, PER_ROW = 40, 8


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "experiments", nargs="+", help="names of experiments, such as one for each fold"
    )
    rev_help = "the commit, branch or tag that the experiments start from"
    parser.add_argument("--rev", action="append", default=[], help=rev_help)
    add_output(parser, "label_issues")
    arguments = parser.parse_args()
    table, picture = (arguments.output / f"label_issues.{suffix}" for suffix in ("csv", "png"))
    refuse_outputs({str(path): path for path in (table, picture)})
    experiments = named(read_experiments(arguments.rev), arguments.experiments)
    for experiment in experiments:
        experiment.refuse_if_partial()
    names = sorted({str(experiment.params["data"]) for experiment in experiments})
    if len(names) > 1:
        raise UserError(f"the experiments are of several datasets: {', '.join(names)}")
    refuse(
        f"{path} has changed since experiment {one.name}, whose labels may differ; run it again"
        for one in experiments
        for path, was in one.data().items()
        if digest(path) not in (was, None)
    )
    dataset = read_dataset(names[0], asked=f"the experiments have data={names[0]}")
    paths, slides, y_true, y_score = out_of_fold(experiments)
    issues = find_label_issues(paths, slides, y_true, y_score)
    write_table(table, LabelIssue._fields, issues)
    crops = [
        load_image(locate(dataset.folder, issue.path)).convert("RGB") for issue in issues[:ON_SHEET]
    ]
    captions = [
        f"label {issue.label}, p = {issue.probability:.3f}\n{Path(issue.path).name}"
        for issue in issues[:ON_SHEET]
    ]
    sheet = contact_sheet(crops, captions, columns=min(PER_ROW, max(1, len(crops))))
    save_png(picture, sheet)
    written = f"{table} and {picture.name}"
    print(f"{len(issues)} of {len(paths)} labels are unlikely: {written}", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
