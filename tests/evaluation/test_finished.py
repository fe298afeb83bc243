"""Scores that are kept for a run that was interrupted."""

import os
from pathlib import Path

from stages.evaluation.finished import Finished
from stages.evaluation.scoring import Scored


def test_a_renamed_file_is_another_crop(tmp_path):
    """Files of one size that were unpacked at once differ in nothing else but their numbers."""
    crops = [tmp_path / name for name in ("a.bmp", "b.bmp", "c.bmp")]
    for number, crop in enumerate(crops):
        crop.write_bytes(bytes([number]))
        os.utime(crop, ns=(0, 0))
    before = Finished(tmp_path / "table.csv", "key")
    scores = [Scored(*[float(number)] * len(Scored._fields)) for number in range(3)]
    assert [before.find(crop) for crop in crops] == [None] * 3
    before.add(zip(crops, scores))
    assert [Finished(tmp_path / "table.csv", "key").find(crop) for crop in crops] == scores
    os.rename(crops[0], tmp_path / "other")
    os.rename(crops[1], crops[0])
    os.rename(tmp_path / "other", crops[1])
    after = Finished(tmp_path / "table.csv", "key")
    assert [after.find(crop) for crop in crops] == [None, None, scores[2]]
    assert Finished(tmp_path / "table.csv", "another").find(crops[2]) is None
    assert Path(before.file).name == "table.csv.scores.part"
