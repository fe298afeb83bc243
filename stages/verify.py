"""Show that the committed results are what the committed code produces: run it again elsewhere and
compare.

    python -m stages.verify [REVISION]

clones the revision (a commit, branch, tag or experiment; HEAD by default) into a temporary folder,
runs `dvc repro` there with an empty cache, and says of each output whether its hash is the one in
the committed dvc.lock. On an x86-64 processor with AVX2 all are, byte for byte, where the results
were made on one; metrics/plots/made_with.json says so. On any other the images, the tables of paths
and the split must still be the same, and probabilities and measures agree within what is stated.
The exit code is 0 if all is as it must be, 1 otherwise. It is also the way to check a result that
someone else has published. Datasets and weights that the pipeline does not make itself are those
that the revision was run on: from here where they are still the same, or else from DVC's cache.
"""

import tempfile
from pathlib import Path

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, run_program
from stages.experiments.clone import (
    committed_contents,
    described,
    find_commit,
    made_under,
    make_clone,
    must_be_equal,
    outputs,
    report,
    report_by_value,
    reproduce,
)
from stages.experiments.commands import find_repository


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "revision",
        nargs="?",
        default="HEAD",
        help="a commit, branch, tag or experiment (default: HEAD)",
    )
    revision = parser.parse_args().revision
    with tempfile.TemporaryDirectory(prefix="glomeruli-verify-") as folder:
        find_repository()
        commit = find_commit(revision)
        clone = make_clone(commit, Path(folder) / "clone")
        committed, made = outputs(clone), made_under(clone)
        contents = committed_contents(commit, clone, committed)
        reproduce(clone, made)
        found, here = outputs(clone), made_under(clone)
        if must_be_equal(made, here):
            different = report(committed, found)
            verdict = "all {} outputs are the same, byte by byte"
        else:
            print(f"made with {described(made)}; here {described(here)}: compared by value")
            different = report_by_value(committed, found, contents, clone)
            verdict = "all {} outputs are the same or agree, made on another kind of processor"
    if different:
        raise UserError(
            f"{different} of {len(committed)} outputs are not what the committed code produces here"
        )
    print(verdict.format(len(committed)))


if __name__ == "__main__":
    run_program(main)
