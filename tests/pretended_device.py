"""A device that is not there: its tensors live in this machine's memory, and refuse to meet the CPU's as a GPU's would.

    with pretended_device() as device:
        model.to(device)

PyTorch's own seam for backends written in Python makes the device known (`torch.utils.backend_registration`); each
operation on its tensors is done on the CPU. What is checked is where tensors are: an operation on both sides raises, as
it does with CUDA.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

aten, Generator, move = torch.ops.aten, torch.Generator, torch.nn.Module.to
KIND = "pretended"
# CUDA too takes indices from the CPU, and copies from one side to the other
CROSSING = {aten._to_copy.default, aten.copy_.default, aten.index.Tensor, aten.index_put_.default}


IS_POSSIBLE = hasattr(
    backend_registration, "_setup_privateuseone_for_python_backend"
)  # in torch 2.13, not in 2.6


@cache
def register() -> None:
    class Hooks(backend_registration._DummyPrivateUse1Hook):
        def is_available(self) -> bool:
            return False  # to those who look for an accelerator: a test asks for it by name

    class Module(backend_registration._DummyBackendModule):
        """What checkpointing of activations asks of a device."""

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16]

        def device(self, index: Any) -> Any:
            return nullcontext()

        def get_rng_state(self, device: Any = None) -> torch.Tensor:
            return torch.get_rng_state()

        def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
            torch.set_rng_state(state)

    backend_registration._setup_privateuseone_for_python_backend(KIND, Module(), Hooks())


@contextmanager
def pretended_device() -> Iterator[str]:
    """The device's name, for as long as the context is open."""
    register()
    with (
        MadeThere(), DoneHere(),
        patch.object(torch.accelerator, "synchronize", lambda: None),
        patch.object(torch, "Generator", generator_here),
        patch.object(torch.nn.Module, "to", moved),
        patch.object(torch._C, "_InferenceMode", lambda mode: torch.no_grad() if mode else nullcontext()),
    ):  # fmt: skip
        yield f"{KIND}:0"


def moved(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
    """Parameters that become another class are made anew, each by itself: those that were one are made one again."""
    move(module, *args, **kwargs)
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    return module


def generator_here(device: Any = "cpu") -> torch.Generator:
    kind = torch.device(device).type
    return Generator("cpu" if kind == KIND else device)


class ThereTensor(torch.Tensor):
    """Says that it is on the device; `here` is what it holds, on the CPU."""

    here: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "ThereTensor":
        return torch.Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=f"{KIND}:0",
        )  # fmt: skip

    def __init__(self, here: torch.Tensor) -> None:
        self.here = here

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    def tolist(self) -> Any:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return done_here(func, args, kwargs or {})


class DoneHere(TorchDispatchMode):
    """So that what makes a tensor from none on the device is seen too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return done_here(func, args, kwargs or {})


class MadeThere(TorchFunctionMode):
    """What C++ makes where no mode sees it: `torch.tensor(..., device=...)`, and indices that are lists."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            tensor, index, *rest = args
            parts = index if isinstance(index, tuple) else (index,)
            parts = tuple(torch.tensor(part) if isinstance(part, list) else part for part in parts)
            return func(tensor, parts, *rest)
        if func not in (torch.tensor, torch.as_tensor) or kwargs.get("device") is None:
            return func(*args, **kwargs)
        device = kwargs.pop("device")
        return func(*args, **kwargs).to(device)


def done_here(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if func is aten._has_compatible_shallow_copy_type.default:
        return False
    if func._can_decompose():  # as it comes in inference mode
        with DoneHere():
            made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    are_there = [isinstance(tensor, ThereTensor) for tensor in tensors]
    if func not in CROSSING and any(are_there):
        strangers = [t for t, is_there in zip(tensors, are_there, strict=True) if not is_there and t.dim()]
        if strangers:
            raise RuntimeError(f"{func}: expected all tensors to be on {KIND}:0, but some are on the CPU")
    asked = kwargs.get("device")
    goes_there = any(are_there) if asked is None else torch.device(asked).type == KIND
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    with _disable_current_modes(), torch.no_grad():
        made = func(*tree_map(held, args), **tree_map(held, kwargs))
    written = written_by(func, args, kwargs)
    if len(written) == 1 and isinstance(made, torch.Tensor):
        return written[0]
    return tree_map(there, made) if goes_there and not written else made


def written_by(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Any]:
    """What an operation in place returns is what it was given."""
    given = zip(func._schema.arguments, args, strict=False)
    return [value for argument, value in given if argument.is_write] + [
        kwargs[argument.name]
        for argument in func._schema.arguments
        if argument.is_write and argument.name in kwargs
    ]


def held(leaf: Any) -> Any:
    return leaf.here if isinstance(leaf, ThereTensor) else leaf


def there(leaf: Any) -> Any:
    return ThereTensor(leaf) if isinstance(leaf, torch.Tensor) else leaf
