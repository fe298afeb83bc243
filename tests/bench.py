"""Measure the pipeline's speed against what people use today and against the limit: python -m tests.bench [ROW ...]

    python -m tests.bench                   all rows: pad, train, predict, dvc, startup, growth (half an hour on two cores)
    python -m tests.bench pad train         some of them
    python -m tests.bench --compare OLD.json  old, new and goal of each row; the exit code is 1 where one falls short

Each measurement stands beside a peer, written here from its description, and a limit; they take turns, and the table has
their medians. It is printed and written to bench.json. Ratios above 1 say that ours is the faster. `pad` and `predict`
want GLOMERULI_DATA.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
from PIL import Image

from stages.base.files import read_json, write_json, write_table
from stages.experiments.commands import DVC, environment
from stages.images.opening import load_image
from stages.images.padding import pad_all
from stages.workers.cores import on_all_cores

PROJECT = Path(__file__).resolve().parent.parent
PADDED = 5758  # images, as in the largest published set of this task
STAGES_WITHOUT_TENSORFLOW = ("demo", "manifest", "split", "pad", "stain", "threshold")


class Row(NamedTuple):
    """Medians of one comparison, in `unit`; `peer` and `limit` are None where there is none.

    `higher_is_better` says whether the unit is a speed (images a second) or a time (seconds). The goals: `goal` times as fast as
    the peer, `floor_goal` of the limit, `most` units, `most_megabytes` of memory at its peak.
    """

    name: str
    unit: str
    ours: float
    peer: float | None = None
    limit: float | None = None
    higher_is_better: bool = True
    note: str = ""
    goal: float | None = None
    floor_goal: float | None = None
    most: float | None = None
    megabytes: float | None = None
    most_megabytes: float | None = None

    def as_json(self) -> dict[str, object]:
        return self._asdict() | {"ratio": self.ratio(self.peer), "floor_share": self.ratio(self.limit)}

    def ratio(self, other: float | None) -> float | None:
        """Return how many times as fast as `other` ours is."""
        if other is None:
            return None
        return self.ours / other if self.higher_is_better else other / self.ours


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=", ".join(ROWS) + "; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken (default: 5)")
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="(default: bench.json)")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="an earlier output, to compare with")
    arguments = parser.parse_args()
    old = read_json(arguments.compare) if arguments.compare else None
    rows = []
    for name in arguments.rows or ROWS:
        with tempfile.TemporaryDirectory(prefix="glomeruli-bench-") as folder:
            rows += show(ROWS[name](Path(folder), arguments.rounds))
    content = [row.as_json() for row in rows]
    about = {"processor": processor(), "cores": joblib.cpu_count(), "rounds": arguments.rounds}
    write_json(arguments.output, about | {"rows": content})
    if old is not None:
        sys.exit(compare(old["rows"], content))


# What is judged of a row, by its goal, and whether more of it is better.
JUDGED = {
    "goal": ("ratio", True),
    "floor_goal": ("floor_share", True),
    "most": ("ours", False),
    "most_megabytes": ("megabytes", False),
}


def processor() -> str:
    """Return the name of this machine's processor."""
    path = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", path.read_text(), flags=re.MULTILINE) if path.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def compare(old: list[dict], new: list[dict]) -> int:
    """Print what is judged of each row before and now, its goal, and whether it falls short; return 1 if one does, else 0."""
    before = {row["name"]: row for row in old}
    short = 0
    print(f"\n{'':36}{'':>14}{'old':>10}{'new':>10}{'goal':>10}")
    for row in new:
        for goal, (name, more) in JUDGED.items():
            if row[goal] is None:
                continue
            found, earlier = row[name], before.get(row["name"], {}).get(name)
            falls = found < row[goal] if more else found > row[goal]
            short += falls
            values = "".join(f"{'-' if value is None else format(value, '.4g'):>10}" for value in (earlier, found, row[goal]))
            print(f"{row['name']:36}{name:>14}{values}{'  falls short' * falls}")
    return int(short > 0)


def show(rows: Iterator[Row]) -> list[Row]:
    """Print each row as it comes."""
    shown = []
    for row in rows:
        numbers = "".join(f"{'-' if value is None else format(value, '.4g'):>10}" for value in (row.ours, row.peer, row.limit))
        ratios = "".join(
            f"{'-' if value is None else format(value, '.2f'):>8}" for value in (row.ratio(row.peer), row.ratio(row.limit))
        )
        if not shown:
            heads = ("ours", "peer", "limit", "x peer", "x limit")
            print(f"\n{'':36}{'unit':>16}" + "".join(f"{head:>{w}}" for head, w in zip(heads, (10, 10, 10, 8, 8))))
        print(f"{row.name:36}{row.unit:>16}{numbers}{ratios}  {row.note}", flush=True)
        shown.append(row)
    return shown


