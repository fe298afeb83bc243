"""The table and measures of predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.evaluation.predictions import Prediction, output_files, report_measures
from tests.evaluation.classifiers import a_decision


def test_crops_that_were_trained_on_are_not_measured(tmp_path, capsys):
    predictions = [
        Prediction(f"{number}.png", 1, np.float32(0.9), 0, "s", None, 1, trained_on=True)
        for number in range(3)
    ]
    report_measures(predictions, tmp_path / "metrics.json", a_decision())
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"trained_on": 3}
    assert capsys.readouterr().out == "nothing is measured: the model was trained on all 3 crops\n"


@pytest.mark.parametrize("named", [True, False])
def test_rates_have_intervals_over_slides_if_the_slides_are_known(named, tmp_path, capsys):
    """All of 12 positives of 4 slides are found."""
    predictions = [
        Prediction(
            f"{row}.png",
            int(row % 2),
            np.float32(0.1 + 0.8 * (row % 2)),
            0,
            f"s{row // 6}" if named or row else "",
            None,
            row % 2,
        )
        for row in range(24)
    ]
    report_measures(predictions, tmp_path / "metrics.json", a_decision())
    printed = capsys.readouterr().out
    measures = json.loads((tmp_path / "metrics.json").read_text())
    if named:
        assert "sensitivity: 1.000 (95 % interval 0.692 to 1.000)" in printed
        assert "4 slides (4 with positives)" in printed and "This is too small" in printed
        assert (measures["slides"], measures["slides_with_positives"]) == (4, 4)
    else:
        assert "sensitivity: 1.000 (no interval: the slides are unknown)" in printed
        assert "say with --slide" in printed
        assert "slides" not in measures and measures["interval_95"]["f1"] is None


@pytest.mark.parametrize("option", ["--output", "--per-slide"])
def test_writes_no_csv_into_a_file_named_as_a_workbook(option):
    options = {"--output": Path("evaluation.csv"), option: Path("out/ours.xlsx")}
    with pytest.raises(UserError, match=f"{option} is out/ours.xlsx: .*; name it ours.csv"):
        output_files(options, proposes=False)
