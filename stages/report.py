"""Report whether a change makes the model better, as a page for a pull request.

    python -m stages.report main                     the workspace against main
    python -m stages.report main my-branch           a branch or commit against main

The verdict is by ranking, calibration and coverage on the same test glomeruli of all folds that
both sides have run (docs/statistics.md). The rest is `dvc params diff`, `dvc metrics diff` and
`dvc plots diff`, with the plots as pictures, which need neither a browser nor a network. Writes
report.md with the pictures, and summary.md without them, into the folder --output.

It runs no stage. If the workspace's results are not those of its code, parameters and data, the
report begins with the stages that must run, and the exit code is 1.
"""

import sys

from stages.base.arguments import add_output, argument_parser
from stages.base.errors import UserError, run_program
from stages.base.files import refuse_outputs, replacing
from stages.comparison.verdict import verdict
from stages.experiments.commands import find_repository, stages_to_run
from stages.experiments.diff_page import plots, remove_pictures, section

WRITTEN = ("report.md", "summary.md")
REMEDY = "Run `dvc repro`, commit dvc.lock and metrics/, and `dvc push`."


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("base", help="the commit, branch, tag or experiment to compare with")
    parser.add_argument("revision", nargs="?", help="what to compare (default: the workspace)")
    add_output(parser, "report")
    parser.add_argument(
        "--no-pictures",
        action="store_true",
        help="leave out the pictures, which show crops; the charts stay",
    )
    arguments = parser.parse_args()
    revisions = [arguments.base, *filter(None, [arguments.revision])]
    output = arguments.output
    refuse_outputs({str(output / name): output / name for name in WRITTEN})
    find_repository()
    remove_pictures(output / "report.md")
    # DVC can tell only for the workspace.
    stale = [] if arguments.revision else stages_to_run()
    summary = [
        f"# {arguments.revision or 'The workspace'} against {arguments.base}",
        "",
        *(
            [f"**Not the results of this state**: {', '.join(stale)} must run. {REMEDY}", ""]
            if stale
            else []
        ),
        *verdict(arguments.base, arguments.revision),
        *section("Parameters", "params", revisions),
        *section("Metrics", "metrics", revisions),
    ]
    for name, lines in {
        "summary.md": summary,
        "report.md": [*summary, *plots(revisions, output, pictures=not arguments.no_pictures)],
    }.items():
        with replacing(output / name) as file:
            file.write("\n".join(lines) + "\n")
    print(f"written to {output}/report.md, and without pictures to summary.md", file=sys.stderr)
    if stale:
        raise UserError(
            "the results are not of this code, these parameters and this data: "
            f"{', '.join(stale)} must run. {REMEDY}"
        )


if __name__ == "__main__":
    run_program(main)
