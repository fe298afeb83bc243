"""Say how good a model of your data is, and train the model to use: all folds, one report.

    python -m stages.assess -S data=mine -S model.step=efficientnet_lite0 -S train.ensemble=true

Each fold is a DVC experiment that is tested on slides that its model has not seen, and one more
experiment trains the model to use, an ensemble, on all slides. Experiments that have run are not
run again, so an interrupted assessment continues. The folder --output then has report.html, one
file with all results that needs no network and shows crops; label_issues.csv, the labels to check;
and model/, the model to use (`python -m stages.predict CROPS --model assessment/model`). The
workspace stays as it is.
"""

import argparse
import shlex
import sys

from stages.assessment.model import keep_model, refuse_other_files
from stages.assessment.report import Made, write_report
from stages.assessment.results import Assessment, assess
from stages.base.arguments import add_output, argument_parser
from stages.base.errors import UserError, refuse, run_program
from stages.base.files import refuse_outputs, write_table
from stages.comparison.verdict import verdict
from stages.dataset.card import read_dataset
from stages.evaluation.results import record, with_interval
from stages.experiments.clone import find_commit
from stages.experiments.commands import find_repository, output_of, refuse_unfit_paths
from stages.experiments.label_issues import LabelIssue
from stages.experiments.reading import Experiment, named, read_experiments
from stages.experiments.running import Runs
from stages.experiments.settings import Value, as_yaml
from stages.measures.scores import WITHIN_FOLDS, title

WRITTEN = ("report.html", "label_issues.csv")
SHOWN = (WITHIN_FOLDS, "sensitivity", "specificity")
# Parameters that this program sets, and those that change no result.
OWN, UNUSED = ("split.fold", "split.test"), ("train.resume", "climb.")


def main() -> None:
    arguments = parse_arguments()
    output, model = arguments.output, arguments.output / "model"
    refuse_outputs({str(output / name): output / name for name in WRITTEN})
    refuse_other_files(model)
    refuse_unfit_paths(".")
    find_repository(whole=True)
    if arguments.against:
        find_commit(arguments.against)
    runs = Runs(arguments.set_param)
    if as_yaml(runs.wanted["train.ensemble"]) != "true":
        raise UserError(
            "train.ensemble: it must be true (`-S train.ensemble=true`): the model to use, trained "
            "on all slides, is an ensemble, and the folds must measure the same kind of model"
        )
    dataset = read_dataset(str(runs.wanted["data"]))
    folds, final = run_experiments(runs)
    found = assess(folds)
    against = verdict(arguments.against, folds[0].commit) if arguments.against else []
    write_table(output / "label_issues.csv", LabelIssue._fields, found.issues)
    keep_model(final, model)
    command = shlex.join(["python", "-m", "stages.assess", *sys.argv[1:]])
    made = Made(command, _commit(), folds, final, model, against)
    write_report(output / "report.html", found, dataset, made)
    print_summary(found)
    print(f"{output}/report.html is the report; the model to use is {model}:")
    print(f"python -m stages.predict CROPS --model {shlex.quote(str(model))}")


def parse_arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    add, how = parser.add_argument, "as in `dvc exp run`"
    add("-S", "--set-param", action="append", default=[], metavar="NAME=VALUE", help=how)
    against = "also compare with this commit, branch, tag or experiment"
    add("--against", metavar="REVISION", help=against)
    add_output(parser, "assessment")
    arguments = parser.parse_args()
    refuse(
        f"-S {override}: the assessment sets {name} itself"
        for override in arguments.set_param
        for name in OWN
        if override.partition("=")[0] == name
    )
    return arguments


def run_experiments(runs: Runs) -> tuple[list[Experiment], Experiment]:
    """Run what has not run; return the experiments of the folds, and that of all slides."""
    base = f"{runs.wanted['data']}-{runs.wanted['model.step']}"
    names = []
    for fold in range(int(as_yaml(runs.wanted["split.folds"]))):
        changes: dict[str, Value] = {"split.fold": fold, "split.test": "fold"}
        names.append(runs.run(f"{base}-fold{fold}", changes, UNUSED).name)
        print(f"fold {fold}: experiment {names[-1]}", flush=True)
    final = runs.run(f"{base}-all", {"split.test": "none"}, (*UNUSED, "split.fold")).name
    print(f"all slides: experiment {final}", flush=True)
    experiments = read_experiments()
    found = [named(experiments, [name])[0] for name in (*names, final)]
    for experiment in found:
        experiment.refuse_if_partial()
    return found[:-1], found[-1]


def print_summary(found: Assessment) -> None:
    """Print the main measures with their intervals."""
    for name in SHOWN:
        print(f"{title(name)}: {with_interval(record(found.estimates[name]))}")
    sample = found.tested.sample
    print(
        f"on {len(sample.y_true)} glomeruli ({int(sample.y_true.sum())} globally sclerotic) of "
        f"{len(set(sample.slides.tolist()))} slides, each predicted by a model that has not seen it"
    )


def _commit() -> str:
    """Return the commit that the experiments start from, and whether tracked files differ."""
    commit = output_of(["git", "rev-parse", "HEAD"]).strip()
    changed = output_of(["git", "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}, with uncommitted changes" if changed else commit


if __name__ == "__main__":
    run_program(main)
