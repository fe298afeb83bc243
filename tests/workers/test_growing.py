"""Rows of an array are computed once: a killed run goes on, and the previous output is copied."""

from pathlib import Path

import numpy as np
import pytest

from stages.workers import growing
from stages.workers.growing import growing_array, row_keys
from tests.conftest import PROJECT
from tests.repositories import ENVIRONMENT, dvc, git

OUTPUT = Path("data/squares/array.npy")


def grow(words, code="code", stop_before=None):
    """Write the length of each word three times; return the words that were computed."""
    computed = []
    with growing_array(OUTPUT, row_keys(code, words), (3,), np.float32) as rows:
        for row in rows.missing:
            if words[row] == stop_before:
                raise KeyboardInterrupt
            computed.append(words[row])
            rows.write(np.array([row]), np.full((1, 3), len(words[row])))
    assert np.load(OUTPUT).tolist() == [[len(word)] * 3 for word in words]
    assert not list(Path("data").glob("*.part"))
    return computed


def test_a_run_that_was_stopped_goes_on(workplace):
    with pytest.raises(KeyboardInterrupt):
        grow(["a", "bb", "ccc", "dddd"], stop_before="ccc")
    assert not OUTPUT.exists()
    # The third word is another one; the second is now the fourth, and its row another place.
    with pytest.raises(KeyboardInterrupt):
        grow(["a", "eeeee", "ffffff", "bb"], stop_before="ffffff")
    assert grow(["a", "bb", "ccc", "dddd"]) == ["bb", "ccc", "dddd"]


@pytest.mark.parametrize("words, code", [(["a", "bb"], "other"), (["a", "bb", "ccc"], "code")])
def test_rows_of_other_code_or_another_shape_are_not_taken(workplace, words, code):
    with pytest.raises(KeyboardInterrupt):
        grow(["a", "bb"], stop_before="bb")
    assert grow(words, code) == words


def test_a_row_that_is_not_on_the_disk_has_no_key(workplace, monkeypatch):
    """After a kill in the middle of a row, its key is that of no row."""
    rows = growing.GrowingArray(Path("a.part"), row_keys("", "ab"), (3,), np.float32)
    rows.write(np.array([0]), np.ones((1, 3)))
    rows.close()
    rows = growing.GrowingArray(Path("a.part"), row_keys("", "xb"), (3,), np.float32)
    rows.file.write(b"half")
    rows.file.flush()  # Killed here.
    rows = growing.GrowingArray(Path("a.part"), row_keys("", "ab"), (3,), np.float32)
    assert rows.missing.tolist() == [0, 1]


def test_an_array_that_lacks_a_row_is_refused(workplace):
    with (
        pytest.raises(RuntimeError, match="not all rows were written"),
        growing_array(OUTPUT, row_keys("", "ab"), (3,), np.float32) as rows,
    ):
        rows.write(np.array([1]), np.ones((1, 3)))
    assert not OUTPUT.exists()


def test_rows_that_would_now_be_others_are_all_computed(workplace, capsys):
    with pytest.raises(KeyboardInterrupt):
        grow(["a", "bb", "ccc", "dddd"], stop_before="dddd")

    def missing(values):
        keys = row_keys("code", ["a", "bb", "ccc", "dddd"])
        rows = growing.GrowingArray(Path("data/squares.part"), keys, (3,), np.float32)
        rows.check(2, lambda some: np.repeat(values[some, None], 3, axis=1))
        rows.close()
        return rows.missing.tolist()

    # The first and the last of the three are computed again.
    assert missing(np.array([1, 0, 3], np.float32)) == [3] and not capsys.readouterr().err
    assert missing(np.array([1, 2, 3.000001], np.float32)) == [0, 1, 2, 3]
    assert "have other bytes when computed again" in capsys.readouterr().err


STAGE = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
import numpy as np
from pathlib import Path
from stages.workers.growing import growing_array, row_keys
words = Path("words.txt").read_text().split()
with growing_array(Path("squares/array.npy"), row_keys("", words), (3,), np.float32) as rows:
    Path("computed.txt").write_text(" ".join(words[row] for row in rows.missing))
    values = np.array([[len(words[row])] * 3 for row in rows.missing]).reshape(-1, 3)
    rows.write(rows.missing, values)
"""
PIPELINE = """
stages:
  squares:
    cmd: python stage.py
    deps: [words.txt]
    outs: [squares, squares.keys.npy]
"""


@pytest.mark.slow
def test_rows_of_the_previous_output_are_copied_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stage.py").write_text(STAGE)
    Path("dvc.yaml").write_text(PIPELINE)
    Path(".gitignore").write_text("/computed.txt\n*.part\n")

    def run(words, *command):
        Path("words.txt").write_text(words)
        output = dvc(*command or ["repro"])
        assert [[len(word)] * 3 for word in words.split()] == np.load("squares/array.npy").tolist()
        return Path("computed.txt").read_text(), output

    git("init", "-q")
    dvc("init", "-q")
    assert run("a bb ccc")[0] == "a bb ccc"
    git("add", "-A")
    git("commit", "-q", "-m", "Words")
    # One is added, one removed, the others are in another order.
    assert run("ccc dddd a")[0] == "dddd"
    before = {file.name: file.read_bytes() for file in (*Path("squares").iterdir(),)}
    monkeypatch.setitem(ENVIRONMENT, "GLOMERULI_COMPUTE_ALL", "1")
    assert run("ccc dddd a", "repro", "--force", "--no-run-cache")[0] == "ccc dddd a"
    monkeypatch.delitem(ENVIRONMENT, "GLOMERULI_COMPUTE_ALL")
    assert before == {file.name: file.read_bytes() for file in Path("squares").iterdir()}
    # In a temporary folder, which shares the cache; the lock file is that of the commit.
    git("commit", "-q", "-a", "-m", "More words")
    Path("stage.py").write_text(STAGE.replace('"computed.txt"', f'"{tmp_path}/computed.txt"'))
    Path("words.txt").write_text("a eeeee")
    dvc("exp", "run", "--temp", "-q")
    assert Path("computed.txt").read_text() == "eeeee"
    # A damaged file is not trusted: hard links make this possible.
    cached = next(
        file
        for file in Path(".dvc/cache/files/md5").rglob("*")
        if file.is_file() and file.read_bytes() == Path("squares/array.npy").read_bytes()
    )
    cached.chmod(0o644)
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    computed, output = run("a ccc")
    assert computed == "a ccc"
    assert "damaged in DVC's cache; squares/array.npy is computed from nothing" in output