def medians(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Return the median of the seconds of each of `works`, which take turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, times):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def native_crops() -> list[Path]:
    """Return the native crops of KPMP, 256 to 915 pixels, RGBA."""
    if not os.environ.get("GLOMERULI_DATA"):
        sys.exit("GLOMERULI_DATA is not set: pad and predict are measured on real crops, which are not here")
    return sorted((Path(os.environ["GLOMERULI_DATA"]) / "kpmp_sample").rglob("*.png"))


def pad(folder: Path, rounds: int) -> Iterator[Row]:
    """Native crops on 224 pixels: ours, the notebooks' way, and decoding alone on all cores with Pillow."""
    files = native_crops() * 20

    def ours() -> None:
        pad_all(files, "white", 224, folder / "images.npy")

    def notebooks() -> None:
        for number, file in enumerate(files):
            image = Image.open(file)
            side = max(image.size)
            square = Image.new("RGB", (side, side), "white")
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            square.resize((224, 224), Image.Resampling.LANCZOS).save(folder / f"{number}.png")

    def decoding() -> None:
        decode_all(files)

    speeds = [len(files) / seconds for seconds in medians(rounds, ours, notebooks, decoding)]
    yield Row("pad", "crops/s", *speeds, goal=3.5, floor_goal=0.8)


def decode_all(files: list[Path]) -> None:
    """Decode with Pillow on all cores, and do nothing else."""
    list(on_all_cores(lambda file: Image.open(file).load() and None, [(file,) for file in files], "decoding"))


