"""How the FLOPs of training are counted for a recipe: adapters, recomputation, and what kernels execute."""

from collections.abc import Callable
from functools import partial
from typing import Any

from stillmark.compute.backward import Lora, Recompute
from stillmark.compute.flops import train_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError

TrainFlops = Callable[..., int]  # as `compute.flops.train_flops`


def executed_shape(model: Any, shape: ModelShape) -> ModelShape:
    """The shape as the model's attention kernel runs it: eager and SDPA compute a window's whole context."""
    return shape.without_windows() if model.config._attn_implementation in ("eager", "sdpa") else shape


def training_formula(model: Any, shape: ModelShape, lora: Lora | None, checkpointing: bool) -> TrainFlops:
    """`train_flops` with what this training leaves out (frozen weights) and does twice (recomputation)."""
    recompute = recompute_of(model.config.to_dict(), shape) if checkpointing else Recompute.NONE
    return partial(train_flops, lora=lora, recompute=recompute)


def recompute_of(config: dict[str, Any], shape: ModelShape) -> Recompute:
    """What gradient checkpointing runs again, found by counting this architecture on the meta device.

    torch stops a recomputation once all that the backward needs is there, so whether a layer's last product is run
    again depends on what comes after it (a norm or a dropout keeps its input).
    """
    from stillmark.models.count import count_model, meta_model

    tokens = 8
    model = meta_model(config)
    checkpoint_layers(model)
    counted = count_model(model, tokens)[1]
    full = shape.without_windows()
    for kind in (Recompute.LAYERS_BUT_LAST_PRODUCT, Recompute.LAYERS):
        if train_flops(full, tokens=tokens, recompute=kind) == counted:
            return kind
    raise UserError(
        f"gradient_checkpointing: what {shape.model_type} computes again is not counted by any formula here",
        hint="leave `gradient_checkpointing` out: no FLOPs figure is given rather than a guessed one",
    )


def checkpoint_layers(model: Any) -> None:
    """Gradient checkpointing, layer by layer, by transformers' own; its newer releases have another name for it."""
    current = getattr(model, "activation_checkpointing_enable", None)
    (current or model.gradient_checkpointing_enable)({"use_reentrant": False})
    # Frozen embeddings are made to pass a gradient on, which reentrant checkpointing needs: here it is wasted work.
    model.disable_input_require_grads()
