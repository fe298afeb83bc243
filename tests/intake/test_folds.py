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
from sklearn.model_selection import StratifiedGroupKFold

from stages import split
from stages.base.errors import UserError
from stages.intake.folds import (
    extend_folds,
    folds_without_a_class,
    merge_groups,
    number_folds,
    seeds_that_work,
    summarize,
)
from tests.conftest import PROJECT, list_crops, make_classes, save_crop, set_params


def parts():
    with open("data/split.csv", newline="") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file)}


def run(**params):
    set_params({f"split.{name}": value for name, value in params.items()})
    list_crops()
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


def make_sites(slides, each):
    """Make data/sites, of the sites a, b and c.

    Args:
        slides: how many slides each site has.
        each: how many crops each slide has, every third of which is sclerotic.
    """
    for number, (site, count) in enumerate(zip("abc", slides)):
        for slide in range(count):
            for crop in range(each):
                kind = "nonGS" if crop % 3 else "GS"
                path = Path(f"data/sites/{kind}/{site}{slide}-{crop}.png")
                save_crop(path, seed=1000 * number + 10 * slide + crop)
    Path("data/sites.yaml").write_text(
        "title: sites\nclasses: [nonGS, GS]\ngroup: '(?P<slide>(?P<site>[a-c])\\d)-\\d\\.png$'\n"
    )
    set_params({"data": "sites"})


def test_names_the_parameter_if_too_few_slides_validate(workplace):
    make_sites(slides=(5, 1, 1), each=9)
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
    make_sites(slides=(8, 8, 8), each=3)
    for fold in range(3):
        run(by="site", validation_by="slide", folds=3, fold=fold)
        with open("data/split.csv", newline="") as file:
            rows = [row | {"name": Path(row["path"]).name} for row in csv.DictReader(file)]
        sites = defaultdict(set)
        for row in rows:
            sites[row["split"]].add(row["name"][0])
        assert len(sites["test"]) == 1 and sites["test"].isdisjoint(sites["train"] | sites["val"])
        with open("data/folds.csv", newline="") as file:
            of_sites = {row["site"]: int(row["fold"]) for row in csv.DictReader(file)}
        assert set(of_sites) == {"a", "b", "c"} and of_sites[min(sites["test"])] == fold
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


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=6, max_size=30),
    folds=st.integers(3, 5),
    kept=st.integers(0, 30),
    data=st.data(),
)
def test_kept_folds_stay_and_new_groups_stay_whole(sizes, folds, kept, data):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    y = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(groups), max_size=len(groups))))
    assume(np.bincount(y, minlength=2).min() >= folds)
    before = number_folds(y, groups, folds, 0)
    extended = extend_folds(y, groups, np.where(groups < kept, before, -1), folds)
    assert (extended[groups < kept] == before[groups < kept]).all()
    assert all(len(set(extended[groups == group])) == 1 for group in groups)


def test_new_groups_are_balanced_as_by_scikit_learn():
    """Not always alike: where two folds are as good, its choice depends on how sums are rounded."""
    random = np.random.default_rng(0)
    for _ in range(20):
        groups = np.repeat(np.arange(40), random.integers(5, 60, 40))
        y = (random.random(len(groups)) < random.beta(1, 3, 40)[groups]).astype(int)
        theirs = np.empty(len(y), dtype=np.int64)
        for fold, (_, test) in enumerate(StratifiedGroupKFold(5).split(y, y, groups)):
            theirs[test] = fold
        ours = extend_folds(y, groups, np.full(len(y), -1), 5)
        counts = [np.sort(np.bincount(found[y == 1])) for found in (ours, theirs)]
        assert np.allclose(*counts, atol=3), counts


def test_a_new_slide_goes_where_its_class_is_rare():
    y = np.array([1, 1, 0, 0, 1, 0, 0, 0, 1])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    kept = np.array([0, 0, 0, 0, 1, 1, 1, -1, -1])
    # Two positives are in fold 0, one in fold 1, none in fold 2.
    assert extend_folds(y, groups, kept, 3).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]


def folds_of_slides():
    with open("data/folds.csv", newline="") as file:
        return {row["slide"]: row["fold"] for row in csv.DictReader(file)}


def keep(text=None):
    """Keep the folds of the last run, or other ones."""
    text = Path("data/folds.csv").read_text() if text is None else text
    Path("data/small.folds.csv").write_text(text)