def train(folder: Path, rounds: int) -> Iterator[Row]:
    """conv3-dense1 at 128 pixels: ours, Keras's own generator that changes image by image, and one batch kept in memory."""
    from stages.model.backend import keep_freed_memory, keras, make_deterministic  # isort: split

    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    from stages.model.batches import Batches
    from stages.model.networks import build_model, to_log_odds
    from stages.training.fit import cross_entropy
    from stages.training.parameters import TrainParameters

    make_deterministic(0)
    params, model_params = default_parameters()
    count = 640
    images = np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8)
    y = np.arange(count) % 2
    assert isinstance(params, TrainParameters)

    def ours_compiled() -> keras.Model:
        """As `stages.training.fit` compiles it: it learns from log-odds."""
        model = to_log_odds(build_model(model_params, 128, [128] * 3, [5000] * 3, params.dropout))
        model.compile(keras.optimizers.AdamW(params.learning_rate), cross_entropy, metrics=["accuracy"])
        return model

    def peer_compiled() -> keras.Model:
        """As people do: from the floating-point images of the generator to probabilities."""
        inputs = x = keras.Input((128, 128, 3), dtype="float32")
        for layer in build_model(model_params, 128, [128] * 3, [5000] * 3, params.dropout).layers[1:]:
            x = layer(x)
        model = keras.Model(inputs, x)
        model.compile(keras.optimizers.AdamW(params.learning_rate), "binary_crossentropy", metrics=["accuracy"])
        return model

    ours_model, peer_model, limit_model = ours_compiled(), peer_compiled(), ours_compiled()
    batches = Batches(images, np.arange(count), y, params.batch_size, params.augment)
    generator = ImageDataGenerator(
        rotation_range=45,
        width_shift_range=0.05,
        height_shift_range=0.05,
        brightness_range=(0.9, 1.1),
        horizontal_flip=True,
        vertical_flip=True,
        fill_mode="reflect",
    ).flow(images.astype(np.float32), y, batch_size=params.batch_size, seed=0)
    batch = images[: params.batch_size], y[: params.batch_size].astype(np.float32)[:, None]

    def ours() -> None:
        ours_model.fit(batches, epochs=1, shuffle=False, verbose=0)

    def peer() -> None:
        peer_model.fit(generator, epochs=1, verbose=0)

    def limit() -> None:
        for _ in range(count // params.batch_size):
            keep_freed_memory()
            limit_model.train_on_batch(*batch)

    for work in (ours, peer, limit):  # The first epoch compiles.
        work()
    speeds = [count / seconds for seconds in medians(rounds, ours, peer, limit)]
    yield Row("train", "crops/s", *speeds, goal=2, floor_goal=0.95, note="peer: with the same kernels")


def default_parameters() -> tuple:
    """Return `train` and `model` of params.yaml; what is measured is conv3-dense1."""
    from stages.base.parameters import read_params
    from stages.model.steps import ModelParameters
    from stages.training.parameters import TrainParameters

    model = read_params("model", ModelParameters, PROJECT / "params.yaml")
    return read_params("train", TrainParameters, PROJECT / "params.yaml"), model.model_copy(update={"step": "conv3-dense1"})


def predict(folder: Path, rounds: int) -> Iterator[Row]:
    """From files to a table, with conv3-dense1 at 128 pixels and with EfficientNet-Lite0 at 224."""
    from stages.model.backbone import build_backbone
    from stages.model.networks import build_head, build_model, join

    yield predict_with(build_model(default_parameters()[1], 128, [128] * 3, [5000] * 3), folder, rounds)
    backbone = build_backbone("efficientnet_lite0", "none", 224, [], 0.7)
    head = build_head(np.random.default_rng(0).normal(size=(10, backbone.output_shape[1])).astype(np.float32))
    yield predict_with(join(backbone, head, "efficientnet_lite0"), folder, rounds)


def predict_with(model, folder: Path, rounds: int) -> Row:
    """Ours, one image at a time, and decoding (Pillow's, on all cores) and the forward pass alone, one after the other."""
    from stages.evaluation.classifier import Classifier, ModelCard, judge
    from stages.evaluation.judged import Judged, write_judged
    from stages.images.squares import make_square
    from stages.images.stains import StainNormalizer
    from stages.measures.calibration import Calibration
    from stages.measures.decision import Band, Decision
    from stages.measures.likeness import Likeness

    files = native_crops() * 40
    few = files[:60]
    size = model.input_shape[1]
    card = {"card": {"title": "Crops of KPMP"}}
    made = ModelCard(step=model.name, padding="white", size=size, classes=["negative", "positive"], dataset=card)
    decision = Decision(threshold=0.5, uncertain=Band(low=0.4, high=0.6), calibration=Calibration(method="none"))
    unknown = Likeness(*[np.empty(0)] * 4)
    classifier = Classifier(made, StainNormalizer(normalization="none", learned={}), model, decision, unknown)
    pixels = np.zeros((len(files), size, size, 3), dtype=np.uint8)

    def ours() -> None:
        y_score = judge(classifier, files).probability
        rows = [Judged(file.name, int(p >= 0.5), np.float32(p), 0, "", None, None) for file, p in zip(files, y_score)]
        write_judged(folder / "evaluation.csv", rows)

    def one_at_a_time() -> None:
        rows = []
        for file in few:
            square = make_square(load_image(file), "white", size)
            rows.append((file.name, model.predict(square[None], verbose=0)[0, 0]))
        write_table(folder / "peer.csv", ("name", "probability"), rows)

    def alone() -> None:
        decode_all(files)
        model.predict(pixels, batch_size=32, verbose=0)

    for work in (ours, one_at_a_time, alone):  # The first call compiles.
        work()
    first, second, third = medians(rounds, ours, one_at_a_time, alone)
    speeds = len(files) / first, len(few) / second, len(files) / third
    return Row(f"predict, {model.name}, {size}", "crops/s", *speeds, goal=5, floor_goal=0.95)


def dvc(folder: Path, rounds: int) -> Iterator[Row]:
    """A padded set of 5,758 images of 128 pixels: ours is one array, the peer a folder of PNGs."""
    random = np.random.default_rng(0)
    coarse = random.integers(120, 240, (PADDED, 8, 8, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(one).resize((128, 128), Image.Resampling.BICUBIC)) for one in coarse])
    environments = environment() | {"DVC_NO_ANALYTICS": "1"}

    def run(place: Path, *command: str) -> None:
        subprocess.run([*DVC, *command], cwd=place, env=environments, check=True, capture_output=True)

    places = folder / "array", folder / "pngs"
    for place in places:
        made = place / "padded"
        made.mkdir(parents=True)
        if place.name == "array":
            np.save(made / "images.npy", images)
        else:
            for number, image in enumerate(images):
                Image.fromarray(image).save(made / f"{number:05d}.png")
        subprocess.run(["git", "init", "-q"], cwd=place, check=True)
        run(place, "init", "-q")
        (place / "dvc.yaml").write_text("stages:\n  pad:\n    cmd: echo pad\n    outs: [padded]\n")
        run(place, "commit", "-f", "-q")
        run(place, "remote", "add", "-q", "-d", "store", str(folder / f"{place.name}-remote"))

    def push(place: Path) -> None:
        run(place, "push", "-q", "-r", "new")

    for name, command in (("repro, nothing to do", ("repro", "-q")), ("status", ("status", "-q"))):
        ours, peer = medians(rounds, *(lambda place=place, command=command: run(place, *command) for place in places))
        (start,) = medians(rounds, lambda: run(places[0], "version"))
        yield Row(f"dvc {name}", "s", ours, peer, start, False, "limit: dvc version, which starts dvc alone")
    times: list[list[float]] = [[], []]
    for number in range(min(rounds, 3)):
        for place, taken in zip(places, times):
            run(place, "remote", "add", "-f", "-q", "new", str(folder / f"{place.name}-{number}"))
            taken += medians(1, lambda place=place: push(place))
    yield Row("dvc push", "s", *(statistics.median(taken) for taken in times), higher_is_better=False, goal=5)


