"""Git and DVC work on the folder that they are started for."""

import os
from pathlib import Path

from stages.experiments.commands import clone_at, output_of
from tests.repositories import git


def test_a_git_hook_does_not_lead_commands_to_its_own_repository(tmp_path, monkeypatch):
    """As `verify` does when it is run by a hook before a push."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "other"):
        git("init", "-q", "-b", "main", name)
        Path(name, "Größe").write_text(name)
        git("-C", name, "add", "-A")
        git("-C", name, "commit", "-q", "-m", name)
    os.chdir("mine")
    commit = output_of(["git", "rev-parse", "HEAD"]).strip()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    assert output_of(["git", "rev-parse", "HEAD"]).strip() == commit
    clone_at(".", commit, tmp_path / "clone")
    assert (tmp_path / "clone/Größe").read_text() == "mine"
    assert output_of(["git", "-C", "../other", "branch", "--show-current"]) == "main\n"


def test_what_git_prints_is_utf8_in_each_locale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C")
    git("init", "-q", "-b", "Größe")
    assert output_of(["git", "symbolic-ref", "--short", "HEAD"]) == "Größe\n"
