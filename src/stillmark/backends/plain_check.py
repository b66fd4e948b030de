"""Does transformers' own `generate` give this model's own greedy tokens, with a cache and in batches?

It does not for every class: in 5.24, RWKV's rows change one another in a batch, and RecurrentGemma's cache is wrong
after a prompt of one token. So it is tried once a model on a few tokens, and what does not hold is not used.
"""

from typing import Any

import torch

from stillmark.backends.decoding import PromptRows
from stillmark.backends.packed_check import TOLERANCE_NATS, greedy_loss
from stillmark.backends.plain import PlainWays, plain_generate
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream
from stillmark.backends.stopping import StopRule
from stillmark.errors import UserError

NUM_ROWS, NUM_TOKENS = 4, 5


def ways_that_hold(model: Any, max_rows: int, *, num_positions: int | None) -> PlainWays:
    """The fastest of: batches with a cache, rows by themselves with a cache, and without one."""
    ways = [PlainWays(max_rows=max_rows), PlainWays(max_rows=1), PlainWays(max_rows=1, uses_cache=False)]
    tolerance = TOLERANCE_NATS.get(model.dtype, 0.0)
    worst = []
    for way in ways:
        worst.append(_worst_loss(model, way, num_positions))
        if worst[-1] <= tolerance:
            return way
    raise UserError(
        f"transformers' generate does not write this model's likeliest tokens: it loses {min(worst):.3g} nats",
        "score it by log-likelihood, or with another engine",
    )


def _worst_loss(model: Any, way: PlainWays, num_positions: int | None) -> float:
    """How much less likely (nats) a token of a greedy reply is than the model's best, at worst."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    vocab_size = int(config.vocab_size)
    longest = 17 if num_positions is None else max(1, min(17, num_positions - NUM_TOKENS))
    step = max(1, vocab_size // 41)
    prompts = [
        tuple((7 + (row * longest + index) * step) % vocab_size for index in range(length))
        for length in {1, longest}
        for row in range(NUM_ROWS)
    ]
    rows = [
        PromptRows(ids=ids, streams=[UniformStream(0, ids, 0)], max_new_tokens=NUM_TOKENS) for ids in prompts
    ]
    written, _ = plain_generate(model, rows, Sampling(max_new_tokens=NUM_TOKENS), _NEVER_STOP, way)
    losses = [greedy_loss(model, ids, row[0].ids) for ids, row in zip(prompts, written, strict=True)]
    return float(torch.tensor(losses).max())  # NaN, which holds for nothing, stays NaN


class _NeverStop(StopRule):
    def __init__(self) -> None:
        pass

    def stops_at(self, ids: Any) -> bool:
        return False


_NEVER_STOP = _NeverStop()
