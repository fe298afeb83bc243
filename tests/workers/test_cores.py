"""Work on all cores: its order, and that it does not run away from who takes its results."""

import subprocess
import sys
import threading
import time

import pytest

from stages.workers import cores
from stages.workers.cores import ahead, on_all_cores
from tests.repositories import PROJECT


def test_results_come_in_the_order_of_the_items_under_a_bar(capsys):
    def late(number):
        time.sleep(0.01 * (number % 3))
        return number

    assert list(on_all_cores(late, [(number,) for number in range(20)], "working")) == list(
        range(20)
    )
    assert "working" in capsys.readouterr().err


def test_no_more_is_computed_than_may_wait():
    begun = []
    results = ahead(begun.append, ((number,) for number in range(100)), waiting=5)
    while len(begun) < 5:  # Before any is taken.
        time.sleep(0.01)
    for taken in range(11):
        if taken:
            next(results)
        time.sleep(0.02)  # More might be begun, and must not.
        assert len(begun) <= 5 + taken
    results.close()
    done = len(begun)
    time.sleep(0.1)
    assert len(begun) == done < 20


def test_an_error_comes_in_its_place_and_ends_the_rest():
    begun = []

    def some(number):
        begun.append(number)
        if number == 3:
            raise ValueError("3")
        time.sleep(0.01)
        return number

    before, results = (
        threading.active_count(),
        ahead(some, ((number,) for number in range(1000)), waiting=8),
    )
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)
    assert len(begun) < 20 and threading.active_count() == before


def test_python_ends_at_once_where_nothing_was_taken():
    """As when a model does not load while crops are opened for it."""
    code = """
import atexit, sys, time
from stages.workers.cores import ahead
done = []
atexit.register(lambda: print(len(done)))
results = ahead(lambda: time.sleep(0.1) or done.append(1), [()] * 1000, waiting=1000)
sys.exit("error: no model")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: no model\n")
    assert int(done.stdout) < 100  # Of a thousand.


def test_nothing_to_do():
    assert list(ahead(abs, [])) == [] and list(on_all_cores(abs, [], "nothing")) == []


def test_large_pictures_wait_for_room_and_the_result_is_the_same(monkeypatch):
    """Never two at a time, whatever the number of threads; one may ask twice."""
    monkeypatch.setattr(cores.joblib, "cpu_count", lambda: 4)
    inside, most = [], []

    def item(number):
        cores.take_room(cores.LARGE + 1)
        cores.take_room(cores.LARGE + 1)
        inside.append(number)
        most.append(len(inside))
        inside.remove(number)
        return number

    assert list(cores.ahead(item, [(number,) for number in range(8)])) == list(range(8))
    assert max(most) == 1
    cores.take_room(10 * cores.LARGE)  # Elsewhere nobody waits.