def startup(folder: Path, rounds: int) -> Iterator[Row]:
    """Importing a stage that needs no TensorFlow, in a new process; the limit is Python with NumPy."""
    for stage in STAGES_WITHOUT_TENSORFLOW:
        check = f"import sys, stages.{stage}; sys.exit('tensorflow' in sys.modules)"
        ours, limit = medians(rounds, *(lambda code=code: python("-c", code) for code in (check, "import numpy")))
        yield Row(f"start-up of {stage}", "s", ours, None, limit, False, most=0.5)


def python(*arguments: str, where: Path = PROJECT) -> str:
    paths = {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=where, env=environment() | paths, check=True, capture_output=True, text=True).stdout


def growth(folder: Path, rounds: int) -> Iterator[Row]:
    """Microseconds an image and the peak memory of a process of its own, as the number of images grows."""
    for stage, counts in (("split", (1_000, 100_000, 1_000_000)), ("pad", (1_000, 10_000, 100_000))):
        smallest = None
        for count in counts:
            place = folder / f"{stage}-{count}"
            make_dataset(place, stage, count)
            runs = [json.loads(python("-c", MEASURED, stage, where=place)) for _ in range(rounds if count < 100_000 else 1)]
            microseconds = statistics.median(run["seconds"] for run in runs) / count * 1e6
            memory = max(run["megabytes"] for run in runs)
            smallest = smallest or microseconds
            bounds = {"most": 1.1 * smallest, "megabytes": memory, "most_megabytes": 1536 if stage == "split" else 1024}
            yield Row(
                f"{stage}, {count:,} images", "us/image", microseconds, None, smallest, False, f"peak {memory:.0f} MiB", **bounds
            )


# What the stage prints is held back; the imports, those that it puts off included, are not part of the time. The peak is that of
# this process alone: resource.getrusage would begin with what its parent had.
MEASURED = """
import contextlib, importlib, io, json, pathlib, re, sys, time
import scipy.sparse.csgraph, sklearn.model_selection
stage = importlib.import_module(f"stages.{sys.argv[1]}")
start = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    stage.main()
seconds = time.perf_counter() - start
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
print(json.dumps({"seconds": seconds, "megabytes": peak / 1024}))
"""


def make_dataset(place: Path, stage: str, count: int) -> None:
    """Write a manifest of `count` images, forty to a slide, one of five sclerotic; for `pad`, small images too."""
    place.mkdir()
    text = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    (place / "params.yaml").write_text(text.replace("size: 128", "size: 32"), encoding="utf-8")
    images = place / "data/demo"
    images.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    labels = (np.random.default_rng(1).random(count) < 0.2).astype(int)
    rows = []
    for number, label in enumerate(labels):
        name = f"{number:07d}.png"
        rows.append((name, label, label, f"slide{number // 40}", "site", 40, 48, f"{number:064x}"))
    if stage == "pad":
        Image.fromarray(pixels).save(images / rows[0][0])
        data = (images / rows[0][0]).read_bytes()
        for name, *_ in rows[1:]:
            (images / name).write_bytes(data)
    columns = ("path", "label", "published", "slide", "site", "width", "height", "sha256")
    write_table(place / "data/manifest.csv", columns, rows)


ROWS = {"pad": pad, "train": train, "predict": predict, "dvc": dvc, "startup": startup, "growth": growth}

if __name__ == "__main__":
    main()
