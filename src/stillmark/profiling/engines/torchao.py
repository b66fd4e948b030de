"""torchao's rounding of a transformers model's weights, in memory: it has no file of its own to write.

`torchao-int8`: int8 weights, one scale a row, activations as they were. `torchao-int4`: int4 in groups of 32, for which
torchao 0.18 needs mslk, a library for GPUs. A vocabulary head is rounded too; an embedding is not.
"""

from typing import Any

from stillmark.errors import UserError
from stillmark.profiling.engines import required

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "torchao-int8": ("Int8WeightOnlyConfig", {}),
    "torchao-int4": ("Int4WeightOnlyConfig", {"group_size": 32}),
}


def library() -> Any:
    return required("torchao.quantization", "torchao")


def rounded(model: Any, format: str) -> Any:
    """The same model with its linear layers' weights rounded."""
    torchao = library()
    name, settings = SETTINGS[format]
    try:
        torchao.quantize_(model, getattr(torchao, name)(**settings))
    except (ImportError, AssertionError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"torchao cannot make `{format}` here: {error}", hint="torchao-int8 runs on any CPU"
        ) from error
    return model


def stored_bytes(tensor: Any) -> int:
    """Of a tensor, or of all that one of torchao's holds: rounded values and scales."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return int(tensor.nbytes)
    return sum(stored_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
