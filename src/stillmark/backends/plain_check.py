"""What the plain path takes for granted of a model, tried once on a few tokens.

Does transformers' own `generate` give the model's own greedy tokens, with a cache and in batches? It does not for every
class: in 5.24, RWKV's rows change one another in a batch, and RecurrentGemma's cache is wrong after a prompt of one
token. What does not hold is not used.

And do its logits depend on earlier tokens alone? Those of an encoder do not, which transformers loads as a causal model
all the same (XLM-RoBERTa without `is_decoder`): it would read the answer before it is asked how likely that is.
"""

from typing import Any

import torch

from stillmark.backends.decoding import PromptRows
from stillmark.backends.packed_check import (
    TOLERANCE_NATS,
    greedy_loss,
    plain_logprobs_of_all,
    trial_ids,
)
from stillmark.backends.plain import PlainWays, plain_generate
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream
from stillmark.backends.stopping import StopRule
from stillmark.backends.wanted import text_config_of
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


def must_be_causal(model: Any, *, num_positions: int | None) -> None:
    """Raises UserError where log p of a token changes with the tokens that come after it."""
    length = 17 if num_positions is None else min(17, num_positions)
    num_same = length // 2
    # Two passes of one shape, so that a causal model's numbers are the same to the last bits in any dtype
    passes = [
        trial_ids(_vocab_size(model), [*range(num_same), *range(num_same + shift, length + shift)])
        for shift in (3, 11)
    ]
    first_TV, second_TV = (plain_logprobs_of_all(model, [ids])[0][:num_same] for ids in passes)
    differences_TV = torch.where(first_TV == second_TV, 0.0, first_TV - second_TV)  # both may be -inf
    worst = max((abs(difference) for difference in differences_TV.flatten().tolist()), default=0.0)
    if worst > TOLERANCE_NATS.get(model.dtype, 0.0):
        raise UserError(
            f"{type(model).__name__} is no causal model: what follows a token changes its log p by {worst:.3g} nats",
            "load a causal language model; for an encoder trained as a decoder, set is_decoder in its config.json",
        )


def _vocab_size(model: Any) -> int:
    return int(text_config_of(model).vocab_size)


def _worst_loss(model: Any, way: PlainWays, num_positions: int | None) -> float:
    """How much less likely (nats) a token of a greedy reply is than the model's best, at worst."""
    longest = 17 if num_positions is None else max(1, min(17, num_positions - NUM_TOKENS))
    prompts = [
        trial_ids(_vocab_size(model), range(row * longest, row * longest + length))
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
