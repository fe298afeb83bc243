"""The results of a test set: measures with intervals, by site, and curves."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from stages.base.files import write_json
from stages.evaluation.curves import write_curves, write_slides
from stages.evaluation.results import as_tested, by_site, measure, print_results, report_sites
from stages.measures.intervals import estimate, proportion
from stages.measures.scores import MEASURES, NONE_PREDICTED_NEGATIVE, Measure
from tests.evaluation.classifiers import a_decision

Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
S = np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.3, 0.2, 0.1, 0.1])
TEN = np.array(list("abcdefghij"))


def predicted_by(y_true=Y, y_score=S, slides=TEN, threshold=0.5, **options):
    decision = a_decision(threshold=threshold, uncertain={"low": None, "high": None})
    return as_tested(decision, y_true, y_score, slides, **options), decision


def many(sites):
    """20 slides of some sites, 4 positives and 6 negatives on each; one in ten is wrong."""
    y_true, slides = np.tile(Y, 20), np.repeat([f"s{n:02}" for n in range(20)], 10)
    y_score = np.abs(y_true - 0.2 + 0.05 * np.sin(np.arange(200)))
    y_score[::10] = 0.15
    site = np.array([f"site {int(slide[1:]) % sites}" for slide in slides])
    return y_true, y_score, slides, site


def test_an_undefined_measure_is_null_and_says_why(tmp_path, capsys):
    results = measure(
        *predicted_by(
            np.zeros(4, dtype=int), np.array([0.1, 0.2, 0.3, 0.9]), np.array(list("aabb")), 0.95
        )
    )
    write_json(tmp_path / "test.json", results)
    results = json.loads((tmp_path / "test.json").read_text())
    assert results["roc_auc"] is results["sensitivity"] is results["precision"] is None
    assert results["specificity"] == results["accuracy"] == 1
    assert results["undefined"]["roc_auc"] == "there is no positive image"
    assert results["interval_95"]["roc_auc"] is None
    assert results["interval_95"]["specificity"]["low"] < 0.5
    assert results["slides_with_positives"] == 0
    assert "warning: roc_auc is not defined: there is no positive image" in capsys.readouterr().err
    print_results(results)
    printed = capsys.readouterr().out
    assert "roc_auc: not defined" in printed
    assert "too small to tell much: 2 slides, 0 with positives" in printed


def test_undefined_if_no_image_is_predicted_positive():
    results = measure(*predicted_by(threshold=1.0))
    assert results["undefined"] == dict.fromkeys(
        ("precision", "matthews"), "no image is predicted positive"
    )
    assert results["f1"] == 0


def test_a_new_rate_says_its_own_reason(monkeypatch):
    rate = Measure(
        "decisions", lambda tn, fp, fn, tp: fn / (tn + fn), "lower", "x", (NONE_PREDICTED_NEGATIVE,)
    )
    monkeypatch.setitem(MEASURES, "false_omission_rate", rate)
    results = measure(*predicted_by(threshold=0.0))
    assert results["undefined"]["false_omission_rate"] == "no image is predicted negative"
    assert measure(*predicted_by())["false_omission_rate"] == pytest.approx(1 / 6)


def test_twelve_of_twelve_are_no_proof(capsys):
    y_true, slides = np.arange(24) % 2, np.repeat(list("abcd"), 6)
    results = measure(*predicted_by(y_true, 0.1 + 0.8 * y_true, slides))
    assert results["interval_95"]["sensitivity"]["low"] < 0.735
    print_results(results, "Advice.")
    printed = capsys.readouterr().out
    assert "1.000 to 1.000" not in printed
    assert "4 slides, 4 with positives" in printed and printed.endswith("Advice.\n")


def test_intervals_are_over_slides_of_sites_that_were_seen():
    *predictions, sites = many(3)
    one, decision = predicted_by(*predictions, sites=sites)
    results = measure(one, decision)
    assert results["interval_over"] == "slides" and results["sites"] == 3
    found = estimate("roc_auc", [one.sample])
    limits = {"low": found.low, "high": found.high, "effective_crops": found.crops}
    assert results["interval_95"]["roc_auc"] == limits


def test_no_interval_over_slides_for_sites_that_were_not_seen(capsys):
    *predictions, sites = many(3)
    results = measure(*predicted_by(*predictions, sites=sites, unseen=True), prevalence=0.05)
    assert results["interval_over"] == "sites"
    assert set(results["interval_95"].values()) == {None}
    assert results["no_interval"]["f1"] == "3 sites; 5 are the least"
    assert results["at_prevalence"]["npv"]["low"] is None and "calibration_line" not in results
    print_results(results)
    assert "95 % interval" not in capsys.readouterr().out


def test_an_interval_over_five_sites():
    *predictions, sites = many(5)
    results = measure(*predicted_by(*predictions, sites=sites, unseen=True))
    assert results["interval_over"] == "sites"
    over_slides = measure(*predicted_by(*predictions, sites=sites))["interval_95"]["sensitivity"]
    over_five = results["interval_95"]["sensitivity"]
    assert over_five["high"] - over_five["low"] > over_slides["high"] - over_slides["low"]


def test_intervals_at_one_unseen_site_are_over_its_slides():
    *predictions, sites = many(1)
    assert (
        measure(*predicted_by(*predictions, sites=sites, unseen=True))["interval_over"] == "slides"
    )


def test_results_by_site_need_the_site_of_each_crop(capsys):
    *predictions, sites = many(3)
    sites[:10] = ""
    one, _ = predicted_by(*predictions, sites=sites)
    assert by_site(one) == []
    assert "warning: no results by site: the site of 10 of 200 crops is unknown" in (
        capsys.readouterr().err
    )


def test_the_table_of_sites_has_intervals_over_the_slides_of_each(tmp_path, capsys):
    y_true, y_score, slides, sites = many(2)
    y_score[sites == "site 1"] = 0.9
    one, _ = predicted_by(y_true, y_score, slides, sites=sites)
    report_sites(one, tmp_path / "sites.csv")
    with open(tmp_path / "sites.csv") as file:
        table = {(row["site"], row["measure"]): row for row in csv.DictReader(file)}
    first = table["site 0", "sensitivity"]
    expected = proportion(
        one.sample.y_pred[(sites == "site 0") & (y_true == 1)] == 1,
        slides[(sites == "site 0") & (y_true == 1)],
    )
    assert float(first["low"]) == pytest.approx(expected.low)
    assert (first["slides"], first["glomeruli"], first["sclerotic"]) == ("10", "100", "40")
    assert float(table["site 1", "specificity"]["value"]) == 0
    printed = capsys.readouterr().out
    assert "over 2 sites, the worst first" in printed
    assert "specificity: 0.000 (site 1) to 1.000 (site 0)" in printed
    assert f"brier: {float(table['site 1', 'brier']['value']):.3f} (site 1)" in printed


def test_predictive_values_at_a_prevalence():
    """By Bayes' theorem: 3/4 x 0.1 of 3/4 x 0.1 + 1/6 x 0.9, and 5/6 x 0.9 of 5/6 x 0.9 + 0.025."""
    found = measure(*predicted_by(), prevalence=0.1)["at_prevalence"]
    assert found["precision"]["value"] == pytest.approx(0.075 / 0.225)
    assert found["npv"]["value"] == pytest.approx(0.75 / 0.775)
    assert 0 < found["precision"]["low"] < 1 / 3 < found["precision"]["high"] < 1


