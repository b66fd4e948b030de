"""What a model learns from: pairs of prompt and response, in an order that the seed fixes."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from stillmark.distill.chat import ChatFormat, Turns
from stillmark.distill.cross_tokenizer import TokenText, ends_of
from stillmark.distill.identity import TokenSequence
from stillmark.lengths import response_text
from stillmark.tasks import TrainableTask

IGNORED = -100  # the target of a position without a loss


@dataclass(frozen=True, kw_only=True)
class TextPair:
    """A prompt and what is to be written after it."""

    prompt: str
    response: str
    turns: Turns = ()  # of a chat before the response, for a chat template; none: the prompt is the user's turn


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training sample as tokens. `fixed_index` is its place among the sequences of a corpus, which a logit
    cache knows it by; None for text that is new each time. `text` is what the tokens stand for, which a teacher
    with another tokenizer reads; None where it was not kept.
    """

    sequence: TokenSequence
    fixed_index: int | None = None
    text: TokenText | None = None


class TextSource(Protocol):
    """Where batches come from. Sample i is fixed, so training can go on from any step."""

    def rows(self, indices: Sequence[int]) -> list[Row]: ...


class TaskText:
    """An endless stream of a task's training samples. Arms of one seed read the same questions in the same order."""

    def __init__(
        self, task: TrainableTask, text: str, seed: int, tokenizer: Any, chat: ChatFormat | None = None
    ) -> None:
        self.task, self.text, self.seed, self.tokenizer, self.chat = task, text, seed, tokenizer, chat

    def rows(self, indices: Sequence[int]) -> list[Row]:
        samples = [self.task.training_sample(self.seed, index) for index in indices]
        pairs = [
            TextPair(prompt=sample.prompt, response=response_text(sample, self.text)) for sample in samples
        ]
        return rows_of(pairs, self.tokenizer, chat=self.chat)


class TraceText:
    """A teacher's accepted traces, over and over, in a new order each epoch."""

    def __init__(
        self, pairs: Sequence[TextPair], seed: int, tokenizer: Any, chat: ChatFormat | None = None
    ) -> None:
        assert pairs, "there must be a trace to learn from"
        self.pairs, self.tokenizer, self.chat = pairs, tokenizer, chat
        self.order = EpochOrder(len(pairs), f"traces {seed}")

    def rows(self, indices: Sequence[int]) -> list[Row]:
        return rows_of([self.pairs[self.order[index]] for index in indices], self.tokenizer, chat=self.chat)


class CorpusText:
    """The sequences of a text task, over and over, in a new order each epoch: the same for all arms of a seed.

    `texts`, one a sequence, are what a teacher with another tokenizer reads.
    """

    def __init__(
        self, sequences: Sequence[TokenSequence], seed: int, texts: Sequence[TokenText] | None = None
    ) -> None:
        self.sequences, self.texts = sequences, texts
        self.order = EpochOrder(len(sequences), f"corpus {seed}")

    def rows(self, indices: Sequence[int]) -> list[Row]:
        chosen = [self.order[index] for index in indices]
        texts = self.texts
        return [
            Row(
                sequence=self.sequences[place],
                fixed_index=place,
                text=None if texts is None else texts[place],
            )
            for place in chosen
        ]


class EpochOrder:
    """Place of sample `index` among `count`, each epoch in an order of its own."""

    def __init__(self, count: int, salt: str) -> None:
        self.count, self.salt = count, salt
        self._epoch, self._order = -1, list(range(count))

    def __getitem__(self, index: int) -> int:
        epoch, position = divmod(index, self.count)
        if epoch != self._epoch:
            self._order = list(range(self.count))
            random.Random(f"{self.salt} {epoch}").shuffle(self._order)
            self._epoch = epoch
        return self._order[position]


def rows_of(pairs: Sequence[TextPair], tokenizer: Any, *, chat: ChatFormat | None = None) -> list[Row]:
    """The pairs as tokens: the prompt with the tokenizer's special tokens, then the response and the end.

    `chat`: through the chat template of an instruct model's tokenizer. The text of such rows is the response, after
    turns that a teacher with another tokenizer reads through a template of its own.
    """
    has_offsets = bool(getattr(tokenizer, "is_fast", False))
    options = {"return_offsets_mapping": True} if has_offsets else {}
    if chat is not None:
        return [chat_row(pair, tokenizer, chat, options) for pair in pairs]
    prompts = tokenizer([pair.prompt for pair in pairs], **options)
    responses = tokenizer([pair.response for pair in pairs], add_special_tokens=False, **options)
    rows = []
    for index, pair in enumerate(pairs):
        response_ids = [*responses["input_ids"][index], tokenizer.eos_token_id]
        text = None
        if has_offsets:
            prompt_ends, response_ends = (
                ends_of(tokenizer, part, side["input_ids"][index], side["offset_mapping"][index])
                for part, side in ((pair.prompt, prompts), (pair.response, responses))
            )
            ends = [*prompt_ends, *(len(pair.prompt) + end for end in response_ends)]
            text = TokenText(text=pair.prompt + pair.response, ends=ends)
        sequence = next_token_sequence(prompts["input_ids"][index], response_ids)
        rows.append(Row(sequence=sequence, text=text))
    return rows


