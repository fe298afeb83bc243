"""Datasets of many crops, for the bench, and how a stage is measured on them."""

from pathlib import Path

import imagecodecs
import numpy as np
from ruamel.yaml import YAML

from stages.workers.cores import ahead
from tests.repositories import PROJECT

SIZE = 32
CROPS_OF_SLIDE = 40
CARD = "title: Many crops\nclasses: [nonGS, GS]\ngroup: '(?P<slide>(?P<site>[a-e])\\d+)-'\n"


def make_crops(folder: Path, count: int) -> None:
    """Make the data and params.yaml of a repository: `count` crops of 40 x 48 pixels, one of five sclerotic, no two alike."""
    for kind in ("GS", "nonGS"):
        (folder / f"data/many/{kind}").mkdir(parents=True)
    (folder / "data/many.yaml").write_text(CARD)
    (folder / "data/stained").mkdir()
    np.save(folder / "data/stained/images.npy", np.empty((0, SIZE, SIZE, 3), dtype=np.uint8))
    params = YAML().load(PROJECT / "params.yaml")
    params["data"], params["pad"]["size"] = "many", SIZE
    params["model"] |= {"step": "MobileNetV3Small", "weights": "none"}
    YAML().dump(params, folder / "params.yaml")
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 40, 3), dtype=np.uint8)

    def write(number: int) -> None:
        slide, pixels = number // CROPS_OF_SLIDE, noise[number % len(noise)].copy()
        pixels[0, :3, 0] = [number % 256, number // 256 % 256, number // 65536]
        kind = "GS" if number % 5 == 0 else "nonGS"
        file = folder / f"data/many/{kind}/{'abcde'[slide % 5]}{slide:05}-{number:07}.png"
        file.write_bytes(imagecodecs.png_encode(pixels, level=1))

    for _ in ahead(write, ((number,) for number in range(count))):
        pass


# What the stage prints is held back; the imports, those that it puts off included, are not part of the time. The memory is that
# of this process alone without what it maps of files, whose peak Linux does not keep: it is looked at fifty times a second.
MEASURED = """
import contextlib, importlib, io, json, pathlib, re, sys, threading, time
import stages
import scipy.sparse.csgraph, sklearn.model_selection
name, *arguments = sys.argv[1:]
stage = importlib.import_module(f"stages.{name}")
if name in ("features", "predict"):
    import stages.model.backend, stages.model.backbone, stages.model.encoder
sys.argv[1:] = arguments
peak, ended = 0, threading.Event()

def watch():
    global peak
    while not ended.wait(0.02):
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]))

watching = threading.Thread(target=watch)
watching.start()
start = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    stage.main()
seconds = time.perf_counter() - start
ended.set()
watching.join()
print(json.dumps({"seconds": seconds, "megabytes": peak / 1024}))
"""
