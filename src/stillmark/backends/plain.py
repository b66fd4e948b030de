"""The path for any causal LM class: whole sequences through `model(...)` and `model.generate`, nothing
assumed about its layers. Slower than the packed path; used where that one does not give the model's own
logits.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from stillmark.backends.decoding import PromptRows
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream, next_tokens
from stillmark.backends.scoring import Scored, score_rows
from stillmark.backends.stopping import StopRule, Written
from stillmark.backends.tokens import TokenIds
from stillmark.backends.work import Work, work_of_rows


@dataclass(frozen=True, kw_only=True)
class PlainWays:
    """How `generate` may be used with a model (plain_check.py)."""

    max_rows: int
    uses_cache: bool = True


class ChosenToken(LogitsProcessor):  # type: ignore[misc]
    """Our own choice of the next token, as logits that leave `generate`'s greedy search no other."""

    def __init__(self, sampling: Sampling, streams: Sequence[UniformStream], num_tokens: int | None) -> None:
        self._sampling, self._streams, self._num_tokens = sampling, streams, num_tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = next_tokens(scores[:, : self._num_tokens], self._sampling, self._streams)
        chosen = torch.tensor(tokens, device=scores.device)
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
    prompts: Sequence[PromptRows],
    sampling: Sampling,
    rule: StopRule,
    ways: PlainWays,
    num_tokens: int | None = None,
) -> tuple[list[list[Written]], Work]:
    """Continue each prompt's rows with ids below `num_tokens` (None: any). Prompts of one batch are of one length, so
    that nothing is padded.

    A row that is finished is fed on until its batch is: that is work too.
    """
    work = Work()
    by_shape: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for index, prompt in enumerate(prompts):
        by_shape[len(prompt.ids), prompt.max_new_tokens] += [(index, i) for i in range(len(prompt.streams))]
    written = [[Written() for _ in prompt.streams] for prompt in prompts]
    for (length, max_new_tokens), rows in sorted(by_shape.items()):
        for start in range(0, len(rows), ways.max_rows):
            batch = rows[start : start + ways.max_rows]
            inputs = torch.tensor([prompts[index].ids for index, _ in batch], device=model.device)
            streams = [prompts[index].streams[sample] for index, sample in batch]
            begun = time.perf_counter()
            output = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
                use_cache=ways.uses_cache,
                eos_token_id=None,
                pad_token_id=0,
                logits_processor=[ChosenToken(sampling, streams, num_tokens)],
                stopping_criteria=[RowStops(rule, length, len(batch))],
            )
            each = (time.perf_counter() - begun) / len(batch)
            num_new = output.shape[1] - length
            if ways.uses_cache:
                work += work_of_rows(len(batch), length, num_new)
            else:  # the whole sequence again for each token
                work += sum((work_of_rows(len(batch), length + i, 1) for i in range(num_new)), Work())
            for (index, sample), new_ids in zip(batch, output[:, length:].tolist(), strict=True):
                written[index][sample] = _cut(new_ids, rule, each)
    return written, work


def _cut(ids: list[int], rule: StopRule, seconds: float) -> Written:
    """A row's ids up to where it stopped; `generate` pads after that until the batch's last row is done."""
    for length in range(1, len(ids) + 1):
        if rule.stops_at(ids[:length]):
            return Written(ids=ids[:length], is_stopped=True, decode_seconds=seconds)
    return Written(ids=ids, decode_seconds=seconds)


def plain_logprobs(
    model: Any, pairs: Sequence[tuple[TokenIds, TokenIds]], *, max_batch_tokens: int
) -> tuple[list[Scored], Work]:
    """The log-likelihood of each continuation after its prompt, whole sequences padded on the right."""
    work = Work()
    order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
    scored = [Scored() for _ in pairs]
    while order:
        longest = sum(map(len, pairs[order[0]])) - 1
        size = max(1, max_batch_tokens // max(1, longest))
        batch, order = order[:size], order[size:]
        begun = time.perf_counter()
        inputs = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(inputs)
        for row, index in enumerate(batch):
            ids = torch.tensor((pairs[index][0] + pairs[index][1])[:-1])
            inputs[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        logits = model(input_ids=inputs.to(model.device), attention_mask=mask.to(model.device)).logits
        num_positions = inputs.numel()  # padding too, and the head at all of them
        work += Work(positions=num_positions, scored=num_positions, pairs=num_positions * longest)
        for row, index in enumerate(batch):
            prompt, continuation = pairs[index]
            first = len(prompt) - 1
            rows = range(len(continuation))
            logprobs, is_best = score_rows(logits[row, first : first + len(rows)], rows, continuation)
            scored[index] = Scored(loglikelihood=sum(logprobs), is_greedy=all(is_best))
        for index in batch:
            scored[index].seconds = (time.perf_counter() - begun) / len(batch)
    return scored, work
