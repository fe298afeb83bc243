"""Damage one file of a small pipeline at a time, and see whether the next program notices.

    python -m tools.fault_injection                     every fault; two to five minutes
    python -m tools.fault_injection threshold split     the faults whose names hold one of these
    words

Under `dvc repro` files always fit together. They do not after a single stage was run by hand, a
file was copied, or a disk was full. For each fault the programs that read the file run, one after
the other:

- refused: a program ended with an error of one line, and a non-zero exit code;
- harmless: all programs ran, and what they wrote is the same as without the fault;
- WRONG: all programs ran, and their results differ; or one ended in a traceback.

Prints a table in Markdown. The exit code is 1 if any fault is WRONG.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import chdir
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.workers.progress import progress
from tests.repositories import STAGES, make_repository, run_program, set_params

PARAMS = {"model.step": "efficientnet_lite0", "pad.size": 32, "demo.glomeruli": 8}
PIPELINE = [stage for stage in STAGES if stage not in ("near_duplicates", "evaluate", "model_card")]
PREDICT = ("predict", "data/demo", "--per-slide", "slides.csv")
RESULTS = (
    "metrics/test.json",
    "metrics/measures.json",
    "metrics/predictions.csv",
    "models/calibration.json",
    "evaluation.csv",
    "slides.csv",
    "data/padded/images.npy",
)
READ_LAST = ("evaluate", PREDICT)


class Fault(NamedTuple):
    """A fault: what is damaged, how, and the programs that run after it, until one refuses."""

    name: str
    damage: Callable[[Path], None]
    programs: Sequence[str | tuple[str, ...]]


class Outcome(NamedTuple):
    """What came of a fault, and the program and line that say so."""

    verdict: str
    said: str


def replaced(*names: str) -> Callable[[Path], None]:
    """Return a damage: files as another training has them, whose folder is given."""

    def damage(other: Path) -> None:
        for name in names:
            shutil.copyfile(other / name, name)

    return damage


def edited(name: str, edit: Callable[[str], str]) -> Callable[[Path], None]:
    """Return a damage: the text of a file is changed."""

    def damage(_: Path) -> None:
        before = Path(name).read_text(encoding="utf-8")
        after = edit(before)
        assert after != before, f"{name} is not changed"
        Path(name).write_text(after, encoding="utf-8")

    return damage


def truncated(name: str, share: float = 0.5) -> Callable[[Path], None]:
    """Return a damage: only the beginning of a file is left, as of a copy that broke off."""

    def damage(_: Path) -> None:
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: int(len(content) * share)])

    return damage


def zeroed(name: str) -> Callable[[Path], None]:
    """Return a damage: the second half of a file is zeros, as after a crash."""

    def damage(_: Path) -> None:
        content = bytearray(Path(name).read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        Path(name).write_bytes(content)

    return damage


def removed(name: str) -> Callable[[Path], None]:
    """Return a damage: a file is missing."""
    return lambda _: Path(name).unlink()


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Return a damage: an array holds something else."""
    return lambda _: np.save(name, change(np.load(name)))


def with_params(**changes: object) -> Callable[[Path], None]:
    """Return an edit of params.yaml after the stages ran; two underscores stand for a dot."""
    return lambda _: set_params({name.replace("__", "."): value for name, value in changes.items()})


def with_nan(features: np.ndarray) -> np.ndarray:
    features[::3] = np.nan
    return features


