"""What CI runs: the workflow as its linters want it, and its scripts, on a pull request between two commits."""

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
from urllib.parse import parse_qs

import pytest

from stages.base.parameters import read_yaml
from tests.repositories import ENVIRONMENT, PROJECT, dvc, git, set_params

WORKFLOW = PROJECT / ".github/workflows/ci.yml"


def test_zizmor_finds_nothing_in_the_workflow():
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--persona", "pedantic", "--no-progress", WORKFLOW]
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
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step.get("uses", "actions/a@" + "0" * 40)), step
    with_keys = [step["run"] for step in steps if "AWS" in str(step)]
    assert with_keys == ['.ci/fetch "$BASE" "$HEAD"'] and "AWS" not in str([job.get("env") for job in workflow["jobs"].values()])
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())


@pytest.mark.parametrize("script", sorted((PROJECT / ".ci").iterdir()), ids=lambda path: path.name)
def test_scripts_are_read_by_bash(script):
    assert os.access(script, os.X_OK) or script.name == "run"
    subprocess.run(["bash", "-n", script], check=True)


def test_the_report_is_against_where_a_branch_began(reproduced, tmp_path, monkeypatch):
    """Two branches of a bare repository: the comment tells of what one did, and not of what the other did since."""
    work = shutil.copytree(reproduced, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(work)
    main = git("branch", "--show-current").strip()
    git("checkout", "-q", "-b", "change")
    set_params({"evaluate.threshold": "youden"})
    git("commit", "-q", "-a", "-m", "Another rule")
    git("checkout", "-q", main)
    set_params({"evaluate.target": 0.5})
    git("commit", "-q", "-a", "-m", "Of somebody else, since")
    git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    git("clone", "-q", str(tmp_path / "bare.git"), str(tmp_path / "runner"))
    monkeypatch.chdir(tmp_path / "runner")
    # As a remote would bring it.
    dvc("cache", "dir", "--local", str(work / ".dvc/cache"))
    for script in (".ci/fetch", ".ci/report"):
        command = ["bash", script, f"origin/{main}", "origin/change"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "no DVC remote" in done.stdout or script != ".ci/fetch"
    summary = Path("report/summary.md").read_text()
    assert summary.startswith("# The workspace against base\n\n**") and "](" not in summary
    assert re.findall(r"^\| params.yaml \| ([\w.]+)", summary, flags=re.MULTILINE) == ["evaluate.threshold"]
    assert Path("report/report.md").read_text().startswith(summary.rstrip("\n"))
    assert git("rev-parse", "HEAD") == git("rev-parse", "origin/change")


class Notes(BaseHTTPRequestHandler):
    """The notes of a merge request, as GitLab's API has them."""

    notes: ClassVar[list[dict]] = []

    def do_GET(self):
        self.answer(json.dumps(self.notes))

    def do_POST(self):
        self.notes.append({"id": len(self.notes) + 1, "body": self.body()})
        self.answer("{}")

    def do_PUT(self):
        self.notes[int(self.path.rsplit("/", 1)[1]) - 1]["body"] = self.body()
        self.answer("{}")

    def body(self):
        return parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["body"][0]

    def answer(self, text):
        assert self.headers["PRIVATE-TOKEN"] == "secret" and self.path.startswith("/projects/7/merge_requests/3/notes")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def test_one_comment_on_gitlab_is_made_and_renewed(tmp_path):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    server = HTTPServer(("127.0.0.1", 0), Notes)
    Thread(target=server.serve_forever, daemon=True).start()
    Notes.notes[:] = [{"id": 1, "body": "Of a colleague"}]
    address = {"CI_API_V4_URL": f"http://127.0.0.1:{server.server_port}", "CI_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "3"}
    summary = tmp_path / "summary.md"

    def comment(**variables):
        command = ["bash", str(PROJECT / ".ci/comment-gitlab"), str(summary)]
        done = subprocess.run(command, env=ENVIRONMENT | address | variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    summary.write_text('**Better** & "more"')
    assert "no REPO_TOKEN" in comment() and len(Notes.notes) == 1
    comment(REPO_TOKEN="secret")
    summary.write_text("**Worse**")
    comment(REPO_TOKEN="secret")
    server.shutdown()
    assert [note["body"] for note in Notes.notes] == ["Of a colleague", "<!-- stages.report -->\n\n**Worse**"]
