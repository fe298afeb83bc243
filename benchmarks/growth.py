"""Make datasets of many crops, measure a stage on them, and draw the result.

python -m benchmarks.speed growth --output benchmarks/growth.json
python -m benchmarks.growth benchmarks/growth.json docs/growth.png
"""

import os
import re
import sys
from pathlib import Path

import imagecodecs
import numpy as np
from ruamel.yaml import YAML

from stages.base.files import read_json
from stages.experiments.charts import save_chart
from stages.workers.cores import ahead
from tests.repositories import PROJECT

SIZE = 32
CROPS_OF_SLIDE = 40
CARD = "title: Many crops\nclasses: [nonGS, GS]\ngroup: '(?P<slide>(?P<site>[a-e])\\d+)-'\n"


def make_crops(folder: Path, count: int) -> None:
    """Make a dataset of `count` different crops of 40 x 48 pixels, a fifth of them sclerotic."""
    for kind in ("GS", "nonGS"):
        (folder / f"data/many/{kind}").mkdir(parents=True)
    (folder / "data/many.yaml").write_text(CARD)
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
    # Or the disk would be busy with them when the first stage is measured.
    os.sync()


# Runs a stage without its output, and prints its time without imports, and its peak memory without
# mapped files. Linux does not record this peak, so it is sampled fifty times per second.
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
    last = False
    while not last:
        last = ended.wait(0.02)
        status = pathlib.Path("/proc/self/status").read_text()
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1]))

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


def draw(results: Path, picture: Path) -> None:
    """Draw the seconds and the memory of each stage over the number of crops, both axes
    logarithmic: a line for each stage.
    """
    values = []
    for row in read_json(results)["rows"]:
        if found := re.fullmatch(r"(\w+), ([\d,]+) crops", row["name"]):
            crops = int(found[2].replace(",", ""))
            seconds = row["ours"] * crops / 1e6
            values.append(
                {
                    "stage": found[1],
                    "crops": crops,
                    "seconds": seconds,
                    "megabytes": row["megabytes"],
                }
            )
    stages = [*dict.fromkeys(value["stage"] for value in values)]
    crops = {
        "field": "crops",
        "type": "quantitative",
        "title": "crops",
        "axis": {"format": "~s", "tickCount": 4},
    }

    def panel(field: str, title: str, rules: list[dict]) -> dict:
        axis = {"field": field, "type": "quantitative", "scale": {"type": "log"}, "title": None}
        color = {
            "field": "stage",
            "type": "nominal",
            "scale": {"domain": stages, "range": COLORS},
            "legend": {"title": None},
        }
        lines = {
            "mark": {"type": "line", "point": {"filled": True, "size": 70}, "strokeWidth": 2.5},
            "encoding": {"x": crops | {"scale": {"type": "log"}}, "y": axis, "color": color},
        }
        return {
            "title": {"text": title, "anchor": "start"},
            "width": 380,
            "height": 280,
            "layer": [lines, *rules],
        }

    limit = {
        "data": {"values": [{"megabytes": 1024}]},
        "mark": {"type": "rule", "strokeDash": [6, 4], "color": "#8a8f98"},
        "encoding": {"y": {"field": "megabytes", "type": "quantitative"}},
    }
    panels = [
        panel("seconds", "Seconds", []),
        panel("megabytes", "Memory at its peak, MiB; dashed: 1 GiB", [limit]),
    ]
    save_chart(picture, {"data": {"values": values}, "hconcat": panels})


COLORS = ["#2f5fa8", "#8a8f98", "#1b7f5c", "#c2571a", "#7b3fa0", "#b8860b"]

if __name__ == "__main__":
    draw(*map(Path, sys.argv[1:]))
