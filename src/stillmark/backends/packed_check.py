"""Does the packed path give this model's own logits? Asked once a model, on a few tokens, before it is
trusted.

Models differ in ways that no list keeps up with (recurrent or convolutional layers, positions taken from the
mask, attention that is not replaceable). So the packed path is used only where it gives the logits of the
plain forward pass, over a prefix, branches after it, and decode steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from stillmark.backends.decoding import DecodeLimits, Decoder, PromptRows
from stillmark.backends.packed import CannotPackError, PackedModel
from stillmark.backends.prefix import PassLimits
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream
from stillmark.backends.scoring import packed_logprobs
from stillmark.backends.wanted import text_config_of

# Largest difference in log p of a token (nats) that rounding explains
TOLERANCE_NATS = {torch.float64: 1e-6, torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.25}
KNOWN_LAYER_TYPES = {"full_attention", "sliding_attention"}


class _NeverStop:
    """Stands in for a StopRule."""

    def stops_at(self, ids: list[int]) -> bool:
        return False


def reason_not_to_pack(packed: PackedModel) -> str | None:
    """Why the packed path cannot be used for this model, or None where it gives the model's own logits."""
    text_config = text_config_of(packed.model)
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
    # Phi-3.5-MoE has a window and no `layer_types`; Qwen2 has a window's width and no layer that uses it
    has_window = "sliding_attention" in layer_types or (
        not layer_types and getattr(text_config, "sliding_window", None) is not None
    )
    if has_window and not any(packed.windows.values()):
        return "its sliding-window layers do not tell the attention function their window"
    return None


def _worst_difference(packed: PackedModel, vocab_size: int) -> float:
    """The largest difference of a token's log p between packed and plain passes, in nats.

    Scoring is compared token for token. A token that was written greedily has to be the plain pass's best, or
    as likely: what it lacks counts as the difference.
    """
    ids = trial_ids(vocab_size, range(24))
    prefix, branches = ids[:6], (ids[6:11], ids[11:14], ids[6:8] + ids[14:18])
    # Nothing is computed again, so that the trial has all that a tree can hold
    limits = PassLimits(
        max_tokens=16, max_wanted=16, group_tokens=8, pairs_per_position=1 << 30, positions_per_pass=0
    )
    prompts = [prefix + branch for branch in branches]
    # Some tokens of the prefix and of the branches are not wanted, so that the last layer leaves them out (wanted.py)
    num_unscored = (5, 8, 10)
    pairs = [(prompt[:count], prompt[count:]) for prompt, count in zip(prompts, num_unscored, strict=True)]
    scored = packed_logprobs(packed, pairs, limits)
    # Passes that end within a node were tried by scoring: to write takes few, as each reads all the weights
    written = _written_greedily(packed, prompts, replace(limits, max_tokens=32, group_tokens=16))
    plain = plain_logprobs_of_all(
        packed.model, [prompt + new for prompt, new in zip(prompts, written, strict=True)]
    )
    worst = 0.0
    for (start, scored_ids), new, row, logprobs_TV in zip(pairs, written, scored, plain, strict=True):
        prompt = start + scored_ids
        at = range(len(start), len(prompt))
        expected = sum(logprobs_TV[index - 1, prompt[index]].item() for index in at)
        # A NaN on either side has to count as a difference
        difference = abs(row.loglikelihood - expected) / len(at)
        for found in (difference, _loss_of_greedy(logprobs_TV[len(prompt) - 1 :], new)):
            worst = found if not found <= worst else worst
    return worst


def trial_ids(vocab_size: int, places: Iterable[int]) -> tuple[int, ...]:
    """Tokens spread over the vocabulary: at equal places equal ones."""
    step = max(1, vocab_size // 41)
    return tuple((7 + place * step) % vocab_size for place in places)


def _written_greedily(
    packed: PackedModel, prompts: Sequence[tuple[int, ...]], limits: PassLimits
) -> list[tuple[int, ...]]:
    rows = [PromptRows(ids=ids, streams=[UniformStream(0, ids, 0)], max_new_tokens=3) for ids in prompts]
    decoder = Decoder(
        packed=packed,
        prompts=rows,
        sampling=Sampling(max_new_tokens=3),
        rule=_NeverStop(),  # type: ignore[arg-type]
        limits=DecodeLimits(passes=limits, max_rows=8, min_shared_rows=2, min_shared_tokens=4),
    )
    return [tuple(row.ids) for [row] in decoder.run()]


def greedy_loss(model: Any, prompt: tuple[int, ...], written: Sequence[int]) -> float:
    """How much less likely (nats) a written token is than the best of the model's plain forward pass, at worst."""
    [logprobs_TV] = plain_logprobs_of_all(model, [prompt + tuple(written)])
    return _loss_of_greedy(logprobs_TV[len(prompt) - 1 :], written)


def _loss_of_greedy(logprobs_TV: torch.Tensor, written: Sequence[int]) -> float:
    worst = 0.0
    for at, token in zip(logprobs_TV, written, strict=False):  # what follows the last token is not asked
        loss = (at.max() - at[token]).item()
        worst = loss if not loss <= worst else worst  # a NaN has to count
    return worst


def plain_logprobs_of_all(model: Any, sequences: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Log p [T, V] of each sequence, from one pass of the model's own over rows that are padded on the right:
    where packing holds, no token sees what comes after it."""
    longest = max(map(len, sequences))
    rows = [[*ids, *([ids[0]] * (longest - len(ids)))] for ids in sequences]
    output = model(input_ids=torch.tensor(rows, device=model.device), use_cache=False)
    logprobs_BTV = output.logits.float().log_softmax(-1)
    return [row_TV[: len(ids)] for ids, row_TV in zip(sequences, logprobs_BTV, strict=True)]
