"""Does the packed path give this model's own logits? Asked once a model, on a few tokens, before it is
trusted.

Models differ in ways that no list keeps up with (recurrent or convolutional layers, positions taken from the
mask, attention that is not replaceable). So the packed path is used only where it gives the logits of the
plain forward pass, over a prefix, branches after it, and decode steps.
"""

from collections.abc import Sequence
from typing import Any

import torch

from stillmark.backends.decoding import DecodeLimits, Decoder, PromptRows
from stillmark.backends.packed import CannotPackError, PackedModel
from stillmark.backends.prefix import PassLimits
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream
from stillmark.backends.scoring import packed_logprobs

# Largest difference in log p of a token (nats) that rounding explains
TOLERANCE_NATS = {torch.float64: 1e-6, torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.25}
KNOWN_LAYER_TYPES = {"full_attention", "sliding_attention"}


class _NeverStop:
    """Stands in for a StopRule."""

    def stops_at(self, ids: list[int]) -> bool:
        return False


def reason_not_to_pack(packed: PackedModel) -> str | None:
    """Why the packed path cannot be used for this model, or None where it gives the model's own logits."""
    config = packed.model.config
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    layer_types = set(getattr(text_config, "layer_types", None) or [])
    if layer_types - KNOWN_LAYER_TYPES:
        return f"it has layers of the types {sorted(layer_types - KNOWN_LAYER_TYPES)}"
    try:
        worst = _worst_difference(packed, text_config.vocab_size)
    except CannotPackError as error:
        return str(error)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        KeyError,
        AssertionError,
    ) as error:
        return f"it failed on packed rows: {type(error).__name__}: {error}"
    tolerance = TOLERANCE_NATS.get(packed.model.dtype, 0.0)
    if not worst <= tolerance:
        return f"packed rows gave log-probabilities that differ by {worst:.3g} nats"
    if "sliding_attention" in layer_types and not any(packed.windows.values()):
        return "its sliding-window layers do not tell the attention function their window"
    return None


def _worst_difference(packed: PackedModel, vocab_size: int) -> float:
    """The largest difference of a token's log p between packed and plain passes, in nats."""
    step = max(1, vocab_size // 41)
    ids = [(7 + index * step) % vocab_size for index in range(24)]
    prefix, branches = (
        tuple(ids[:6]),
        (tuple(ids[6:11]), tuple(ids[11:14]), tuple(ids[6:8]) + tuple(ids[14:18])),
    )
    limits = PassLimits(max_tokens=16, max_wanted=16, group_tokens=8)
    pairs = [(prefix[:3], prefix[3:] + branch) for branch in branches]
    scored = packed_logprobs(packed, pairs, limits)
    worst = 0.0
    for (prompt, continuation), row in zip(pairs, scored, strict=True):
        logprobs = _plain_logprobs(packed.model, prompt + continuation)
        expected = sum(logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(continuation))
        # A NaN on either side has to count as a difference
        difference = abs(row.loglikelihood - expected) / len(continuation)
        worst = difference if not difference <= worst else worst
    return max(worst, _worst_greedy_loss(packed, [prefix + branch for branch in branches], limits))


def _worst_greedy_loss(packed: PackedModel, prompts: list[tuple[int, ...]], limits: PassLimits) -> float:
    """How much less likely (nats) a packed greedy token is than the plain pass's best, at worst."""
    sampling = Sampling(max_new_tokens=3)
    rows = [PromptRows(ids=ids, streams=[UniformStream(0, ids, 0)], max_new_tokens=3) for ids in prompts]
    decoder = Decoder(
        packed=packed,
        prompts=rows,
        sampling=sampling,
        rule=_NeverStop(),  # type: ignore[arg-type]
        limits=DecodeLimits(passes=limits, max_rows=8, min_shared_rows=2, min_shared_tokens=4),
    )
    worst = 0.0
    for ids, written in zip(prompts, decoder.run(), strict=True):
        loss = greedy_loss(packed.model, ids, written[0].ids)
        worst = loss if not loss <= worst else worst
    return worst


def greedy_loss(model: Any, prompt: tuple[int, ...], written: Sequence[int]) -> float:
    """How much less likely (nats) a written token is than the best of the model's plain forward pass, at worst."""
    logprobs = _plain_logprobs(model, prompt + tuple(written))
    worst = 0.0
    for index, token in enumerate(written):
        at = logprobs[len(prompt) - 1 + index]
        loss = (at.max() - at[token]).item()
        worst = loss if not loss <= worst else worst  # a NaN has to count
    return worst


def _plain_logprobs(model: Any, ids: tuple[int, ...]) -> torch.Tensor:
    output = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False)
    return output.logits[0].float().log_softmax(-1)
