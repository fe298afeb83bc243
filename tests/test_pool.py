"""Results of several hospitals combined: by hand, and in simulated hospitals."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from stages.measures.intervals import proportion
from stages.measures.pooling import Effect, of_interval, of_shares, pool
from tests.repositories import run_program


def test_two_hospitals_by_hand():
    # Q = 2 * (1 + 1); the variance of the values is 2, of which 0.5 is within hospitals.
    found = pool([Effect(0.0, 0.5), Effect(2.0, 0.5)], as_shares=False)
    assert (found.fixed.value, found.random.value) == pytest.approx((1, 1))
    assert found.between**2 == pytest.approx(1.5, abs=1e-5)
    assert found.fixed.high == pytest.approx(1 + 1.96 * 0.5, abs=1e-3)
    assert found.random.high == pytest.approx(1 + 12.706, abs=1e-3)
    assert found.heterogeneity == pytest.approx(0.75)
    assert found.p == pytest.approx(0.0455, abs=1e-4)
    assert found.predicted is None


def test_a_further_hospital_by_hand():
    # The variance of -1, 0, 0 and 1 is 2/3, and that of their mean 1/6: t of 2 degrees is 4.303.
    found = pool([Effect(value, 0.1) for value in (-1.0, 0.0, 0.0, 1.0)], as_shares=False)
    reach = 4.3027 * np.sqrt(2 / 3 - 0.1 + 1 / 6)
    assert found.predicted.low == pytest.approx(-reach, abs=1e-3)


def test_shares_by_hand():
    # 19 of 20 and 20 of 20, with half a crop of each kind: 40 of 42 in all.
    one, other = of_shares([0.95, 1.0], [20, 20])
    assert (one.value, other.value) == pytest.approx((np.log(19.5 / 1.5), np.log(20.5 / 0.5)))
    assert one.variance == other.variance == pytest.approx(1 / (21 * 40 / 42 * 2 / 42))
    assert 0.95 < pool([one, other], as_shares=True).random.value < 1


def test_an_interval_gives_its_variance_back():
    assert of_interval(1.0, 1 - 1.96, 1 + 1.96).variance == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_intervals_hold(between):
    random, mean, hits = np.random.default_rng(0), 0.92, []
    for _ in range(100):
        true = expit(logit(mean) + between * random.standard_normal(7))
        found = [share_at(random, share) for share in true[:6]]
        pooled = pool(of_shares(*zip(*found)), as_shares=True)
        hits.append(
            (
                pooled.random.low <= mean <= pooled.random.high,
                pooled.predicted.low <= true[6] <= pooled.predicted.high,
            )
        )
    of_mean, of_further = np.mean(hits, axis=0)
    assert of_mean >= 0.9 and of_further >= 0.85


def share_at(random, true):
    """A share and its effective number of crops at a hospital of twelve slides that differ."""
    of_slides = random.beta(9 * true, 9 * (1 - true), 12)
    slides = np.repeat(np.arange(12), 1 + random.poisson(6, 12))
    found = proportion(random.random(len(slides)) < of_slides[slides], slides)
    return found.value, found.crops


def measures(sensitivity, **changes):
    limits = {"low": 0.8, "high": 1.0, "effective_crops": 40.0}
    intervals = dict.fromkeys(("roc_auc", "sensitivity", "specificity"), limits)
    # Matthews' coefficient can be negative.
    intervals["matthews"] = {"low": -0.2, "high": 0.9, "effective_crops": 40.0}
    return {
        "calibration_sha256": "a" * 64,
        "images": 300,
        "positives": 80,
        "roc_auc": 0.98,
        "sensitivity": sensitivity,
        "specificity": 0.95,
        "interval_95": intervals,
        "calibration_line": {
            name: {"value": 1.0, "low": 0.5, "high": 1.5} for name in ("intercept", "slope")
        },
    } | changes


@pytest.fixture
def hospitals(tmp_path, monkeypatch):
    """Measures of the hospitals a, b, c and d, of which d has no calibration line."""
    monkeypatch.chdir(tmp_path)
    for name, sensitivity in (("a", 0.9), ("b", 0.95), ("c", 1.0)):
        write(name, measures(sensitivity))
    write("d", measures(0.85, calibration_line={}))
    return [f"{name}.measures.json" for name in "abcd"]


def write(name, content):
    with open(f"{name}.measures.json", "w") as file:
        json.dump(content, file)


def test_the_program(hospitals, tmp_path):
    code, shown, said = run_program("pool", *reversed(hospitals), "--output", "out")
    assert code == 0, said
    found = json.loads((tmp_path / "out/pooled.json").read_text())
    assert [*found["hospitals"]] == ["a", "b", "c", "d"]
    assert found["measures"]["sensitivity"]["hospitals"] == 4
    slope = found["measures"]["slope"]
    assert (slope["hospitals"], slope["without"]) == (3, ["d"])
    assert "calibration slope has no interval, and is not combined, of: d" in said
    assert "sensitivity: 0.9" in shown and "at a further hospital" in shown
    assert "4 hospitals tell little" in said
    assert (tmp_path / "out/forest.png").is_file()


def test_what_cannot_be_combined_is_refused(hospitals, tmp_path):
    def refused(*files):
        code, _, said = run_program("pool", *files, "--output", "out")
        assert code == 1 and not (tmp_path / "out").exists()
        return said

    assert "at least two" in refused("a.measures.json")
    write("e", measures(0.9))
    assert "e and a have the same results" in refused("e.measures.json", "a.measures.json")
    write("e", measures(0.9, calibration_sha256="b" * 64))
    assert "different models" in refused("a.measures.json", "e.measures.json")
    write("e", measures(0.9, interval_95={}, calibration_line={}))
    assert "no measure has an interval at two" in refused("a.measures.json", "e.measures.json")
    write("e", measures(1.5))
    assert "sensitivity" in refused("a.measures.json", "e.measures.json")
    (tmp_path / "x").mkdir()
    (tmp_path / "a.measures.json").rename(tmp_path / "x/b.measures.json")
    assert "2 files have this name" in refused("b.measures.json", "x/b.measures.json")
    assert "none.json" in refused("b.measures.json", "none.json")