def test_added_slides_leave_the_folds_of_the_others(workplace, capsys):
    make_classes(slides=11)
    run()
    before = folds_of_slides()
    keep()
    make_classes(slides=14)
    run(kept_folds="small.folds.csv", seed=3)
    after = folds_of_slides()
    assert before.items() <= after.items() and len(after) == 14
    assert Counter(after.values()) == {"0": 3, "1": 3, "2": 3, "3": 3, "4": 2}
    said = "data/small.folds.csv lacks 3 slides: `cp data/folds.csv data/small.folds.csv` keeps"
    assert said in capsys.readouterr().out
    keep()
    capsys.readouterr()
    for fold in range(5):
        run(fold=fold)
        tested = {Path(path).name.split("-")[0] for path, part in parts().items() if part == "test"}
        assert tested == {slide for slide, number in after.items() if number == str(fold)}
    assert "lacks" not in capsys.readouterr().out


def test_kept_folds_of_other_slides_are_refused(workplace):
    folder = make_classes(slides=6)
    assert refused(kept_folds="small.folds.csv", folds=3).startswith(
        "data/small.folds.csv does not exist; params.yaml: split.kept_folds must be none, or"
    )
    with pytest.raises(UserError, match="kept_folds is '../mine.folds.csv'"):
        run(kept_folds="../mine.folds.csv")
    table = "slide,fold\ns0,0\ns1,1\ns2,2\ns3,0\n"
    where = "data/small.folds.csv"
    no_table = ": not CSV in UTF-8 with the columns slide and fold"
    outside = "is not in the dataset, or locked; delete the line if that is intended"
    without_2 = "slide,fold\n" + "".join(f"s{slide},{slide % 2}\n" for slide in range(6))
    for text, said in {
        f"{table}s9,1\n": f", line 6: slide 's9' {outside}",
        f"{table}\ns4,3\n": ", line 7: slide 's4' has fold '3'; with split.folds 3 it must be "
        "from 0 to 2",
        f"{table}s4,1\ns4,2\n": ", line 6: slide 's4' is there 2 times",
        table.replace(",", ";"): no_table,
        table.replace("slide", "site"): no_table,
        "": no_table,
        without_2: ": fold 2 has no slide; split.folds is 3",
    }.items():
        keep(text)
        assert refused(kept_folds="small.folds.csv", folds=3).startswith(where + said)
    keep(table)
    (folder / "nonGS/s1-9.png").write_bytes((folder / "nonGS/s0-1.png").read_bytes())
    line = f"{where}: 's1' and 's0' have different folds, but share a picture"
    assert refused(kept_folds="small.folds.csv", folds=3) == line


def lock(*patterns):
    card = Path("data/small.yaml")
    text = card.read_text().split("locked_test")[0]
    card.write_text(f"{text}locked_test: [{', '.join(patterns)}]\n")


def test_a_locked_test_set_is_in_no_fold(workplace):
    make_classes(slides=14)
    lock("'s1[0-2]'", "s7")
    seen = Counter()
    for fold in range(5):
        metrics = run(fold=fold)
        found = {Path(path).name.split("-")[0]: part for path, part in parts().items()}
        locked = {slide for slide, part in found.items() if part == "locked"}
        assert locked == {"s7", "s10", "s11", "s12"} and locked.isdisjoint(folds_of_slides())
        assert metrics["slides"]["locked"] == 4
        seen.update(slide for slide, part in found.items() if part == "test")
    assert seen == Counter({f"s{n}": 1 for n in (0, 1, 2, 3, 4, 5, 6, 8, 9, 13)})
    metrics = run(test="locked")
    assert metrics["slides"] == {"train": 8, "val": 2, "test": 4} and metrics["leakage"] == 0


def test_a_lock_that_does_not_hold_is_refused(workplace):
    folder = make_classes(slides=8)
    set_params({"train.ensemble": True})
    assert refused(test="locked") == (
        "params.yaml: split.test is 'locked', but data/small.yaml has no `locked_test:`, a list of "
        "slides; it must be fold or none"
    )
    lock("s1", "S26-*")
    assert refused(test="fold") == (
        "data/small.yaml: locked_test has 'S26-*', which matches no slide; there are 8, such as "
        "s0, s1, s2, s3, s4"
    )
    lock("'*'")
    assert "locks all 8 slides" in refused()
    lock("s1")
    (folder / "nonGS/s1-9.png").write_bytes((folder / "nonGS/s0-1.png").read_bytes())
    assert refused().splitlines() == [
        "data/small.yaml: locked_test has slide 's1', which split.by slide keeps together with "
        "slides that are not locked",
        "nonGS/s0-1.png and nonGS/s1-9.png are the same image, of s0 and s1",
    ]
