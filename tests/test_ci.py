"""What CI runs: the workflow as its linters want it, and its scripts, on a pull request to a team
with its own data.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from stages.base.errors import UserError
from stages.base.parameters import read_yaml
from stages.comparison.verdict import verdict
from stages.experiments.commands import stages_to_run
from stages.experiments.reading import outputs_of, stages_in
from tests.repositories import ENVIRONMENT, PROJECT, dvc, git, set_params, stages_run

WORKFLOW = PROJECT / ".github/workflows/ci.yml"
GITLAB = PROJECT / ".gitlab-ci.yml"
SCRIPTS = [path for path in sorted((PROJECT / ".ci").iterdir()) if path.suffix != ".py"]


def test_zizmor_finds_nothing_in_the_workflow():
    command = [
        Path(sys.executable).with_name("zizmor"),
        "--offline",
        "--persona",
        "pedantic",
        "--no-progress",
        WORKFLOW,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing_in_the_workflow():
    if not shutil.which("actionlint"):
        pytest.skip("actionlint is not installed")
    subprocess.run(["actionlint"], cwd=PROJECT, check=True)


def test_actions_are_pinned_and_keys_are_in_one_step():
    workflow = read_yaml(WORKFLOW)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        assert re.fullmatch(
            r"actions/[a-z-]+@[0-9a-f]{40}", step.get("uses", "actions/a@" + "0" * 40)
        ), step
    with_keys = [step["run"] for step in steps if "AWS" in str(step)]
    assert with_keys == ['.ci/fetch "$BASE" "$HEAD"'] and "AWS" not in str(
        [job.get("env") for job in workflow["jobs"].values()]
    )


def test_a_busy_machine_is_no_failure():
    """The slowest run of the suite that is known took 58 minutes."""
    jobs = read_yaml(WORKFLOW)["jobs"]
    assert (
        all(jobs[name]["timeout-minutes"] >= 2 * 58 for name in ("tests", "report"))
        and jobs["comment"]["timeout-minutes"]
    )
    assert read_yaml(GITLAB)["default"]["timeout"] == "3 hours"


def test_who_may_comment_runs_no_code_of_the_branch():
    jobs = read_yaml(WORKFLOW)["jobs"]
    writing = [name for name, job in jobs.items() if "write" in job["permissions"].values()]
    checkout, download, comment = jobs["comment"]["steps"]
    assert (
        writing == ["comment"]
        and checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    )
    assert "download-artifact" in download["uses"] and download["with"]["path"].startswith(
        "${{ runner.temp }}"
    )
    assert comment["run"] == 'python3 -I .ci/comment.py "$RUNNER_TEMP/report/summary.md"'
    gitlab = read_yaml(GITLAB)
    assert [name for name in gitlab if "report-comment" in str(gitlab[name])] == ["comment"]
    assert 'git fetch --quiet --depth 1 origin "$CI_DEFAULT_BRANCH"' in gitlab["comment"]["script"]


def test_what_the_report_shows_is_gone_in_a_day():
    (upload,) = (
        step
        for step in read_yaml(WORKFLOW)["jobs"]["report"]["steps"]
        if "upload" in step.get("uses", "")
    )
    assert (
        upload["with"]["retention-days"] == 1
        and read_yaml(GITLAB)["report"]["artifacts"]["expire_in"] == "1 day"
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_read_by_bash(script):
    assert os.access(script, os.X_OK) or script.name == "run"
    subprocess.run(["bash", "-n", script], check=True)


@pytest.fixture(scope="module")
def team(reproduced, tmp_path_factory):
    """A folder with bare.git, a team's repository with a dataset of its own, and store, its DVC
    remote.

    Branch `change` has another threshold rule with its results, `stale` has it without, and `main`
    has gone on since. The commit where they began has two experiments, `fold-1` on another fold and
    `other` with the threshold rule of `change`.
    """
    folder = tmp_path_factory.mktemp("team")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shutil.copytree(reproduced, folder / "work", symlinks=True))
        git("branch", "-M", "main")
        # As if it were their own: not drawn by a stage. Its path and so all results stay.
        git("rm", "-q", "data/dvc.lock", "data/dvc.yaml")
        dvc("add", "data/demo")
        dvc("remote", "add", "-d", "store", str(folder / "store"))
        git("add", "-A")
        git("commit", "-q", "-m", "Our own")
        dvc("push", "--quiet", "--with-deps", "dvc.yaml")
        for branch in ("change", "stale"):
            git("checkout", "-q", "-b", branch, "main")
            set_params({"calibrate.threshold_rule": "youden"})
            if branch == "change":
                dvc("repro")
                dvc("push", "--quiet", "--with-deps", "dvc.yaml")
            git("commit", "-q", "-a", "-m", "Another rule")
        git("checkout", "-q", "main")
        set_params({"calibrate.target_sensitivity": 0.5})
        git("commit", "-q", "-a", "-m", "Of somebody else, since")
        git("clone", "-q", "--bare", ".", str(folder / "bare.git"))
        git("remote", "add", "origin", str(folder / "bare.git"))
        git("checkout", "-q", "main~1")
        dvc("exp", "run", "--temp", "-n", "fold-1", "-S", "split.fold=1")
        dvc("exp", "push", "origin", "fold-1")
        commit = git("rev-parse", "main~1").strip()
        git("push", "-q", "origin", f"change:refs/exps/{commit[:2]}/{commit[2:]}/other")
    return folder


def report_on(branch, team, runner, *, address=None, **variables):
    """Run the scripts on `branch` in a new clone, `runner`, and enter it; return the report's exit
    code and all output.

    Args:
        address: of the DVC remote, instead of the team's.
    """
    git("clone", "-q", str(team / "bare.git"), str(runner))
    os.chdir(runner)
    if address:
        dvc("remote", "modify", "--local", "store", "url", address)
    said = ""
    for script in (".ci/fetch", ".ci/report"):
        command = ["bash", script, "origin/main", f"origin/{branch}"]
        done = subprocess.run(command, env=ENVIRONMENT | variables, capture_output=True, text=True)
        said += done.stdout + done.stderr
        assert done.returncode == 0 or script == ".ci/report", said
    assert (
        "Traceback" not in said and not stages_run(said) and not Path("models/model.keras").exists()
    ), said
    assert not Path("data/demo").exists() and git("rev-parse", "HEAD") == git(
        "rev-parse", f"origin/{branch}"
    )
    return done.returncode, said


def predictions_of(experiment):
    """Return where DVC's cache keeps the test predictions of an experiment."""
    (ref,) = git("for-each-ref", "--format=%(refname)", f"refs/exps/??/*/{experiment}").split()
    md5 = outputs_of(stages_in(git("show", f"{ref}:dvc.lock")))["metrics/predictions.csv"]
    return Path(".dvc/cache/files/md5", md5[:2], md5[2:])


