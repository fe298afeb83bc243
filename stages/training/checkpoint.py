"""Going on with a training that was killed, from its last whole epoch, to the same bytes as if
nothing had happened.
"""

import json
import sys
from pathlib import Path

import numpy as np

from stages.base.files import replacing
from stages.model.backend import keras


class Checkpoint(keras.callbacks.Callback):
    """Save after each epoch what training needs to go on; put it back when training begins again.

    Saved are all variables of the model (weights, batch statistics, states of random generators),
    those of the optimizer, the weights of the best epoch, and the history of losses and metrics.
    What `others` have counted (patience, the halving of the learning rate, the log) follows from
    the history, which is replayed to them. It must stand last in the list of callbacks. The file is
    an .npz archive of plain arrays, written whole or not at all; it is no output of the pipeline.

    Args:
        path: where the state is kept.
        fingerprint: of everything that the training depends on; a state of another training is not
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
        try:
            with np.load(path, allow_pickle=False) as archive:
                state = json.loads(str(archive["state"]))
                if state["fingerprint"] == fingerprint:
                    self.saved = dict(archive)
                    self.history = state["history"]
        except FileNotFoundError:
            pass
        except Exception as error:  # numpy and zipfile raise many kinds on a damaged file.
            print(
                f"warning: {path} cannot be used ({error}); training begins anew", file=sys.stderr
            )

    @property
    def first_epoch(self) -> int:
        """The epochs that need not be trained again."""
        return len(self.history)

    def has_ended(self) -> bool:
        """Say whether the saved training had run out of patience, and waits only to be written
        down.
        """
        losses = [logs["val_loss"] for logs in self.history]
        return (
            bool(losses)
            and len(losses) - 1 - int(np.argmin(losses)) >= self.early_stopping.patience
        )

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.history:
            return
        print(f"going on after epoch {self.first_epoch}, which a run before this one completed")
        for epoch, past in enumerate(self.history):
            for callback in (*self.others, self.early_stopping):
                callback.on_epoch_end(epoch, dict(past))
        self.model.stop_training = False
        self.model.optimizer.build(self.model.trainable_variables)
        for name, variables in self._variables().items():
            for number, variable in enumerate(variables):
                variable.assign(self.saved[f"{name}{number}"])
        best = [self.saved[f"best{number}"] for number in range(len(self.model.weights))]
        self.early_stopping.best_weights = best

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.history.append({name: float(value) for name, value in logs.items()})
        arrays = {
            f"{name}{number}": keras.ops.convert_to_numpy(variable)
            for name, variables in self._variables().items()
            for number, variable in enumerate(variables)
        }
        arrays |= {
            f"best{number}": weight
            for number, weight in enumerate(self.early_stopping.best_weights)
        }
        state = json.dumps({"fingerprint": self.fingerprint, "history": self.history})
        with replacing(self.path, binary=True) as file:
            np.savez(file, state=np.array(state), **arrays)

    def _variables(self) -> dict[str, list]:
        return {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
