"""A text task as token sequences: documents cut into windows, each target token in just one of them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmark.distill.chat import ChatFormat, chat_format
from stillmark.distill.identity import TokenSequence, data_sha256
from stillmark.distill.text import IGNORED
from stillmark.errors import UserError
from stillmark.study.schema import ResolvedText, Text
from stillmark.tasks.documents import Document, read_documents
from stillmark.tasks.overlap import EvaluationItems, without_overlap


@dataclass(frozen=True, kw_only=True)
class HeldOutSequence:
    """A sequence that no model was trained on, with the bytes of text that its targets stand for."""

    sequence: TokenSequence
    num_bytes: int
    source: str  # the file


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a text task's files hold, as a tokenizer reads them."""

    train: list[TokenSequence]
    test: list[HeldOutSequence]
    dropped_documents: int
    """Of the training files: those whose prompt a held-out document or a benchmark has, or shares a run with."""

    def resolved(self, vocab_size: int) -> ResolvedText:
        """The counts and the checksum that a study keeps of it."""
        both = [*self.train, *(held_out.sequence for held_out in self.test)]
        return ResolvedText(
            sha256=hashlib.sha256(data_sha256(both).encode()).hexdigest(),
            train_sequences=len(self.train),
            train_tokens=sum(len(sequence.token_ids) for sequence in self.train),
            train_loss_tokens=sum(sequence.num_loss_tokens for sequence in self.train),
            test_sequences=len(self.test),
            test_tokens=sum(len(held_out.sequence.token_ids) for held_out in self.test),
            test_loss_tokens=sum(held_out.sequence.num_loss_tokens for held_out in self.test),
            vocab_size=vocab_size,
            dropped_documents=self.dropped_documents,
        )


def read_corpus(spec: Text, tokenizer: Any, questions: Sequence[str] = ()) -> Corpus:
    """The task's files as sequences. Training documents whose prompt is in the held-out ones or in `questions`, of the
    benchmarks that the models are asked, are left out. Raises UserError where nothing is left to train or test on.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"{type(tokenizer).__name__} does not say which characters a token stands for",
                        "use a model with a fast tokenizer (tokenizer.json)")  # fmt: skip
    train_documents, held_out = read_documents(spec.train)
    test_documents = [*held_out, *read_documents(spec.test)[0]]
    prompts = [document.prompt for document in test_documents if document.prompt]
    evaluation = EvaluationItems([*prompts, *questions])
    kept, overlaps = without_overlap(train_documents, lambda document: document.prompt, evaluation)
    chat, length = chat_format(tokenizer), spec.context_tokens
    train = [window.sequence for document in kept for window in windows(document, tokenizer, chat, length)]
    test = [window for document in test_documents for window in windows(document, tokenizer, chat, length)]
    if not train:
        raise UserError("a text task has no text to train on", "add a file to `train`")
    if not test:
        raise UserError("a text task has no text to test on", "add a file to `test`, or set `held_out_share`")
    chosen = np.linspace(0, len(test) - 1, min(spec.test_sequences, len(test))).round().astype(int)
    dropped = overlaps.equal + overlaps.shared_run
    return Corpus(train=train, test=[test[index] for index in chosen], dropped_documents=dropped)


def windows(
    document: Document, tokenizer: Any, chat: ChatFormat | None, context_tokens: int
) -> Iterator[HeldOutSequence]:
    """The document in pieces of at most `context_tokens` positions; a piece without a target is left out."""
    ids, targets, byte_ends = document_tokens(document, tokenizer, chat)
    for start in range(0, len(targets), context_tokens):
        stop = min(start + context_tokens, len(targets))
        sequence = TokenSequence(token_ids=ids[start:stop], targets=targets[start:stop])
        if sequence.num_loss_tokens:
            num_bytes = int(byte_ends[stop] - byte_ends[start])
            yield HeldOutSequence(sequence=sequence, num_bytes=num_bytes, source=document.file)


def document_tokens(
    document: Document, tokenizer: Any, chat: ChatFormat | None
) -> tuple[list[int], list[int], Sequence[int]]:
    """(ids, targets, bytes of the response that are told after each id); ids[i] predicts targets[i].

    A prompt goes through the tokenizer's chat template where it has one, and its response ends as the template ends a
    reply; other text ends with the tokenizer's end token.
    """
    end: Sequence[int] = [tokenizer.eos_token_id]
    if document.prompt and chat:
        prompt, end = list(chat.prompt_ids(document.turns or (("user", document.prompt),))), chat.end_ids
    elif document.prompt:
        prompt = tokenizer(document.prompt)["input_ids"]
    else:
        prompt = [] if tokenizer.bos_token_id is None else tokenizer("")["input_ids"][:1]
    encoded = tokenizer(document.response, add_special_tokens=False, return_offsets_mapping=True)
    ids = [*prompt, *encoded["input_ids"], *end]
    told = bytes_before(document.response)
    ends = [0] * len(prompt) + [int(told[end]) for _, end in encoded["offset_mapping"]]
    byte_ends = [*ends, *[int(told[-1])] * len(end)]
    if not document.prompt and not prompt:
        byte_ends = [end - byte_ends[0] for end in byte_ends]  # nothing predicts the first token
    targets = [IGNORED] * max(0, len(prompt) - 1) + ids[max(1, len(prompt)) :]
    return ids[:-1], targets, byte_ends


def bytes_before(text: str) -> Any:
    """For each character offset, the UTF-8 bytes before it; one more than there are characters."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(lengths)])