def in_rows(change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    """Return an edit of a table's rows below its header."""

    def edit(text: str) -> str:
        header, *rows = text.splitlines(keepends=True)
        return "".join([header, *change(rows)])

    return edit


def flipped(column: int) -> Callable[[str], str]:
    """Return an edit: 0 and 1 are exchanged in a column of every second row."""

    def change(rows: list[str]) -> list[str]:
        cells = [row.rstrip("\n").split(",") for row in rows]
        for row in cells[::2]:
            row[column] = {"0": "1", "1": "0"}[row[column]]
        return [",".join(row) + "\n" for row in cells]

    return in_rows(change)


def in_json(change: Callable[[dict], object]) -> Callable[[str], str]:
    """Return an edit of what JSON holds."""

    def edit(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return edit


def value(key: str, new: object) -> Callable[[str], str]:
    """Return an edit of JSON: a key holds another value."""
    return in_json(lambda content: content.update({key: new}))


def faults() -> Iterator[Fault]:
    """Yield every fault that is tried."""
    for name, damage in {
        "a flipped label": edited("data/manifest.csv", flipped(1)),
        "rows in another order": edited("data/manifest.csv", in_rows(lambda rows: rows[::-1])),
        "a missing row": edited("data/manifest.csv", in_rows(lambda rows: rows[:-1])),
        "a row twice": edited("data/manifest.csv", in_rows(lambda rows: [*rows, rows[0]])),
        "another slide": edited("data/manifest.csv", lambda text: text.replace("A1", "A2")),
        "cut short": truncated("data/manifest.csv"),
        "zeros in its second half": zeroed("data/manifest.csv"),
    }.items():
        yield Fault(f"manifest.csv after split and pad: {name}", damage, ["features", "train"])
        yield Fault(f"manifest.csv after train: {name}", damage, READ_LAST[:1])
    yield Fault(
        "manifest.csv of another dataset", replaced("data/manifest.csv"), ["features", "train"]
    )
    for name, damage in {
        "of another dataset": replaced("data/crops.csv"),
        "rows in another order": edited("data/crops.csv", in_rows(lambda rows: rows[::-1])),
        "cut short": truncated("data/crops.csv"),
    }.items():
        yield Fault(f"crops.csv: {name}", damage, ["manifest"])
    rows = "data/padded/crops.csv"
    yield Fault("rows of the squares: of another dataset", replaced(rows), ["train"])
    reversed_rows = edited(rows, in_rows(lambda rows: rows[::-1]))
    yield Fault("rows of the squares: in another order", reversed_rows, ["train"])
    for name, damage in {
        "of another fold": replaced("data/split.csv"),
        "rows in another order": edited("data/split.csv", in_rows(lambda rows: rows[::-1])),
        "a split that does not exist": edited(
            "data/split.csv", lambda text: text.replace(",val,", ",valid,")
        ),
        "cut short": truncated("data/split.csv"),
        "missing": removed("data/split.csv"),
    }.items():
        yield Fault(f"split.csv after train: {name}", damage, READ_LAST[:1])
        if name not in (
            "of another fold",
        ):  # Before train this is another experiment, not a fault.
            yield Fault(f"split.csv before train: {name}", damage, ["train"])
    for name, damage in {
        "of another dataset": replaced("data/padded/images.npy"),
        "of another size": array("data/padded/images.npy", lambda squares: squares[:, ::2, ::2]),
        "in another order": array("data/padded/images.npy", lambda squares: squares[::-1]),
        "fewer than the manifest": array("data/padded/images.npy", lambda squares: squares[:-1]),
        "floating-point numbers": array("data/padded/images.npy", lambda squares: squares / 255),
        "cut short": truncated("data/padded/images.npy", 0.9),
        "missing": removed("data/padded/images.npy"),
    }.items():
        yield Fault(f"padded squares: {name}", damage, ["features", "train", "evaluate"])
        yield Fault(f"padded squares after train: {name}", damage, READ_LAST[:1])
    for name, damage in {
        "of another dataset": replaced("data/features/features.npy"),
        "not a number": array("data/features/features.npy", with_nan),
        "in another order": array("data/features/features.npy", lambda features: features[::-1]),
        "fewer than the manifest": array(
            "data/features/features.npy", lambda features: features[:-1]
        ),
        "fewer views": array("data/features/features.npy", lambda features: features[:, :4]),
        "fewer numbers": array("data/features/features.npy", lambda features: features[:, :, :-3]),
        "none": array("data/features/features.npy", lambda features: features[:0]),
        "cut short": truncated("data/features/features.npy", 0.9),
        "missing": removed("data/features/features.npy"),
    }.items():
        yield Fault(f"features: {name}", damage, ["train", "calibrate"])
    for file in ("model.keras", "model.json", "validation.csv", "calibration.json", "novelty.npz"):
        programs = ["calibrate", *READ_LAST] if file == "validation.csv" else READ_LAST
        yield Fault(f"{file}: of another training", replaced(f"models/{file}"), programs)
        yield Fault(f"{file}: cut short", truncated(f"models/{file}", 0.9), programs)
        yield Fault(f"{file}: zeros in its second half", zeroed(f"models/{file}"), programs)
        yield Fault(f"{file}: missing", removed(f"models/{file}"), programs)
    yield Fault(
        "validation.csv: flipped labels",
        edited("models/validation.csv", flipped(2)),
        ["calibrate", *READ_LAST],
    )
    yield Fault(
        "model.keras and model.json: of another training",
        replaced("models/model.keras", "models/model.json"),
        READ_LAST,
    )
    for name, new in {
        "7": 7,
        "NaN": float("nan"),
        "null": None,
        "a text": "0.5",
        "a list": [0.5],
    }.items():
        yield Fault(
            f"calibration.json: a threshold of {name}",
            edited("models/calibration.json", value("threshold", new)),
            READ_LAST,
        )
    for name, band in {
        "outside 0 to 1": (-0.5, 1.5),
        "upside down": (0.9, 0.1),
        "half missing": (0.2, None),
    }.items():
        new = {"low": band[0], "high": band[1]}
        yield Fault(
            f"calibration.json: an uncertain band {name}",
            edited("models/calibration.json", value("uncertain", new)),
            READ_LAST,
        )
    for key, new in {"padding": "mirror", "size": 0, "classes": [], "step": None}.items():
        yield Fault(
            f"model.json: {key} is {new!r}", edited("models/model.json", value(key, new)), [PREDICT]
        )
    yield Fault(
        "model.json: another padding mode",
        edited("models/model.json", value("padding", "zero")),
        [PREDICT],
    )
    for name, changes, programs in [
        ("pad.mode after pad", {"pad__mode": "zero"}, ["features", "train"]),
        ("pad.size after pad", {"pad__size": 48}, ["features", "train"]),
        ("model.step after features", {"model__step": "mobilenet"}, ["train"]),
        ("model.center_fraction after features", {"model__center_fraction": 0.5}, ["train"]),
        ("model.jittered_views after features", {"model__jittered_views": 1}, ["train"]),
        (
            "a threshold rule that does not exist",
            {"calibrate__threshold_rule": "yuden"},
            ["manifest"],
        ),
        ("a target above 1", {"calibrate__target_sensitivity": 1.5}, ["split"]),
        ("epochs of 0", {"train__epochs": 0}, ["pad"]),
        ("a model step that does not exist", {"model__step": "conv99"}, ["manifest"]),
    ]:
        yield Fault(f"params.yaml: {name}", with_params(**changes), programs)
    card = "data/demo.yaml"
    yield Fault("card: classes exchanged", edited(card, exchange_classes), ["manifest"])
    yield Fault("card: missing", removed(card), ["manifest"])
    used = "data/card.json"
    yield Fault("card.json: cut short", truncated(used), ["train"])
    yield Fault("card.json: of another manifest", replaced(used), ["train"])
    for stages in (["crops", "manifest"], ["evaluate"]):
        yield Fault(f"an image is overwritten by text, before {stages[0]}", overwrite_image, stages)
    yield Fault("an image is replaced by another one after crops", replace_image, ["pad"])


def exchange_classes(text: str) -> str:
    """Return a card whose class folders stand the other way round."""
    first, second = text.split("classes: [")[1].split("]")[0].split(", ")
    return text.replace(f"[{first}, {second}]", f"[{second}, {first}]")


def _first_image() -> Path:
    return min(Path("data/demo").rglob("*.png"))


def overwrite_image(_: Path) -> None:
    """Damage the first image: it is no image any more."""
    _first_image().write_text("not an image")


def replace_image(_: Path) -> None:
    """Damage the first image: it shows what the last one shows."""
    shutil.copyfile(max(Path("data/demo").rglob("*.png")), _first_image())


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    chdir(folder)
    try:
        yield
    finally:
        chdir(before)


def build(folder: Path, **changes: object) -> None:
    """Make a repository in `folder` and run the pipeline there with small parameters."""
    folder.mkdir()
    before = Path.cwd()
    make_repository(folder)
    set_params(PARAMS | changes)
    for stage in PIPELINE:
        code, _, error = run_program(stage)
        assert code == 0, error
    chdir(before)


def run(programs: Sequence[str | tuple[str, ...]]) -> Outcome | None:
    """Run programs in the current folder until one refuses; None if none does."""
    for program in programs:
        name, *arguments = (program,) if isinstance(program, str) else program
        try:
            code, _, error = run_program(name, *arguments)
        except AssertionError as traceback:
            return Outcome(
                "WRONG", f"{name} ends in a traceback: {str(traceback).strip().splitlines()[-1]}"
            )
        if code:
            lines = [line for line in error.splitlines() if line.startswith("error: ")]
            return (
                Outcome("refused", f"{name}: {lines[-1].removeprefix('error: ')}")
                if lines
                else Outcome("WRONG", f"{name} ends with {code}: {error[-200:]}")
            )
    return None


def results() -> dict[str, bytes]:
    """Return what the programs wrote in the current folder."""
    found = [Path(name) for name in RESULTS] + [
        Path(f"models/{name}") for name in ("model.keras", "validation.csv", "novelty.npz")
    ]
    return {str(path): path.read_bytes() for path in found if path.is_file()}


class Pipelines:
    """Two small pipelines that ran: one that is whole, and another training, on other data, to take
    files from.
    """

    def __init__(self, place: Path, whole: Path, other: Path):
        """Take the folders of both, and a `place` for copies."""
        self.place, self.whole, self.other = place, whole, other
        self.expected: dict[tuple, dict[str, bytes]] = {}

    @contextmanager
    def copy(self) -> Iterator[None]:
        """Work in a copy of the whole pipeline."""
        folder = self.place / "copy"
        shutil.copytree(self.whole, folder, symlinks=True)
        try:
            with inside(folder):
                yield
        finally:
            shutil.rmtree(folder)

    def results_without_fault(self, programs: Sequence[str | tuple[str, ...]]) -> dict[str, bytes]:
        """Return what programs write where nothing is damaged."""
        if tuple(programs) not in self.expected:
            with self.copy():
                assert (refused := run(programs)) is None, refused
                self.expected[tuple(programs)] = results()
        return self.expected[tuple(programs)]

    def inject(self, fault: Fault) -> Outcome:
        """Return what comes of a fault."""
        expected = self.results_without_fault(fault.programs)
        with self.copy():
            fault.damage(self.other)
            if (outcome := run(fault.programs)) is not None:
                return outcome
            found = results()
        differing = [name for name in expected if found.get(name) != expected[name]]
        return (
            Outcome("WRONG", f"not noticed: {', '.join(differing)}")
            if differing
            else Outcome("harmless", "")
        )


def main() -> None:
    wanted = sys.argv[1:]
    chosen = [
        fault for fault in faults() if not wanted or any(word in fault.name for word in wanted)
    ]
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="glomeruli-faults-") as temporary:
        place = Path(temporary)
        build(place / "whole")
        build(place / "other", **{"demo.seed": 1, "split.fold": 1})
        pipelines = Pipelines(place, place / "whole", place / "other")
        print("| fault | outcome | what is said |\n|---|---|---|")
        for fault in progress(chosen, desc="injecting", unit="fault"):
            outcome = pipelines.inject(fault)
            wrong += outcome.verdict == "WRONG"
            print(
                f"| {fault.name} | {outcome.verdict} | {outcome.said[:160].replace('|', '/')} |",
                flush=True,
            )
    print(f"\n{len(chosen)} faults, {wrong} not noticed", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
