"""`benchmarks.speed --compare` holds each row against its goals."""

import pytest

from benchmarks.speed import ROWS, Row, compare

FAST = Row("train", "crops/s", 80.0, 40.0, 81.0, goal=2, floor_goal=0.95)
STARTS = Row("start-up of pad", "s", 0.4, None, 0.2, False, most=0.5)
GROWS = Row(
    "split, 9 images",
    "us/image",
    10.0,
    None,
    10.0,
    False,
    most=11.0,
    megabytes=1500.0,
    most_megabytes=1536,
)


@pytest.mark.parametrize(
    ("row", "short"),
    [
        (FAST, []),
        (FAST._replace(peer=50.0), ["ratio"]),
        (FAST._replace(limit=100.0), ["floor_share"]),
        (STARTS, []),
        (STARTS._replace(ours=0.6), ["ours"]),
        (GROWS, []),
        (GROWS._replace(ours=12.0, megabytes=1600.0), ["ours", "megabytes"]),
        (Row("dvc status", "s", 1.0, 1.2, 0.9, False), []),
    ],
)
def test_a_row_that_falls_short_is_marked_and_sets_the_exit_code(row, short, capsys):
    old = FAST._replace(ours=70.0)
    assert compare([old.as_json()], [row.as_json()]) == bool(short)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [
        line.removesuffix("  falls short").split()[-4]
        for line in lines
        if line.endswith("falls short")
    ] == short
    for line in lines:
        if row.name == "train" and " ratio " in line:
            assert line.split()[2] == "1.75"  # 70 crops per second instead of 40.


def test_ratios_of_speeds_and_of_times_mean_the_same():
    assert FAST.ratio(FAST.peer) == 2 and STARTS.ratio(STARTS.limit) == 0.5
    assert set(FAST.as_json()) >= {"name", "ratio", "goal", "floor_share"} and {
        "pad",
        "train",
        "predict",
        "dvc",
    } <= set(ROWS)
