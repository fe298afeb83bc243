"""No slide straddles, each image is in exactly one part, a split by image has a measured leak."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages import manifest, split
from stages.base.errors import UserError
from stages.intake.folds import (
    folds_without_a_class,
    merge_groups,
    number_folds,
    seeds_that_work,
    summarize,
)
from tests.conftest import PROJECT, make_classes, save_crop, set_params


def parts():
    with open("data/split.csv", newline="") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file)}


def run(**params):
    set_params({f"split.{name}": value for name, value in params.items()})
    manifest.main()
    split.main()
    return json.loads(Path("metrics/split.json").read_text())


def refused(**params):
    with pytest.raises(UserError) as error:
        run(**params)
    return str(error.value)


def test_groups_merge_through_shared_keys():
    slides = ["a", "a", "b", "c", "d"]
    digests = [
        "1",
        "2",
        "2",
        "4",
        "5",
    ]  # The second image of slide a is byte-identical to one of b.
    assert merge_groups(slides).tolist() == [0, 0, 1, 2, 3]
    assert merge_groups(slides, digests).tolist() == [0, 0, 0, 1, 2]
    assert merge_groups(digests).tolist() == [0, 1, 1, 2, 3]


def test_leakage_by_hand():
    slides = np.array(["a", "a", "b", "b", "c", "d"])
    splits = np.array(["train", "test", "test", "test", "train", "val"])
    summary = summarize(np.array([0, 1, 1, 0, 0, 1]), slides, splits)
    assert summary["leakage"] == pytest.approx(1 / 3)
    assert summary["slides"] == {"train": 2, "val": 1, "test": 2}
    assert summary["images"]["test"] == {"non_globally_sclerotic": 1, "globally_sclerotic": 2}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=5, max_size=30),
    folds=st.integers(3, 5),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_groups_never_straddle_and_folds_partition(sizes, folds, seed, data):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    y = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(groups), max_size=len(groups))))
    assume(np.bincount(y, minlength=2).min() >= folds)
    numbers = number_folds(y, groups, folds, seed)
    assert set(numbers) == set(range(folds))
    for number in range(folds):
        assert set(groups[numbers == number]).isdisjoint(groups[numbers != number])
    assert (numbers == number_folds(y, groups, folds, seed)).all()


def test_the_validation_fold_of_one_is_the_test_fold_of_the_next(workplace):
    make_classes(slides=12, each=5)
    before = None
    for fold in range(4):
        run(folds=4, fold=fold)
        with open("data/split.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {(row["split"], row["fold"]) for row in rows} == {
            ("test", "0"),
            ("val", "1"),
            ("train", "2"),
            ("train", "3"),
        }
        tested = {row["path"] for row in rows if row["split"] == "test"}
        assert before is None or tested == before
        before = {row["path"] for row in rows if row["split"] == "val"}


def test_by_image_copies_stay_together_and_classes_stay_balanced():
    y = np.array([0] * 400 + [1] * 100)
    groups = np.arange(500)
    groups[1] = 0  # A pair of copies.
    groups = np.unique(groups, return_inverse=True)[1]
    numbers = number_folds(y, groups, 5, 0)
    assert numbers[0] == numbers[1]
    for fold in range(5):
        assert abs(np.sum((numbers == fold) & (y == 1)) - 20) <= 1
        assert abs(np.sum(numbers == fold) - 100) <= 2


def test_a_split_by_slide_and_one_by_image(workplace):
    make_classes(slides=12, each=5)
    assert run(by="slide")["leakage"] == 0
    slides = defaultdict(set)
    for path, part in parts().items():
        slides[Path(path).name.split("-")[0]].add(part)
    assert len(slides) == 12
    assert all(len(part) == 1 for part in slides.values())
    metrics = run(by="image")
    assert metrics["leakage"] > 0.8
    assert sum(sum(counts.values()) for counts in metrics["images"].values()) == 60


def test_copies_on_two_slides_keep_the_slides_together(workplace):
    folder = make_classes(slides=10)
    (folder / "nonGS" / "s4-9.png").write_bytes((folder / "nonGS" / "s3-1.png").read_bytes())
    for fold in range(5):
        metrics = run(fold=fold)
        found = parts()
        assert metrics["identical_images"] == 1
        assert (
            len(
                {part for path, part in found.items() if Path(path).name.startswith(("s3-", "s4-"))}
            )
            == 1
        )


def test_another_fold_tests_other_slides_and_another_seed_too(workplace):
    make_classes(slides=12)
    tests = []
    for fold, seed in ((0, 0), (1, 0), (0, 1)):
        run(fold=fold, seed=seed)
        tests.append({path for path, part in parts().items() if part == "test"})
    assert tests[0].isdisjoint(tests[1])
    assert tests[0] != tests[2]


def test_the_balance_table_adds_up(workplace):
    make_classes(slides=12)
    metrics = run()
    with open("metrics/plots/class_balance.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert sum(int(row["images"]) for row in rows) == 48
    assert rows[1] == {
        "split": "train, globally_sclerotic",
        "class": "globally_sclerotic",
        "images": str(metrics["images"]["train"]["globally_sclerotic"]),
    }


def test_fewer_slides_than_folds(workplace):
    make_classes(slides=4)
    assert (
        refused(folds=5)
        == "params.yaml: split.folds is 5, but there are only 4 slides to keep apart"
    )


def test_names_copies_that_leave_too_few_slides(workplace):
    folder = make_classes(slides=6)
    for slide in range(1, 6):
        (folder / f"nonGS/s{slide}-9.png").write_bytes((folder / "nonGS/s0-1.png").read_bytes())
    message = refused(folds=3).splitlines()
    assert message[0] == "params.yaml: split.folds is 3, but there are only 1 slides to keep apart"
    assert message[1] == "nonGS/s0-1.png and nonGS/s1-9.png are the same image, of s0 and s1"


def test_names_the_parameter_if_too_few_slides_validate(workplace):
    for number, site in enumerate("abc"):
        for slide in range(5 if site == "a" else 1):
            for crop in range(9):
                kind = "GS" if crop % 3 == 0 else "nonGS"
                save_crop(
                    Path(f"data/sites/{kind}/{site}{slide}-{crop}.png"),
                    seed=1000 * number + 10 * slide + crop,
                )
    Path("data/sites.yaml").write_text(
        "title: sites\nclasses: [nonGS, GS]\ngroup: '(?P<slide>(?P<site>[a-c])\\d)-\\d\\.png$'\n"
    )
    set_params({"data": "sites"})
    messages = set()
    for fold in range(3):
        try:
            run(by="site", validation_by="slide", folds=3, fold=fold)
        except UserError as error:
            messages.add(str(error))
    assert messages == {
        "params.yaml: split.validation_by is 'slide', for which the number of folds is 4, but "
        "there are only 2 slides outside of "
        "the test set to keep apart"
    }


def test_fewer_sites_than_folds(workplace):
    make_classes(slides=12)
    assert (
        refused(by="site", folds=3)
        == "params.yaml: split.folds is 3, but there are only 1 sites to keep apart"
    )


def test_by_site_without_sites(workplace):
    make_classes(slides=12)
    card = Path("data/small.yaml")
    card.write_text(card.read_text().replace("(?P<site>s)", "s"))
    assert refused(by="site") == (
        "params.yaml: split.by is 'site', but the dataset's card names no site; it must be "
        "slide or image"
    )


def test_a_part_without_both_classes_is_refused(workplace):
    folder = make_classes(slides=6, each=4)
    for slide in range(1, 6):  # All sclerotic glomeruli are of one slide.
        (folder / "GS" / f"s{slide}-0.png").unlink()
    for number in range(10, 16):
        save_crop(folder / "GS" / f"s0-{number}.png", seed=1000 + number)
    message = refused(folds=5)
    assert "globally sclerotic glomerulus; try another seed or fewer folds" in message


def test_a_dataset_of_one_class_is_refused(workplace):
    folder = make_classes(slides=6)
    for file in (folder / "GS").iterdir():
        file.unlink()
    assert (
        refused()
        == "params.yaml: split.folds is 5, but there are only 0 globally sclerotic glomeruli"
    )


def test_real_size_and_shape(workplace, real_data):
    """The names and labels of 5,758 glomeruli of 215 cases: by slide nothing leaks, by image
    everything does.
    """
    rows = (real_data / "kpmp_manifest.csv").read_text()
    names = [line.split(",")[0] for line in rows.splitlines()[1:]]
    folder = Path("data/kpmp")
    folder.mkdir()
    # In different colors, as byte-identical files would be grouped.
    for number, name in enumerate(names):
        Image.new("RGB", (2, 3), (number % 256, number // 256, 7)).save(folder / name)
    (folder / "public.csv").write_text(rows)
    Path("data/kpmp.yaml").write_text((PROJECT / "data/kpmp.yaml").read_text())
    set_params({"data": "kpmp"})
    by_slide = run(by="slide")
    assert by_slide["leakage"] == 0
    assert sum(by_slide["slides"].values()) == 215
    share = {
        name: counts["globally_sclerotic"] / sum(counts.values())
        for name, counts in by_slide["images"].items()
    }
    assert all(abs(value - 1054 / 5758) < 0.02 for value in share.values()), share
    by_image = run(by="image")
    assert by_image["leakage"] > 0.99
    assert Counter(parts().values())["test"] in (1151, 1152)


def test_a_site_is_left_out_and_slides_of_the_others_validate(workplace):
    for number, site in enumerate("abc"):
        for slide in range(8):
            for crop in range(3):
                kind = "GS" if crop == 0 else "nonGS"
                save_crop(
                    Path(f"data/sites/{kind}/{site}{slide}-{crop}.png"),
                    seed=1000 * number + 10 * slide + crop,
                )
    Path("data/sites.yaml").write_text(
        "title: sites\nclasses: [nonGS, GS]\ngroup: '(?P<slide>(?P<site>[a-c])\\d)-\\d\\.png$'\n"
    )
    set_params({"data": "sites"})
    for fold in range(3):
        run(by="site", validation_by="slide", folds=3, fold=fold)
        with open("data/split.csv", newline="") as file:
            rows = [row | {"name": Path(row["path"]).name} for row in csv.DictReader(file)]
        sites = defaultdict(set)
        for row in rows:
            sites[row["split"]].add(row["name"][0])
        assert len(sites["test"]) == 1 and sites["test"].isdisjoint(sites["train"] | sites["val"])
        assert len(sites["train"]) == 2
        assert {row["fold"] for row in rows} == {"0", "1", "2", "3", "4"}
        folds = defaultdict(set)
        for row in rows:
            folds[row["name"][:2]].add(row["fold"])
        assert all(len(numbers) == 1 for numbers in folds.values())
    with pytest.raises(UserError, match=r"validation_offset is 5; it must be from 1 to 4"):
        run(validation_offset=5)


def test_seeds_that_give_each_fold_both_classes_are_found():
    """Ten slides of two crops, of which five have a positive: some draws put two of these into one
    fold.
    """
    groups = np.repeat(np.arange(10), 2)
    y = np.array([number % 2 * (group % 2) for group in range(10) for number in (0, 1)])
    for seed in seeds_that_work(y, groups, 3):
        assert not folds_without_a_class(y, number_folds(y, groups, 3, seed))
    assert seeds_that_work(y, groups, 3) and not seeds_that_work(y, groups, 6)
    assert folds_without_a_class(np.array([0, 1, 0, 0]), np.array([1, 1, 2, 2])) == [(2, 1)]
