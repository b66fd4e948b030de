"""What a model learns from: pairs of prompt and response, in an order that the seed fixes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from stillmark.plan import response_text
from stillmark.tasks import TrainableTask

IGNORED = -100  # the target of a position without a loss


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """A prompt and what is to be written after it."""

    prompt: str
    response: str


class TextSource(Protocol):
    """Where batches come from. Sample i is fixed, so training can go on from any step."""

    def pair(self, index: int) -> TextPair: ...


class TaskText:
    """An endless stream of a task's training samples. Arms of one seed read the same questions in the same order."""

    def __init__(self, task: TrainableTask, text: str, seed: int) -> None:
        self.task, self.text, self.seed = task, text, seed

    def pair(self, index: int) -> TextPair:
        sample = self.task.training_sample(self.seed, index)
        return TextPair(prompt=sample.prompt, response=response_text(sample, self.text))


class TraceText:
    """A teacher's accepted traces, over and over, in a new order each epoch."""

    def __init__(self, pairs: Sequence[TextPair], seed: int) -> None:
        assert pairs, "there must be a trace to learn from"
        self.pairs, self.seed = pairs, seed
        self._epoch, self._order = -1, list(range(len(pairs)))

    def pair(self, index: int) -> TextPair:
        epoch, position = divmod(index, len(self.pairs))
        if epoch != self._epoch:
            self._order = list(range(len(self.pairs)))
            random.Random(f"traces {self.seed} {epoch}").shuffle(self._order)
            self._epoch = epoch
        return self.pairs[self._order[position]]


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows of nearly one length, padded on the right. Shapes: B rows, T positions."""

    input_ids_BT: torch.Tensor
    targets_BT: torch.Tensor  # the id that each position is to predict, or IGNORED
    num_tokens: int  # padding left out
    num_loss_tokens: int


def micro_batches(
    pairs: Sequence[TextPair], tokenizer: Any, *, max_positions: int, max_padding: float = 0.6
) -> list[MicroBatch]:
    """The pairs sorted by length and cut where a row would be padded by more than `max_padding`, or none fits."""
    prompts = tokenizer([pair.prompt for pair in pairs])["input_ids"]
    responses = tokenizer([pair.response for pair in pairs], add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    rows = sorted(
        [(prompt, [*response, end]) for prompt, response in zip(prompts, responses, strict=True)],
        key=lambda row: len(row[0]) + len(row[1]),
    )
    groups: list[list[tuple[list[int], list[int]]]] = []
    for row in rows:
        length = len(row[0]) + len(row[1])
        shortest = sum(map(len, groups[-1][0])) if groups else 0
        is_full = not groups or (len(groups[-1]) + 1) * length > max_positions
        if is_full or length > shortest * (1 + max_padding):
            groups.append([])
        groups[-1].append(row)
    return [padded(group, tokenizer.pad_token_id) for group in groups]


def padded(rows: list[tuple[list[int], list[int]]], pad_id: int) -> MicroBatch:
    width = max(len(prompt) + len(response) for prompt, response in rows) - 1  # the last id is only a target
    input_ids = torch.full((len(rows), width), pad_id)
    targets = torch.full((len(rows), width), IGNORED)
    for index, (prompt, response) in enumerate(rows):
        ids = torch.tensor(prompt + response)
        input_ids[index, : len(ids) - 1] = ids[:-1]
        targets[index, len(prompt) - 1 : len(ids) - 1] = ids[len(prompt) :]
    return MicroBatch(
        input_ids_BT=input_ids,
        targets_BT=targets,
        num_tokens=sum(len(prompt) + len(response) - 1 for prompt, response in rows),
        num_loss_tokens=sum(len(response) for _, response in rows),
    )
