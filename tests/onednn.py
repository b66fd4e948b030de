"""Makes every float32 product oneDNN's, as on a processor where it is the faster library."""

import pytest
import torch

from stillmark.backends import attention, kernels


def always_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(kernels, "MIN_PRODUCTS", 1)
    for module in (kernels, attention):
        monkeypatch.setattr(module, "is_onednn_faster", lambda: True)
