"""Compare experiments over folds and seeds: which setting is better on new patients, and how sure?

    python -m stages.compare                                   all experiments that start from HEAD
    python -m stages.compare --where data=aidpath --by model.step
    python -m stages.compare --by pad.mode,pad.size --against white,64 --metric average_precision
    python -m stages.compare --by model.trainable --against frozen --margin 0.02

Experiments with the same values of the parameters in --by are a setting; split.fold, split.seed,
split.validation_offset and train.seed are its repetitions. The test predictions of the folds are
pooled: each glomerulus is predicted once, by a model that has not seen its slide. Each setting is
compared with --against on the same glomeruli, with an interval of the difference over slides, or
over sites with split.by site. ROC AUC is that of the pairs of one fold. With --margin a setting is
also tested for non-inferiority. Writes comparison.md, settings.csv, differences.csv and
comparison.png into the folder --output.
"""

import argparse
import math
import sys

from stages.base.arguments import add_output, argument_parser
from stages.base.errors import run_program
from stages.base.files import refuse_outputs, replacing, write_table
from stages.comparison.chart import draw_comparison
from stages.comparison.differences import SettingDifference, compare, deciding
from stages.comparison.page import comparison_page, write_settings
from stages.comparison.settings import choose, find_reference, group, split_names, varying
from stages.experiments.reading import read_experiments
from stages.measures.scores import MEASURES

WRITTEN = ("comparison.md", "settings.csv", "differences.csv", "comparison.png")


def main() -> None:
    arguments = parse_arguments()
    output = arguments.output
    refuse_outputs({str(output / name): output / name for name in WRITTEN})
    experiments = choose(
        read_experiments(arguments.rev, arguments.num), arguments.experiments, arguments.where
    )
    by = arguments.by if arguments.by is not None else varying(experiments)
    settings = group(experiments, by)
    reference = find_reference(settings, by, arguments.against)
    measured, found = compare(settings, reference, arguments.metric, arguments.margin)
    text = comparison_page(settings, by, arguments.metric, measured, found)
    print(text)
    with replacing(output / "comparison.md") as file:
        file.write(text)
    write_settings(output / "settings.csv", settings, by, measured)
    write_table(output / "differences.csv", SettingDifference._fields, found)
    decides = deciding(arguments.metric, settings)
    draw_comparison(output / "comparison.png", settings, decides, measured)
    print(f"written to {output}/", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("experiments", nargs="*", help="names of experiments (default: all that start from --rev)")
    add("--by", type=split_names, help="grouping parameters (default: all that vary)")
    where_help = "only experiments with this value"
    add("--where", action="append", default=[], metavar="NAME=VALUE", help=where_help)
    against_help = "the setting to compare with (default: that of params.yaml)"
    add("--against", metavar="VALUE[,VALUE]", help=against_help)
    metric_help = "the measure of the verdicts (default: roc_auc, of the pairs of one fold)"
    add("--metric", choices=MEASURES, default="roc_auc", help=metric_help)
    margin_help = "also say which settings are non-inferior: worse by less than this, if at all"
    add("--margin", type=_margin, help=margin_help)
    rev_help = "the commit, branch or tag that the experiments start from"
    add("--rev", action="append", default=[], help=rev_help)
    add("--num", type=int, default=1, help="how many commits to go back from there (default: 1)")
    add_output(parser, "comparison")
    return parser.parse_args()


def _margin(text: str) -> float:
    try:
        margin = float(text)
    except ValueError:
        margin = math.nan
    if not 0 < margin < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and below 1")
    return margin


if __name__ == "__main__":
    run_program(main)
