"""Measure the pipeline's speed against a peer and against a limit.

    python -m benchmarks.speed                     all rows (half an hour on two cores)
    python -m benchmarks.speed pad train           some of pad, train, predict, export, ...
    python -m benchmarks.speed --compare OLD.json  then old, new and goal of each row

Each row has a peer, the usual way to do the same, and a limit. They take turns, and the row has
their medians. Rows are printed and written to a JSON file. Ratios above 1 mean that ours is faster.
With `--compare` the exit code is 1 if a row falls short of its goal. `pad` and `predict` need the
real images in GLOMERULI_DATA.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
from PIL import Image

from benchmarks.growth import MEASURED, SIZE, make_crops
from stages.base.arithmetic import FIXED, SETTINGS, THREADS
from stages.base.files import read_json, write_json, write_table
from stages.experiments.commands import DVC, environment
from stages.images.opening import load_image
from stages.images.padding import Crop, pad_all
from stages.workers.cores import on_all_cores
from stages.workers.growing import growing_array, row_keys
from tests.evaluation.classifiers import write_beside
from tests.repositories import PROJECT

PADDED = 5758  # images, as in the largest published set of this task
TRAINED = 3456  # of them, at three folds of five, in whole batches
# And two that import it while crops are opened.
STAGES_WITHOUT_TENSORFLOW = (
    "demo",
    "crops",
    "manifest",
    "split",
    "pad",
    "calibrate",
    "predict",
    "recalibrate",
)


class Row(NamedTuple):
    """Medians of one comparison, in `unit`; `peer` and `limit` are None if they are missing.

    `higher_is_better` is true for a speed, such as images per second, and false for a time. The
    goals: `goal` times as fast as the peer, `floor_goal` of the limit, `most` units,
    `most_megabytes` of memory at its peak.
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
        return self._asdict() | {
            "ratio": self.ratio(self.peer),
            "floor_share": self.ratio(self.limit),
        }

    def ratio(self, other: float | None) -> float | None:
        """Return how many times as fast as `other` ours is."""
        if other is None:
            return None
        return self.ours / other if self.higher_is_better else other / self.ours


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows",
        nargs="*",
        choices=[*ROWS, []],
        metavar="ROW",
        help=", ".join(ROWS) + "; all by default",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="of which the median is taken (default: 5)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("results.json"), help="(default: results.json)"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="an earlier output, to compare with"
    )
    arguments = parser.parse_args()
    old = read_json(arguments.compare) if arguments.compare else None
    rows = []
    for name in arguments.rows or ROWS:
        with tempfile.TemporaryDirectory(prefix="glomeruli-speed-") as folder:
            rows += show(ROWS[name](Path(folder), arguments.rounds))
    content = [row.as_json() for row in rows]
    about = {"processor": processor(), "cores": joblib.cpu_count(), "rounds": arguments.rounds}
    write_json(arguments.output, about | {"rows": content})
    if old is not None:
        sys.exit(compare(old["rows"], content))


# The value of a row that each goal is for, and whether a higher one is better.
COMPARED = {
    "goal": ("ratio", True),
    "floor_goal": ("floor_share", True),
    "most": ("ours", False),
    "most_megabytes": ("megabytes", False),
}


