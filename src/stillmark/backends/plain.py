"""The path for any causal LM class: whole sequences through `model(...)` and `model.generate`, nothing assumed
about its layers. Slower than the packed path; used where that one does not give the model's own logits.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream, next_tokens
from stillmark.backends.stopping import StopRule
from stillmark.backends.tokens import TokenIds


@dataclass(kw_only=True)
class Written:
    """What one row generated."""

    ids: list[int] = field(default_factory=list)
    is_stopped: bool = False


class ChosenToken(LogitsProcessor):  # type: ignore[misc]
    """Our own choice of the next token, as logits that leave `generate`'s greedy search no other."""

    def __init__(self, sampling: Sampling, streams: Sequence[UniformStream]) -> None:
        self._sampling = sampling
        self._streams = streams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = torch.tensor(next_tokens(scores, self._sampling, self._streams), device=scores.device)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


class RowStops(StoppingCriteria):  # type: ignore[misc]
    """Stops each row by itself."""

    def __init__(self, rule: StopRule, prompt_length: int, num_rows: int) -> None:
        self._rule = rule
        self._prompt_length = prompt_length
        self._is_done = [False] * num_rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        for row, ids in enumerate(input_ids[:, self._prompt_length :].tolist()):
            self._is_done[row] = self._is_done[row] or self._rule.stops_at(ids)
        return torch.tensor(self._is_done, device=input_ids.device)


def plain_generate(
    model: Any,
    rows: Sequence[tuple[TokenIds, UniformStream]],
    sampling: Sampling,
    rule: StopRule,
    *,
    max_rows: int,
) -> list[Written]:
    """Continue each row. Rows of one batch have prompts of one length, so that nothing is padded."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, (ids, _) in enumerate(rows):
        by_length[len(ids)].append(index)
    written: list[Written] = [Written() for _ in rows]
    for length, indices in sorted(by_length.items()):
        for start in range(0, len(indices), max_rows):
            batch = indices[start : start + max_rows]
            inputs = torch.tensor([rows[i][0] for i in batch], device=model.device)
            output = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                num_beams=1,
                eos_token_id=None,
                pad_token_id=0,
                logits_processor=[ChosenToken(sampling, [rows[i][1] for i in batch])],
                stopping_criteria=[RowStops(rule, length, len(batch))],
            )
            for index, new_ids in zip(batch, output[:, length:].tolist(), strict=True):
                written[index] = _cut(new_ids, rule)
    return written


def _cut(ids: list[int], rule: StopRule) -> Written:
    """A row's ids up to where it stopped; `generate` pads after that until the batch's last row is done."""
    for length in range(1, len(ids) + 1):
        if rule.stops_at(ids[:length]):
            return Written(ids=ids[:length], is_stopped=True)
    return Written(ids=ids)


def plain_logprobs(
    model: Any, sequences: Sequence[tuple[TokenIds, TokenIds]], *, max_batch_tokens: int
) -> list[tuple[float, bool]]:
    """(log-likelihood in nats, whether greedy) of each continuation after its prompt."""
    order = sorted(range(len(sequences)), key=lambda i: -sum(map(len, sequences[i])))
    results: list[tuple[float, bool]] = [(0.0, False)] * len(sequences)
    while order:
        longest = sum(map(len, sequences[order[0]]))
        size = max(1, max_batch_tokens // longest)
        batch, order = order[:size], order[size:]
        inputs = torch.zeros(len(batch), longest - 1, dtype=torch.long)
        mask = torch.zeros_like(inputs)
        for row, index in enumerate(batch):
            ids = torch.tensor((sequences[index][0] + sequences[index][1])[:-1])
            inputs[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        logits = model(input_ids=inputs.to(model.device), attention_mask=mask.to(model.device)).logits
        for row, index in enumerate(batch):
            prompt, continuation = sequences[index]
            start = len(prompt) - 1
            logprobs = logits[row, start : start + len(continuation)].float().log_softmax(-1)
            targets = torch.tensor(continuation, device=logprobs.device)
            total = logprobs.gather(-1, targets[:, None]).sum()
            results[index] = (float(total), bool((logprobs.argmax(-1) == targets).all()))
    return results