def test_the_report_is_of_committed_results_and_against_where_a_branch_began(
    team, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, said = report_on("change", team, tmp_path / "runner")
    assert code == 0, said
    summary = Path("report/summary.md").read_text()
    assert summary.startswith("# The workspace against base\n\n**") and "](" not in summary
    assert "neither in git" not in summary and "must run" not in summary
    assert re.findall(r"^\| params.yaml \| ([\w.]+)", summary, flags=re.MULTILINE) == [
        "calibrate.threshold_rule"
    ]
    assert re.search(r"Fold 1 ran for base \(\w+\) only\.", summary)
    page = Path("report/report.md").read_text()
    assert (
        page.startswith(summary.rstrip("\n"))
        and "metrics/plots/mistakes.png shows crops: not shown." in page
    )
    shown = {path.name for path in Path("report/plots").iterdir()}
    assert "roc.png" in shown and not any(
        name.startswith(("mistakes", "attention", "padding")) for name in shown
    )

    # The remote may lack what an experiment predicted.
    predictions_of("fold-1").unlink()
    said = " ".join(verdict("base", None))
    assert re.search(r"Fold 1 ran for base \(\w+\), but the results are not here\.", said)


def test_what_is_not_reproduced_fails_and_is_named(team, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = report_on("stale", team, tmp_path / "runner", PICTURES="true")
    stale = "the results are not of this code, these parameters and this data: calibrate must run"
    assert code == 1 and f"error: {stale}" in said
    assert (
        "\n\n**Not the results of this state**: calibrate must run. Run `dvc repro`"
        in Path("report/summary.md").read_text()
    )
    assert predictions_of("fold-1").exists() and not predictions_of("other").exists()
    assert {"mistakes-0.png", "mistakes-1.png"} <= {
        path.name for path in Path("report/plots").iterdir()
    }


def test_a_fork_without_keys_is_told_what_is_missing(team, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = report_on(
        "change",
        team,
        tmp_path / "runner",
        address="s3://bucket/store",
        AWS_EC2_METADATA_DISABLED="true",
    )
    assert code == 0, said
    (line,) = re.findall(r"^\*\*.*", Path("report/summary.md").read_text(), flags=re.MULTILINE)
    assert line.startswith(
        "**Not comparable**: metrics/predictions.csv of base is neither in git nor in DVC's cache"
    )
    assert "the keys of the remote, which the run of a fork does not have" in line


def test_stages_whose_data_is_elsewhere_are_named_too(team, tmp_path, monkeypatch):
    """In a clone without any data: what a branch has changed in its code, data, dataset or
    committed metrics.
    """
    git("clone", "-q", str(team / "bare.git"), str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    git("checkout", "-q", "--detach", "origin/change")
    assert stages_to_run() == []
    for file, old, new, stage in (
        ("stages/pad.py", "import", "import  ", "pad"),
        ("data/demo.dvc", "md5: ", "md5: 0", "crops"),
        ("params.yaml", "data: demo", "data: kpmp", "crops"),
        ("params.yaml", "external: []", "external: [kpmp]", "external@kpmp"),
        ("metrics/test.json", "0.", "0.1", "evaluate"),
    ):
        text = Path(file).read_text()
        assert old in text
        Path(file).write_text(text.replace(old, new, 1))
        assert stage in stages_to_run(), file
        Path(file).write_text(text)
    Path("dvc.yaml").write_text("stages: [")
    with pytest.raises(UserError, match="dvc.yaml"):
        stages_to_run()


class Comments(BaseHTTPRequestHandler):
    """The comments on pull request 3 of team/glomeruli as GitHub's API has them, and the notes of
    GitLab's; two a page.
    """

    comments: ClassVar[list[dict]] = []

    def do_GET(self):
        if self.path == "/user":
            return self.answer({"id": 1})
        page = int(parse_qs(urlsplit(self.path).query)["page"][0])
        self.answer(self.comments[2 * page - 2 : 2 * page])

    def do_POST(self):
        me = {"id": 1, "login": "github-actions[bot]"}
        self.comments.append(
            {"id": len(self.comments) + 1, "user": me, "author": me, "body": self.body()}
        )
        self.answer({})

    def renew(self):
        self.comments[int(self.path.rsplit("/", 1)[1]) - 1]["body"] = self.body()
        self.answer({})

    do_PUT = do_PATCH = renew

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]

    def answer(self, content):
        if self.headers["PRIVATE-TOKEN"]:
            assert self.headers["PRIVATE-TOKEN"] == "secret"
            assert self.path == "/user" or self.path.startswith(
                "/projects/7/merge_requests/3/notes"
            )
            assert self.command != "PATCH"
        else:
            assert self.headers["Authorization"] == "Bearer secret" and self.command != "PUT"
            number = "" if self.command == "PATCH" else "3/"
            assert self.path.startswith(f"/repos/team/glomeruli/issues/{number}comments")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def comment(tmp_path):
    """A function that comments with a text, by the variables of a service but for its address; it
    returns what was printed.
    """
    server = HTTPServer(("127.0.0.1", 0), Comments)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    colleague, bot = {"id": 2, "login": "mallory"}, {"id": 1, "login": "github-actions[bot]"}
    Comments.comments[:] = [
        {"id": 1, "user": bot, "author": bot, "body": "Of another workflow"},
        {
            "id": 2,
            "user": colleague,
            "author": colleague,
            "body": "<!-- stages.report -->\n\nOf a colleague",
        },
        {"id": 3, "user": colleague, "author": colleague, "body": "On a page of its own"},
    ]
    file = tmp_path / "summary.md"

    def run(text, **variables):
        file.write_text(text)
        command = [sys.executable, "-I", str(PROJECT / ".ci/comment.py"), str(file)]
        environment = {"GITHUB_API_URL": address, "CI_API_V4_URL": address} | variables
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    server.shutdown()
    server.server_close()


GITHUB_RUN = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "team/glomeruli",
    "NUMBER": "3",
    "GH_TOKEN": "secret",
}
GITLAB_RUN = {"CI_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "3", "REPO_TOKEN": "secret"}


@pytest.mark.parametrize("variables", [GITHUB_RUN, GITLAB_RUN], ids=["github", "gitlab"])
def test_one_comment_is_made_and_renewed_and_no_other_touched(comment, variables):
    others = [dict(one) for one in Comments.comments]
    comment('**Better** & "more"', **variables)
    comment("**Worse**", **variables)
    assert Comments.comments[:3] == others
    assert [one["body"] for one in Comments.comments[3:]] == ["<!-- stages.report -->\n\n**Worse**"]


def test_a_fork_on_gitlab_does_not_comment(comment):
    assert (
        "no REPO_TOKEN" in comment("**Better**", **GITLAB_RUN | {"REPO_TOKEN": ""})
        and len(Comments.comments) == 3
    )


def test_a_comment_of_a_branch_notifies_nobody_and_commands_nothing(comment):
    comment("@everyone\n/merge\n  /approve\n| a/b | x@y |\n" + "é" * 100_000, **GITLAB_RUN)
    body = Comments.comments[-1]["body"]
    assert (
        "\n@\u200beveryone\n\u200b/merge\n  \u200b/approve\n| a/b | x@\u200by |\n" in body
        and len(body) < 65_536
    )
    assert "Cut here" in body