def processor() -> str:
    """Return the name of this machine's processor."""
    path = Path("/proc/cpuinfo")
    names = (
        re.findall(r"^model name\s*: (.*)$", path.read_text(), flags=re.MULTILINE)
        if path.is_file()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def compare(old: list[dict], new: list[dict]) -> int:
    """Print old and new values with their goals; return 1 if any falls short, else 0."""
    before = {row["name"]: row for row in old}
    short = 0
    print(f"\n{'':36}{'':>14}{'old':>10}{'new':>10}{'goal':>10}")
    for row in new:
        for goal, (name, more) in COMPARED.items():
            if row[goal] is None:
                continue
            found, earlier = row[name], before.get(row["name"], {}).get(name)
            falls = found < row[goal] if more else found > row[goal]
            short += falls
            values = "".join(
                f"{'-' if value is None else format(value, '.4g'):>10}"
                for value in (earlier, found, row[goal])
            )
            print(f"{row['name']:36}{name:>14}{values}{'  falls short' * falls}")
    return int(short > 0)


def show(rows: Iterator[Row]) -> list[Row]:
    """Print each row as it comes."""
    shown = []
    for row in rows:
        numbers = "".join(
            f"{'-' if value is None else format(value, '.4g'):>10}"
            for value in (row.ours, row.peer, row.limit)
        )
        ratios = "".join(
            f"{'-' if value is None else format(value, '.2f'):>8}"
            for value in (row.ratio(row.peer), row.ratio(row.limit))
        )
        if not shown:
            heads = ("ours", "peer", "limit", "x peer", "x limit")
            print(
                f"\n{'':36}{'unit':>16}"
                + "".join(f"{head:>{w}}" for head, w in zip(heads, (10, 10, 10, 8, 8)))
            )
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
        sys.exit(
            "GLOMERULI_DATA is not set; it must name a folder of real crops for pad and predict"
        )
    return sorted((Path(os.environ["GLOMERULI_DATA"]) / "kpmp_sample").rglob("*.png"))


def pad(folder: Path, rounds: int) -> Iterator[Row]:
    """Native crops on 224 pixels: ours, the notebooks' way, and only decoding, with Pillow."""
    files = native_crops() * 20

    def ours() -> None:
        keys = row_keys("", map(str, files))
        with growing_array(folder / "ours/images.npy", keys, (224, 224, 3), np.uint8) as rows:
            pad_all([Crop(file) for file in files], "white", 224, rows)

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
    list(
        on_all_cores(
            lambda file: Image.open(file).load() and None, [(file,) for file in files], "decoding"
        )
    )


def train(folder: Path, rounds: int) -> Iterator[Row]:
    """conv3-dense1 at 128 pixels, an epoch of as many crops as the largest published set trains on.

    Ours, the notebooks' generator as people run it and with our kernels, one batch kept in memory,
    and the roofline: what the processor's two cores multiply, measured, by what the network
    multiplies.
    """
    from stages.base.memory import keep_freed_memory
    from stages.model.backend import keras, make_deterministic
    from stages.model.batches import Batches
    from stages.model.networks import build_model, to_log_odds
    from stages.training.fit import cross_entropy
    from stages.training.parameters import TrainParameters

    make_deterministic(0)
    params, model_params = default_parameters()
    images = np.random.default_rng(0).integers(0, 256, (TRAINED, 128, 128, 3), dtype=np.uint8)
    y = np.arange(TRAINED) % 2
    assert isinstance(params, TrainParameters)

    def compiled() -> keras.Model:
        """As `stages.training.fit` compiles it: it learns from log-odds."""
        model = to_log_odds(build_model(model_params, 128, [128] * 3, [5000] * 3, params.dropout))
        model.compile(
            keras.optimizers.AdamW(params.learning_rate), cross_entropy, metrics=["accuracy"]
        )
        return model

    ours_model, limit_model = compiled(), compiled()
    batches = Batches(images, np.arange(TRAINED), y, params.batch_size, params.augment)
    batch = images[: params.batch_size], y[: params.batch_size].astype(np.float32)[:, None]

    def ours() -> None:
        ours_model.fit(batches, epochs=1, shuffle=False, verbose=0)

    def limit() -> None:
        for _ in range(TRAINED // params.batch_size):
            keep_freed_memory()
            limit_model.train_on_batch(*batch)

    for work in (ours, limit):  # The first epoch compiles.
        work()
    with (
        generator_process(default=True) as as_run,
        generator_process(default=False) as same_kernels,
    ):
        speeds = [
            TRAINED / seconds for seconds in medians(rounds, ours, as_run, same_kernels, limit)
        ]
    roofline = multiplied_per_second() / (3 * 2 * multiplications(limit_model))
    said = f"{speeds[0] / roofline:.2f} of the roofline of {roofline:.0f} crops/s"
    yield Row(
        "train", "crops/s", speeds[0], speeds[1], speeds[3], goal=2, floor_goal=0.95, note=said
    )
    yield Row(
        "train, peer with our kernels", "crops/s", speeds[0], speeds[2], speeds[3], floor_goal=0.95
    )


@contextlib.contextmanager
def generator_process(default: bool) -> Iterator[Callable[[], None]]:
    """Yield an epoch of the notebooks' training in another process, by default or our kernels."""
    environments = environment()
    if default:
        ours = {*SETTINGS, FIXED, THREADS[0]}
        environments = {name: value for name, value in environments.items() if name not in ours}
    # By its file: as a module it would import this package, which fixes the arithmetic.
    command = [sys.executable, "-P", "benchmarks/notebook_generator.py", str(TRAINED)]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin and process.stdout

        def epoch() -> None:
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == "done\n"

        epoch()  # The first compiles.
        yield epoch
        process.stdin.close()


def multiplications(model) -> int:
    """Return how many multiplications of its convolutions and Dense layers a model does for one
    crop, forward.
    """
    found = 0
    for layer in model.layers:
        if layer.__class__.__name__ in ("Conv2D", "Dense"):
            places = math.prod(layer.output.shape[1:-1])
            found += places * math.prod(layer.kernel.shape)
    return found


def multiplied_per_second() -> float:
    """Return the floating-point operations a second of TensorFlow's product of two large matrices,
    the best of ten.
    """
    import tensorflow

    matrix = tensorflow.random.normal((2048, 2048))
    return max(
        2 * 2048**3 / medians(1, lambda: tensorflow.matmul(matrix, matrix).numpy())[0]
        for _ in range(10)
    )


def default_parameters() -> tuple:
    """Return `train` and `model` of params.yaml; what is measured is conv3-dense1."""
    from stages.base.parameters import read_params
    from stages.model.steps import ModelParameters
    from stages.training.parameters import TrainParameters

    model = read_params("model", ModelParameters, PROJECT / "params.yaml")
    return read_params("train", TrainParameters, PROJECT / "params.yaml"), model.model_copy(
        update={"step": "conv3-dense1"}
    )


def predict(folder: Path, rounds: int) -> Iterator[Row]:
    """From files to a table, with conv3-dense1 at 128 pixels and EfficientNet-Lite0 at 224."""
    small = _from_scratch()
    yield predict_from_the_command(small, folder, rounds)
    yield predict_with(small, folder, rounds)
    yield predict_with(_with_backbone(), folder, rounds)


def _from_scratch():
    from stages.model.networks import build_model

    return build_model(default_parameters()[1], 128, [128] * 3, [5000] * 3)


def _with_backbone():
    from stages.model.backbone import build_backbone
    from stages.model.networks import build_head, join

    backbone = build_backbone("efficientnet_lite0", "none", 224, [], 0.7)
    head = build_head(
        np.random.default_rng(0).normal(size=(10, backbone.output_shape[1])).astype(np.float32)
    )
    return join(backbone, head, "efficientnet_lite0")


def write_model_folder(model, folder: Path) -> None:
    """Write a model's folder, as if it had been trained on unknown crops."""
    from stages.model.file import save_model

    folder.mkdir()
    save_model(model, folder / "model.keras")
    write_beside(
        folder, step=model.name, size=model.input_shape[1], classes=["negative", "positive"]
    )


def predict_from_the_command(model, folder: Path, rounds: int) -> Row:
    """`python -m stages.predict` for 1,000 crops; the limit is a script that only decodes them and
    runs the model.
    """
    write_model_folder(model, folder / "models")
    crops = native_crops()
    (folder / "crops").mkdir()
    for number in range(1000):
        file = folder / f"crops/{number:04}.png"
        if number < len(crops):
            shutil.copy(crops[number], file)
        else:
            os.link(folder / f"crops/{number % len(crops):04}.png", file)

    def ours() -> None:
        python("-m", "stages.predict", "crops", where=folder)

    def limit() -> None:
        python("-c", DECODE_AND_FORWARD, str(model.input_shape[1]), where=folder)

    for work in (ours, limit):
        work()
    speeds = [1000 / seconds for seconds in medians(rounds, ours, limit)]
    name = f"predict, {model.name}, 1,000 crops from the command"
    return Row(
        name,
        "crops/s",
        speeds[0],
        limit=speeds[1],
        floor_goal=0.95,
        note="limit: a script for only these crops",
    )


DECODE_AND_FORWARD = """
import sys, concurrent.futures, pathlib
import numpy, keras
from PIL import Image
model = keras.models.load_model("models/model.keras")
size, files = int(sys.argv[1]), sorted(pathlib.Path("crops").iterdir())
with concurrent.futures.ThreadPoolExecutor() as pool:
    list(pool.map(lambda file: Image.open(file).load() and None, files))
pixels = numpy.zeros((len(files), size, size, 3), dtype=numpy.uint8)
numpy.savetxt("limit.csv", model.predict(pixels, batch_size=32, verbose=0))
"""


def predict_with(model, folder: Path, rounds: int) -> Row:
    """Ours, one image at a time, and only decoding (Pillow on all cores), then the forward pass."""
    from stages.evaluation.classifier import Crops, read_classifier
    from stages.evaluation.predictions import Prediction, write_predictions
    from stages.evaluation.scoring import score_crops
    from stages.images.squares import make_square

    files = native_crops() * 40
    few = files[:60]
    size = model.input_shape[1]
    write_model_folder(model, folder / model.name)
    classifier = read_classifier(folder / model.name)
    pixels = np.zeros((len(files), size, size, 3), dtype=np.uint8)

    def ours() -> None:
        y_score = score_crops(classifier, Crops(files, classifier.made)).probability
        rows = [
            Prediction(file.name, int(p >= 0.5), np.float32(p), 0, "", None, None)
            for file, p in zip(files, y_score)
        ]
        write_predictions(folder / "evaluation.csv", rows)

    def one_at_a_time() -> None:
        rows = []
        for file in few:
            square = make_square(load_image(file), "white", size)
            rows.append((file.name, model.predict(square[None], verbose=0)[0, 0]))
        write_table(folder / "peer.csv", ("name", "probability"), rows)

    def limit() -> None:
        decode_all(files)
        model.predict(pixels, batch_size=32, verbose=0)

    for work in (ours, one_at_a_time, limit):  # The first call compiles.
        work()
    first, second, third = medians(rounds, ours, one_at_a_time, limit)
    speeds = len(files) / first, len(few) / second, len(files) / third
    return Row(f"predict, {model.name}, {size}", "crops/s", *speeds, goal=5, floor_goal=0.95)


def export(folder: Path, rounds: int) -> Iterator[Row]:
    """Ours is onnxruntime on the squares of an exported model, the peer Keras on the same ones.

    Needs requirements-export.txt.
    """
    import onnxruntime

    from stages.evaluation.classifier import read_classifier
    from stages.evaluation.exporting import INPUT, OUTPUT, write_export

    for model in (_from_scratch(), _with_backbone()):
        write_model_folder(model, folder / model.name)
        exported = folder / f"{model.name}.onnx"
        write_export(read_classifier(folder / model.name), "onnx", exported)
        session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
        size = model.input_shape[1]
        random = np.random.default_rng(0)
        squares = random.integers(0, 256, (256, size, size, 3), dtype=np.uint8)

        def ours(session=session, squares=squares) -> None:
            for batch in np.split(squares, len(squares) // 32):
                session.run([OUTPUT], {INPUT: batch})

        def keras(model=model, squares=squares) -> None:
            model.predict(squares, batch_size=32, verbose=0)

        for work in (ours, keras):  # The first call compiles.
            work()
        speeds = [len(squares) / seconds for seconds in medians(rounds, ours, keras)]
        yield Row(f"export, {model.name}, {size}, onnxruntime", "crops/s", *speeds)


def dvc(folder: Path, rounds: int) -> Iterator[Row]:
    """A padded set of 5,758 images of 128 pixels: ours is one array, the peer a folder of PNGs."""
    random = np.random.default_rng(0)
    coarse = random.integers(120, 240, (PADDED, 8, 8, 3), dtype=np.uint8)
    images = np.stack(
        [
            np.asarray(Image.fromarray(one).resize((128, 128), Image.Resampling.BICUBIC))
            for one in coarse
        ]
    )
    environments = environment() | {"DVC_NO_ANALYTICS": "1"}

    def run(place: Path, *command: str) -> None:
        subprocess.run(
            [*DVC, *command], cwd=place, env=environments, check=True, capture_output=True
        )

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
        ours, peer = medians(
            rounds, *(lambda place=place, command=command: run(place, *command) for place in places)
        )
        (start,) = medians(rounds, lambda: run(places[0], "version"))
        yield Row(
            f"dvc {name}",
            "s",
            ours,
            peer,
            start,
            False,
            "limit: dvc version, which only starts dvc",
        )
    times: list[list[float]] = [[], []]
    for number in range(min(rounds, 3)):
        for place, taken in zip(places, times):
            run(place, "remote", "add", "-f", "-q", "new", str(folder / f"{place.name}-{number}"))
            taken += medians(1, lambda place=place: push(place))
    yield Row(
        "dvc push",
        "s",
        *(statistics.median(taken) for taken in times),
        higher_is_better=False,
        goal=5,
    )


def startup(folder: Path, rounds: int) -> Iterator[Row]:
    """Import a stage without TensorFlow in a new process; the limit is Python with NumPy."""
    for stage in STAGES_WITHOUT_TENSORFLOW:
        check = f"import sys, stages.{stage}; sys.exit('tensorflow' in sys.modules)"
        ours, limit = medians(
            rounds, *(lambda code=code: python("-c", code) for code in (check, "import numpy"))
        )
        yield Row(f"start-up of {stage}", "s", ours, None, limit, False, most=0.5)


def jax(folder: Path, rounds: int) -> Iterator[Row]:
    """On JAX on the CPU: training, evaluation included, against `train_on_batch` of one batch; and
    EfficientNet-Lite0's features of eight views, against those by TensorFlow.
    """
    arguments = ["train", "--crops", "256", "--size", "128", "--batch", "32", "--epochs", "3"]
    said = python("-m", "benchmarks.gpu", *arguments, KERAS_BACKEND="jax")
    found = dict(re.findall(r"^batches of 32: (.+): (\d+) crops/s$", said, flags=re.MULTILINE))
    ours, limit = float(found["stages.train"]), float(found["limit, one batch"])
    yield Row("train, JAX on the CPU", "crops/s", ours, None, limit)
    by_backend = [
        statistics.median(float(python("-c", FEATURES, KERAS_BACKEND=name)) for _ in range(rounds))
        for name in ("jax", "tensorflow")
    ]
    yield Row("features, JAX on the CPU", "crops/s", *by_backend, note="peer: TensorFlow")


# Prints crops per second; the first batch compiles.
FEATURES = """
import time
import numpy
from stages.model.backbone import build_backbone
from stages.model.forward import Forward
forward = Forward(build_backbone("efficientnet_lite0", "none", 224, [], 0.7), 8)
squares = numpy.zeros((forward.batch, 224, 224, 3), dtype=numpy.uint8)
forward.start(squares)()
start = time.perf_counter()
for _ in range(8):
    forward.start(squares)()
print(8 * forward.batch / (time.perf_counter() - start))
"""


def python(*arguments: str, where: Path = PROJECT, **variables: str) -> str:
    paths = {"PYTHONPATH": str(PROJECT)} | variables
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=where, env=environment() | paths, check=True, capture_output=True, text=True
    ).stdout


def growth(folder: Path, rounds: int) -> Iterator[Row]:
    """Microseconds per crop and memory, once; at a million crops only of the listing stages. Packed
    crops are compared with the same in a file each.
    """
    from stages.model.networks import build_model

    model_params = default_parameters()[1].model_copy(update={"step": "conv1-dense1"})
    model = build_model(model_params, SIZE, [128] * 3, [5000] * 3)
    listing, pixels = ("crops", "manifest", "split"), ("pad", "features", "predict")
    costs: dict[str, float] = {}
    packed_too = 100_000
    for count in (1_000, 10_000, packed_too, 1_000_000):
        place = folder / f"{count}"
        make_crops(place, count)
        write_model_folder(model, place / "models")
        measured = listing + pixels * (count < 1_000_000)
        yield from growth_rows(place, measured, count, costs)
        if count == packed_too:
            crops = place / "data/many"
            python("-m", "stages.pack", str(crops), str(place / "packed"))
            shutil.rmtree(crops)
            (place / "packed").rename(crops)
            yield from growth_rows(place, measured, count, costs, ", packed")


def growth_rows(
    place: Path, stages: Sequence[str], count: int, costs: dict[str, float], kind: str = ""
) -> Iterator[Row]:
    """Microseconds per crop of some stages; `costs` has those of the last call, and gets these.

    The goal is at most 1.1 times the cost per crop there.
    """
    for stage in stages:
        arguments = ["data/many"] if stage == "predict" else []
        run = json.loads(python("-c", MEASURED, stage, *arguments, where=place))
        earlier, costs[stage] = costs.get(stage), run["seconds"] / count * 1e6
        yield Row(
            f"{stage}, {count:,} crops{kind}",
            "us/crop",
            costs[stage],
            None,
            earlier,
            False,
            f"{run['megabytes']:.0f} MiB",
            most=earlier and 1.1 * earlier,
            megabytes=run["megabytes"],
            most_megabytes=1024,
        )


ROWS = {
    "pad": pad,
    "train": train,
    "jax": jax,
    "predict": predict,
    "export": export,
    "dvc": dvc,
    "startup": startup,
    "growth": growth,
}

if __name__ == "__main__":
    main()
