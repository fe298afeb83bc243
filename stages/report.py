"""Say in a page whether a change makes the model better, and what it does to parameters and plots: a pull request's comment.

    python -m stages.report main                     the workspace against main
    python -m stages.report main my-branch           a branch or commit against main

The verdict is by ROC AUC on the same test glomeruli, with an interval of the difference from a bootstrap over slides. The rest
is `dvc params diff`, `dvc metrics diff` and `dvc plots diff`, its plots drawn as pictures, so that neither a browser nor a
network is needed to see it. Writes report.md with the pictures, and summary.md without them, into the folder --output.
"""

import sys
from pathlib import Path

from stages.base.arguments import argument_parser, output_folder
from stages.base.errors import run_program
from stages.base.files import refuse_outputs, replacing
from stages.comparison.verdict import verdict
from stages.experiments.commands import find_repository
from stages.experiments.diff_page import plots, remove_pictures, section

WRITTEN = ("report.md", "summary.md")


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("base", help="the commit, branch, tag or experiment to compare with")
    parser.add_argument("revision", nargs="?", help="what to compare (default: the workspace)")
    parser.add_argument("--output", type=output_folder, default=Path("report"), help="the folder to write to (default: report)")
    arguments = parser.parse_args()
    revisions = [arguments.base, *filter(None, [arguments.revision])]
    output = arguments.output
    refuse_outputs({str(output / name): output / name for name in WRITTEN})
    find_repository()
    remove_pictures(output / "report.md")
    summary = [
        f"# {arguments.revision or 'The workspace'} against {arguments.base}",
        "",
        *verdict(arguments.base, arguments.revision),
        *section("Parameters", "params", revisions),
        *section("Metrics", "metrics", revisions),
    ]
    for name, lines in {"summary.md": summary, "report.md": [*summary, *plots(revisions, output)]}.items():
        with replacing(output / name) as file:
            file.write("\n".join(lines) + "\n")
    print(f"written to {output}/report.md, and without pictures to summary.md", file=sys.stderr)


if __name__ == "__main__":
    run_program(main)
