"""Save models so that equal weights give equal bytes; load them without running code in the file.

Keras takes seconds to import, so functions import it only when they need it.
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
    """Write `model` as a .keras file whose bytes depend only on its layers and weights.

    Keras stores the date in metadata.json, the time in each zip entry, and memory addresses as the
    identities of shared objects in config.json, so that files with the same weights differ
    (keras-team/keras#15948). Here dates are fixed and identities counted from 1; otherwise the
    entries are as Keras wrote them, and `keras.models.load_model` reads the file. The optimizer and
    its state, two thirds of the file, are left out.
    """
    from stages.model.backend import keras

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    by_keras = path.with_suffix(".part.keras")
    bare = keras.Model(model.inputs, model.outputs, name=model.name)
    try:
        with _zip_entries_without_time():
            bare.save(by_keras)
        with zipfile.ZipFile(by_keras) as source:
            names = sorted(source.namelist())
            write_archive(path, ((name, _fixed(name, source.read(name))) for name in names))
    finally:
        by_keras.unlink(missing_ok=True)


@contextmanager
def _zip_entries_without_time() -> Iterator[None]:
    """Let zipfile write the earliest date.

    Keras writes the clock's time, and a clock before 1980 or after 2107 would end in an error. Any
    other way to save would change the bytes of the weights.
    """
    clock = zipfile.time  # type: ignore[attr-defined]
    fixed = SimpleNamespace(time=clock.time, localtime=lambda seconds: FIXED_TIME)
    zipfile.time = fixed  # type: ignore[attr-defined]
    try:
        yield
    finally:
        zipfile.time = clock  # type: ignore[attr-defined]


def _fixed(name: str, content: bytes) -> bytes:
    """Return an entry of a .keras file without what changes from save to save."""
    if name == "metadata.json":
        return json.dumps(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}).encode()
    if name == "config.json":
        return json.dumps(_number_shared_objects(json.loads(content), {})).encode()
    return content


def _number_shared_objects(node: Any, numbers: dict[int, int]) -> Any:
    """Return a Keras configuration with each `shared_object_id` numbered in order of appearance."""
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
    """Return the model in a .keras file; a file that carries code (a Lambda layer) is refused.

    Raises:
        UserError: the file is missing, damaged, or carries code.
    """
    from stages.model.backend import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # h5py, zipfile and Keras raise many kinds on damaged files.
        reason = " ".join(str(error).split())
        raise UserError(f"{path} does not load as a Keras model: {reason[:200]}") from None