def rows_of(name):
    with open(f"metrics/plots/{name}.csv") as file:
        return [*csv.DictReader(file)]


def test_curves_have_only_headers_where_one_class_is_missing(workplace):
    one, decision = predicted_by(
        np.zeros(3, dtype=int), np.array([0.1, 0.2, 0.3]), np.array(list("abc"))
    )
    write_curves(one, measure(one, decision))
    for name in ("roc", "precision_recall", "calibration", "net_benefit"):
        assert Path(f"metrics/plots/{name}.csv").read_text().count("\n") == 1
    one, decision = predicted_by()
    write_curves(one, measure(one, decision))
    assert Path("metrics/plots/roc.csv").read_text().splitlines()[:3] == [
        "false_positive_rate,sensitivity,operating,left,right,low,high",
        "0.0,0.0,0,,,,",
        "0.0,0.25,0,,,,",
    ]


@pytest.mark.parametrize("threshold", [0.05, 0.35, 0.5, 0.62, 0.99])
def test_the_operating_point_is_on_the_curves_once(workplace, threshold):
    one, decision = predicted_by(threshold=threshold)
    results = measure(one, decision)
    write_curves(one, results)
    positive = threshold <= S
    sensitivity, alarms = np.mean(positive[Y == 1]), np.mean(positive[Y == 0])
    precision = np.mean(Y[positive]) if positive.any() else 1
    for name, point in {
        "roc": (alarms, sensitivity),
        "precision_recall": (sensitivity, precision),
    }.items():
        rows = rows_of(name)
        curve = [[float(value or "nan") for value in row.values()] for row in rows]
        (operating,) = [one for one in curve if one[2]]
        assert operating[:2] == pytest.approx(point)
        if name == "roc":
            assert operating[3] <= operating[0] <= operating[4]
            limits = results["interval_95"]["sensitivity"]
            assert operating[5:] == pytest.approx([limits["low"], limits["high"]])
        along = [one[0] for one in curve]
        assert along == sorted(along, reverse=name != "roc")


