import json

import numpy as np

from stages.evaluation.judged import Judged, say_measures


def test_nothing_is_measured_on_crops_that_the_model_was_trained_on(tmp_path, capsys):
    judged = [
        Judged(f"{number}.png", 1, np.float32(0.9), 0, "s", None, 1, True) for number in range(3)
    ]
    say_measures(judged, tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"trained_on": 3}
    assert capsys.readouterr().out == "nothing is measured: the model was trained on all 3 crops\n"
