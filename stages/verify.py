"""Verify that the committed results are what the committed code produces.

    python -m stages.verify [REVISION]
    python -m stages.verify published/aidpath

The first clones the revision (a commit, branch, tag or experiment; HEAD by default) into a
temporary folder, runs `dvc repro` there with an empty cache, and compares the hash of each output
with the one in the committed dvc.lock. If the results were made on an x86-64 processor with AVX2
and this is one, all must be the same bytes (metrics/plots/made_with.json names the machine). On any
other processor the images, tables and the split must be the same, and mean probabilities and
measures agree within measured tolerances. The exit code is 0 if all is as it must be, and 1
otherwise.

The second does the same for a published model: at the commit that published it, with the
params.yaml and the dvc.lock in its folder, whose other files must be those that dvc.lock names.

Datasets and weights that the pipeline does not make are those of the committed results: taken from
this folder if they have not changed, and otherwise from DVC's cache.
"""

import tempfile
from pathlib import Path

from stages.base.arguments import argument_parser
from stages.base.errors import UserError, run_program
from stages.base.files import read_json
from stages.experiments.clone import (
    committed_contents,
    compare_hashes,
    compare_values,
    described,
    find_commit,
    find_publication,
    locked_outputs,
    made_under,
    make_clone,
    must_be_equal,
    published_contents,
    reproduce,
)
from stages.experiments.commands import find_repository
from stages.model.folder import CARD


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "revision",
        nargs="?",
        default="HEAD",
        help="a commit, branch, tag or experiment (default: HEAD), or a published model's folder",
    )
    revision = parser.parse_args().revision
    model = Path(revision) if (Path(revision) / CARD).is_file() else None
    with tempfile.TemporaryDirectory(prefix="glomeruli-verify-") as folder:
        find_repository()
        commit = find_publication(model) if model else find_commit(revision)
        clone = make_clone(commit, Path(folder) / "clone", model)
        committed = locked_outputs(clone)
        if model:
            contents = published_contents(model, committed)
            made = read_json(model / CARD)["arithmetic"]
        else:
            contents, made = committed_contents(commit, clone, committed), made_under(clone)
        reproduce(clone, made)
        found, here = locked_outputs(clone), made_under(clone)
        if must_be_equal(made, here):
            lines = compare_hashes(committed, found)
            verdict = "all {} outputs are the same, byte by byte"
        else:
            print(f"made with {described(made)}; here {described(here)}: compared by value")
            lines = compare_values(committed, found, contents, clone)
            verdict = "all {} outputs are the same or agree, made on another kind of processor"
    for word, line in lines:
        print(f"{word:>9}  {line}")
    if different := sum(word == "DIFFERENT" for word, _ in lines):
        raise UserError(
            f"{different} of {len(committed)} outputs are not what the committed code produces here"
        )
    print(verdict.format(len(committed)))


if __name__ == "__main__":
    run_program(main)
