"""The device that a model is on: what the ledger calls it, and what meters its work."""

import torch

from stillmark.compute.hardware import Device, device_from_name
from stillmark.compute.stretch import Stretch
from stillmark.provenance import provenance


def device_name(device: torch.device | str) -> str:
    """In words; of the CPU with how many threads work."""
    kind: str = torch.device(device).type
    if kind == "cuda":
        name: str = torch.cuda.get_device_name(device)
        return name
    if kind != "cpu":
        return kind
    return f"{provenance()['cpu'] or 'unknown CPU'}, {torch.get_num_threads()} threads"


def stretch_on(device: torch.device | str) -> Stretch:
    """What meters a model's work there. The counters of all GPUs that are seen are read."""
    kind = torch.device(device).type
    if kind == "cuda":
        name = device_name(device)
        return Stretch(device_from_name(name) or Device(name=name, kind="gpu"))
    return Stretch(unread=None if kind == "cpu" else f"the counters of a device of kind {kind} are not read")
