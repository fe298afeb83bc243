"""The table and measures of predictions."""

import json

import numpy as np

from stages.evaluation.predictions import Prediction, report_measures


def test_crops_that_were_trained_on_are_not_measured(tmp_path, capsys):
    predictions = [
        Prediction(f"{number}.png", 1, np.float32(0.9), 0, "s", None, 1, trained_on=True)
        for number in range(3)
    ]
    report_measures(predictions, tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"trained_on": 3}
    assert capsys.readouterr().out == "nothing is measured: the model was trained on all 3 crops\n"
