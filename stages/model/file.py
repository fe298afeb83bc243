"""Saving a model so that equal weights give equal bytes, and loading one without running code that
came with it.

Keras takes seconds to import: it is, where it saves or loads.
"""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from stages.base.errors import UserError
from stages.base.files import FIXED_TIME, write_archive

if TYPE_CHECKING:
    from stages.model.backend import keras

MODEL = Path("models/model.keras")


def save_model(model: "keras.Model", path: str | Path) -> None:
    """Write `model` as a .keras file whose bytes depend on its layers and weights alone.

    The optimizer and its state, two thirds of the file, are of no use to prediction and are left
    out. Keras puts the date into metadata.json, the time into each zip entry, and into config.json
    addresses in memory as the identities of shared objects, so that two files with the same weights
    differ (keras-team/keras#15948). The archive is written anew with the first two fixed and the
    identities counted from 1; the entries are otherwise as Keras wrote them, and
    `keras.models.load_model` reads the file like any other.
    """
    from stages.model.backend import keras

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    as_keras_writes = path.with_suffix(".part.keras")
    bare = keras.Model(model.inputs, model.outputs, name=model.name)
    try:
        with _zip_entries_without_time():
            bare.save(as_keras_writes)
        with zipfile.ZipFile(as_keras_writes) as source:
            write_archive(
                path,
                ((name, _fixed(name, source.read(name))) for name in sorted(source.namelist())),
            )
    finally:
        as_keras_writes.unlink(missing_ok=True)


@contextmanager
def _zip_entries_without_time() -> Iterator[None]:
    """Have zipfile write the earliest date: Keras has it write the clock's, and a clock before 1980
    or after 2107 ends in an error. Any other way to save has Keras write the weights in other
    bytes.
    """
    clock = zipfile.time  # type: ignore[attr-defined]
    zipfile.time = SimpleNamespace(time=clock.time, localtime=lambda seconds: FIXED_TIME)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        zipfile.time = clock  # type: ignore[attr-defined]


def _fixed(name: str, content: bytes) -> bytes:
    """Return an entry of a .keras file as it is the same each time."""
    if name == "metadata.json":
        return json.dumps(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}).encode()
    if name == "config.json":
        return json.dumps(_number_shared_objects(json.loads(content), {})).encode()
    return content


def _number_shared_objects(node: Any, numbers: dict[int, int]) -> Any:
    """Return a copy of a Keras configuration with each `shared_object_id` replaced by a number, in
    order of appearance.
    """
    if isinstance(node, list):
        return [_number_shared_objects(item, numbers) for item in node]
    if isinstance(node, dict):
        return {
            key: numbers.setdefault(value, len(numbers) + 1)
            if key == "shared_object_id" and value is not None
            else _number_shared_objects(value, numbers)
            for key, value in node.items()
        }
    return node


def load_model(path: str | Path) -> "keras.Model":
    """Return the model of a .keras file, in Keras's safe mode: a file that carries code (a Lambda
    layer) is refused.

    Raises:
        UserError: the file is missing, damaged, or carries code.
    """
    from stages.model.backend import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # h5py, zipfile and Keras raise many kinds on damaged files.
        reason = " ".join(str(error).split())
        raise UserError(f"{path} does not load as a Keras model: {reason[:200]}") from None