def test_the_calibration_curve_has_bins_of_equal_size_and_intervals_over_slides(workplace):
    y_true, y_score, slides, _ = many(1)
    y_score = np.linspace(0, 1, 200)
    one, decision = predicted_by(y_true, y_score, slides)
    write_curves(one, measure(one, decision))
    rows = rows_of("calibration")
    assert [row["crops"] for row in rows] == ["25"] * 8
    expected = proportion(y_true[:25] == 1, slides[:25])
    found = [float(rows[0][name]) for name in ("observed", "low", "high")]
    assert found == pytest.approx(list(expected[1:4]))


def test_the_decision_curve_by_hand(workplace):
    """At 0.5, 3 true and 1 false positives of 10; at 0.2, 4 and 4, each false one a quarter."""
    one, decision = predicted_by()
    write_curves(one, measure(one, decision))
    found = {
        (row["threshold"], row["positive"]): row["net_benefit"] for row in rows_of("net_benefit")
    }
    assert float(found["0.5", "by the model"]) == pytest.approx(0.2)
    assert float(found["0.2", "by the model"]) == pytest.approx((4 - 4 / 4) / 10)
    assert float(found["0.2", "all"]) == pytest.approx((4 - 6 / 4) / 10)
    assert ("0.5", "all") not in found


def test_the_decision_curve_of_slides_by_hand(workplace):
    """Two slides of five crops with surely one and no sclerotic one: 20 % and 0 %."""
    y_true, y_score = np.array([1, *9 * [0]]), np.array([1 - 1e-9, *9 * [1e-9]])
    _, decision = predicted_by()
    write_slides(y_true, y_score, np.repeat(["a", "b"], 5), decision)
    curve = {
        (row["threshold"], row["positive"]): float(row["net_benefit"])
        for row in rows_of("net_benefit_slides")
    }
    assert {curve[f"{threshold / 100}", "by the model"] for threshold in (10, 50, 90)} == {0.5}
    assert curve["0.2", "all"] == pytest.approx(0.5 - 0.5 / 4)
    # Of slides that all reach 20 %, there is no curve.
    write_slides(y_true[:5], y_score[:5], np.repeat(["a"], 5), decision)
    assert rows_of("net_benefit_slides") == []
