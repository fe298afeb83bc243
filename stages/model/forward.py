"""Apply a model to many squares: one compiled function, and several batches in flight on a GPU."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from stages.base.errors import UserError
from stages.base.memory import keep_freed_memory
from stages.model.backend import has_accelerator, keras
from stages.model.device import compiled
from stages.model.steps import Views

# Squares per batch on a CPU, by the number of views of each.
ON_CPU: dict[Views, int] = {1: 32, 2: 32, 4: 16, 8: 8}
# Views per batch on a GPU: it took at least this many of a ViT-L/16 at once to keep an H200 busy.
VIEWS_ON_GPU = 256
IN_FLIGHT = 3
OUT_OF_MEMORY = re.compile("RESOURCE_EXHAUSTED|ResourceExhausted|[Oo]ut of memory|OOM")

Result = TypeVar("Result")


def orientations(pixels: Any, views: Views = 8) -> list[Any]:
    """Return squares in some orientations, each uint8 (n, size, size, 3) as `pixels` are.

    The first are the squares themselves, then come the three quarter turns, then these four
    flipped. They are tensors of the backend, or symbolic.
    """
    # TensorFlow's fast library does not rotate bytes, and prints that.
    square = keras.ops.cast(pixels, "float32")
    turns = range(1, min(views, 4))
    turned = [keras.ops.rot90(square, k=number, axes=(1, 2)) for number in turns]
    flipped = [keras.ops.flip(one, axis=2) for one in (square, *turned)] if views == 8 else []
    return [pixels, *(keras.ops.cast(view, "uint8") for view in (*turned, *flipped))]


class Forward:
    """A model as one compiled function of a batch of squares; the last batch is padded.

    Squares go to the device as bytes and are turned there.

    Args:
        model: from uint8 (n, size, size, 3) to one or more outputs, float32 (n, D). A head takes
            embeddings instead of squares, float32 (n, features), in one view.
        views: how many orientations of each square, beginning with the square as it is.
        batch: squares per batch; None: few on a CPU, on a GPU as many as keep it busy, halved until
            they fit into its memory.

    Raises:
        UserError: the memory of the GPU does not hold a batch.
    """

    def __init__(self, model: keras.Model, views: Views = 1, batch: int | None = None):
        self.views, self._inputs = views, model.inputs[0]
        self._function = compiled(model, self._prepare)
        self.batch = batch or (VIEWS_ON_GPU // views if has_accelerator() else ON_CPU[views])
        while has_accelerator() and not self._fits():
            if batch or self.batch == 1:
                raise UserError(f"the memory of the GPU is too small for batches of {self.batch}")
            self.batch //= 2

    def start(self, squares: np.ndarray) -> Callable[[], list[np.ndarray]]:
        """Start computing the outputs of at most `batch` squares.

        Returns:
            a function that waits for the outputs and returns each, float32 (n, views, D).
        """
        keep_freed_memory()
        missing = self.batch - len(squares)
        # Padded, because another size would be compiled anew.
        padded = squares
        if missing:
            padded = np.pad(squares, ((0, missing), *((0, 0) for _ in squares.shape[1:])))
        outputs = self._function(np.ascontiguousarray(padded))

        def fetch() -> list[np.ndarray]:
            arrays = [np.asarray(keras.ops.convert_to_numpy(one)) for one in outputs]
            by_view = [array.reshape(self.views, self.batch, -1) for array in arrays]
            return [array.swapaxes(0, 1)[: len(squares)] for array in by_view]

        return fetch

    def _prepare(self, pixels: Any) -> Any:
        return keras.ops.concatenate(orientations(pixels, self.views)) if self.views > 1 else pixels

    def _fits(self) -> bool:
        """Compile the function, and return whether the memory of the GPU suffices."""
        try:
            shape = (self.batch, *self._inputs.shape[1:])
            self.start(np.zeros(shape, dtype=self._inputs.dtype))()
        except Exception as error:  # Each backend raises another kind.
            if OUT_OF_MEMORY.search(f"{type(error).__name__} {error}"):
                return False
            raise
        return True


def in_flight(started: Iterable[Callable[[], Result]]) -> Iterator[Result]:
    """Yield the results of what `Forward.start` returned, in order.

    On a GPU the next batches are started before a result is fetched, so that it never waits. On a
    CPU there is nothing to gain.
    """
    most = IN_FLIGHT if has_accelerator() else 0
    waiting: deque[Callable[[], Result]] = deque()
    for fetch in started:
        waiting.append(fetch)
        if len(waiting) > most:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()