def chat_row(pair: TextPair, tokenizer: Any, chat: ChatFormat, options: Mapping[str, bool]) -> Row:
    encoded = tokenizer(pair.response, add_special_tokens=False, **options)
    turns = pair.turns or (("user", pair.prompt),)
    prompt, response = chat.prompt_ids(turns), encoded["input_ids"]
    text = None
    if options:
        read = ends_of(tokenizer, pair.response, response, encoded["offset_mapping"])
        ends = [*[0] * len(prompt), *read, *[0] * (len(chat.end_ids) - 1)]  # the last token is not read
        text = TokenText(text=pair.response, ends=ends, turns=turns)
    return Row(sequence=next_token_sequence(prompt, [*response, *chat.end_ids]), text=text)


def next_token_sequence(prompt: Sequence[int], response: Sequence[int]) -> TokenSequence:
    """Each position predicts the next token; those before the response have no loss."""
    ids = [*prompt, *response]
    targets = [IGNORED] * (len(prompt) - 1) + ids[max(1, len(prompt)) :]
    return TokenSequence(token_ids=ids[:-1], targets=targets)


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Rows of nearly one length, padded on the right. Shapes: B rows, T positions."""

    input_ids_BT: torch.Tensor
    targets_BT: torch.Tensor  # the id that each position is to predict, or IGNORED
    rows: Sequence[Row]  # the samples, in the order of their positions, also where several share a row
    num_tokens: int  # padding left out
    num_loss_tokens: int
    position_ids_BT: torch.Tensor | None = None  # of packed rows, from 0 in each sample

    def model_inputs(self) -> dict[str, torch.Tensor]:
        """What any model reads this batch by. From positions that start again transformers makes the mask that
        keeps packed samples apart; a causal mask is all that rows padded on the right need.
        """
        if self.position_ids_BT is None:
            return {"input_ids": self.input_ids_BT}
        return {"input_ids": self.input_ids_BT, "position_ids": self.position_ids_BT}

    def to(self, device: torch.device) -> "MicroBatch":
        if self.input_ids_BT.device == device:
            return self
        positions = self.position_ids_BT
        return replace(
            self,
            input_ids_BT=self.input_ids_BT.to(device),
            targets_BT=self.targets_BT.to(device),
            position_ids_BT=None if positions is None else positions.to(device),
        )


def micro_batches(
    rows: Sequence[Row], pad_id: int, *, max_positions: int, max_padding: float = 0.6
) -> list[MicroBatch]:
    """The rows sorted by length and cut where one would be padded by more than `max_padding`, or none fits."""
    groups: list[list[Row]] = []
    for row in sorted(rows, key=row_length):
        length = row_length(row) + 1
        shortest = row_length(groups[-1][0]) + 1 if groups else 0
        is_full = not groups or (len(groups[-1]) + 1) * length > max_positions
        if is_full or length > shortest * (1 + max_padding):
            groups.append([])
        groups[-1].append(row)
    return [padded([[row] for row in group], pad_id) for group in groups]


def row_length(row: Row) -> int:
    return len(row.sequence.token_ids)


def padded(bins: Sequence[Sequence[Row]], pad_id: int, *, is_packed: bool = False) -> MicroBatch:
    """Each bin is a row of the batch, its samples end to end; what is left on the right is padding."""
    width = max(sum(map(row_length, samples)) for samples in bins)
    input_ids = torch.full((len(bins), width), pad_id)
    targets = torch.full((len(bins), width), IGNORED)
    positions = torch.zeros((len(bins), width), dtype=torch.long)
    for index, samples in enumerate(bins):
        start = 0
        for row in samples:
            end = start + row_length(row)
            input_ids[index, start:end] = torch.tensor(row.sequence.token_ids)
            targets[index, start:end] = torch.tensor(row.sequence.targets)
            positions[index, start:end] = torch.arange(end - start)
            start = end
        positions[index, start:] = torch.arange(width - start)  # the padding: one more sample, without a loss
    samples_in_order = [row for samples in bins for row in samples]
    return MicroBatch(
        input_ids_BT=input_ids,
        targets_BT=targets,
        rows=samples_in_order,
        num_tokens=sum(map(row_length, samples_in_order)),
        num_loss_tokens=sum(row.sequence.num_loss_tokens for row in samples_in_order),
        position_ids_BT=positions if is_packed else None,
    )


def empty_batch(pad_id: int) -> MicroBatch:
    """One position without a loss: what a process runs when the others still have a batch (FSDP runs together)."""
    return MicroBatch(
        input_ids_BT=torch.full((1, 1), pad_id),
        targets_BT=torch.full((1, 1), IGNORED),
        rows=[],
        num_tokens=0,
        num_loss_tokens=0,
    )
