"""What Keras computes on, and a GPU that it does not use."""

import pytest

from stages.model import device
from stages.model.backend import has_accelerator
from stages.model.device import describe_device

pytestmark = pytest.mark.skipif(has_accelerator(), reason="Keras uses a GPU here")


@pytest.mark.parametrize(
    "is_there, visible, warns",
    [(True, None, True), (True, "0", True), (True, "-1", False), (False, None, False)],
)
def test_warns_of_a_gpu_that_is_not_used(tmp_path, monkeypatch, capsys, is_there, visible, warns):
    monkeypatch.setattr(device, "NVIDIA", tmp_path / "nvidia0")
    if is_there:
        device.NVIDIA.touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    line, error = describe_device(), capsys.readouterr().err
    assert line.startswith("computing on ") and "CPU cores, with " in line
    assert ("requirements-gpu.txt" in error) == warns
