"""Resume a killed training after its last saved epoch, with the bytes of an uninterrupted one."""

import json
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from stages.base.errors import warn
from stages.base.files import replacing
from stages.model.backend import keras


class Checkpoint(keras.callbacks.Callback):
    """Save after epochs what training needs to go on; restore it when training begins again.

    The state is all variables of the model (weights, batch statistics, random generators) and of
    the optimizer, the weights of the best epoch, and the history of losses and metrics. What
    `others` have counted (patience, halvings of the learning rate, the log) follows from the
    history, which is replayed to them. The callback must come last. The file is an .npz archive of
    plain arrays and no output of the pipeline. Epochs that are shorter than saving, as on a GPU,
    are not all saved: saving takes at most a twentieth of the time, in a thread.

    Args:
        path: of the state.
        fingerprint: of everything that the training depends on; only a state with the same one is
            used.
        early_stopping: the callback that keeps the weights of the best epoch.
        others: the other callbacks that count epochs.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: str,
        early_stopping: keras.callbacks.EarlyStopping,
        others: list[keras.callbacks.Callback],
    ):
        super().__init__()
        self.path, self.fingerprint = path, fingerprint
        self.early_stopping, self.others = early_stopping, others
        self.history: list[dict[str, float]] = []
        self.saved: dict[str, np.ndarray] = {}
        self.writer, self.next_save = ThreadPoolExecutor(1), 0.0
        self.writing: Future | None = None
        try:
            with np.load(path, allow_pickle=False) as archive:
                state = json.loads(str(archive["state"]))
                if state["fingerprint"] == fingerprint:
                    self.saved, self.history = dict(archive), state["history"]
        except FileNotFoundError:
            pass
        except Exception as error:  # NumPy and zipfile raise many kinds on a damaged file.
            warn(f"{path} is not usable ({error}); training starts over")

    @property
    def first_epoch(self) -> int:
        """The first epoch to train, counted from 0."""
        return len(self.history)

    def has_ended(self) -> bool:
        """Return whether the saved training had run out of patience and only has to be saved."""
        losses = [logs["val_loss"] for logs in self.history]
        patience = self.early_stopping.patience
        return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.history:
            return
        print(f"resuming after epoch {self.first_epoch}, which an earlier run completed")
        for epoch, past in enumerate(self.history):
            for callback in (*self.others, self.early_stopping):
                callback.on_epoch_end(epoch, dict(past))
        self.model.stop_training = False
        self.model.optimizer.build(self.model.trainable_variables)
        for name, variable in self._variables().items():
            variable.assign(self.saved[name])
        best = [self.saved[f"best{number}"] for number in range(len(self.model.weights))]
        self.early_stopping.best_weights = best

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.history.append({name: float(value) for name, value in logs.items()})
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self.writing and (is_last or self.writing.done()):
            self.writing.result()  # Raises the error of the thread, if there was one.
        start = time.monotonic()
        if start < self.next_save and not is_last:
            return
        # Copied, as training goes on while the thread writes.
        arrays: dict[str, Any] = {
            name: np.array(keras.ops.convert_to_numpy(variable))
            for name, variable in self._variables().items()
        }
        for number, weight in enumerate(self.early_stopping.best_weights):
            arrays[f"best{number}"] = weight
        state = json.dumps({"fingerprint": self.fingerprint, "history": self.history})
        self.writing = self.writer.submit(self._write, state, arrays, start)
        self.next_save = math.inf

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.writing:
            self.writing.result()

    def _write(self, state: str, arrays: dict[str, Any], start: float) -> None:
        with replacing(self.path, binary=True) as file:
            np.savez(file, state=np.array(state), **arrays)
        end = time.monotonic()
        self.next_save = end + 19 * (end - start)

    def _variables(self) -> dict[str, keras.Variable]:
        parts = {"model": self.model, "optimizer": self.model.optimizer}
        return {
            f"{name}{number}": variable
            for name, part in parts.items()
            for number, variable in enumerate(part.variables)
        }
