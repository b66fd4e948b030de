"""A text task as token sequences: documents cut into windows, each target token in just one of them."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stillmark.distill.chat import ChatFormat, chat_format, ids_before_reply
from stillmark.distill.cross_tokenizer import TokenText, ends_of
from stillmark.distill.identity import TokenSequence, data_sha256
from stillmark.distill.text import IGNORED, next_token_sequence
from stillmark.distill.vocabulary import num_token_rows
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
    """Of the training files: those whose prompt a held-out document or a benchmark has, or shares a run with, and texts
    without a prompt that are held out too."""
    train_texts: list[TokenText] | None = None
    """What a teacher with another tokenizer reads, one a sequence; None where it was not asked for."""

    @property
    def prompted(self) -> list[TokenSequence]:
        """Those of the training sequences that begin with a prompt, which a model can reply to."""
        return [sequence for sequence in self.train if sequence.targets[0] == IGNORED]

    def resolved(self, vocab_size: int, tokenizer: Any) -> ResolvedText:
        """The counts and the checksum that a study keeps of it; `vocab_size`: rows of the given model's head."""
        token_rows = num_token_rows(tokenizer)
        both = [*self.train, *(held_out.sequence for held_out in self.test)]
        return ResolvedText(
            sha256=hashlib.sha256(data_sha256(both).encode()).hexdigest(),
            train_sha256=data_sha256(self.train),
            train_sequences=len(self.train),
            train_tokens=sum(len(sequence.token_ids) for sequence in self.train),
            train_loss_tokens=sum(sequence.num_loss_tokens for sequence in self.train),
            test_sequences=len(self.test),
            test_tokens=sum(len(held_out.sequence.token_ids) for held_out in self.test),
            test_loss_tokens=sum(held_out.sequence.num_loss_tokens for held_out in self.test),
            vocab_size=vocab_size,
            token_rows=token_rows if token_rows < vocab_size else None,
            dropped_documents=self.dropped_documents,
            prompted_sequences=len(self.prompted),
        )


def read_corpus(
    spec: Text, tokenizer: Any, questions: Sequence[str] = (), *, cut_by: Any = None, with_texts: bool = False
) -> Corpus:
    """The task's files as sequences. Training documents whose prompt is in the held-out ones or in `questions`, of the
    benchmarks that the models are asked, are left out, and so are texts that are held out as they are. Raises UserError
    where nothing is left to train or test on.

    `cut_by`: the tokenizer by which the held-out text is cut into pieces, where that is another one, so that all models
    of a study are held to the same pieces.
    """
    for one in filter(None, (tokenizer, cut_by)):
        if not getattr(one, "is_fast", False):
            raise UserError(f"{type(one).__name__} does not say which characters a token stands for",
                            "use a model with a fast tokenizer (tokenizer.json)")  # fmt: skip
    train_documents, held_out = read_documents(spec.train)
    test_documents = [*held_out, *read_documents(spec.test)[0]]
    prompts = [document.prompt for document in test_documents if document.prompt]
    evaluation = EvaluationItems([*prompts, *questions])
    kept, _ = without_overlap(train_documents, lambda document: document.prompt, evaluation)
    texts = [document.response for document in test_documents if not document.prompt]
    told = EvaluationItems(texts, with_runs=False)
    kept, _ = without_overlap(kept, lambda document: "" if document.prompt else document.response, told)
    dropped = len(train_documents) - len(kept)
    train: list[TokenSequence] = []
    train_texts: list[TokenText] = []
    for window in windows_of(kept, tokenizer, spec.context_tokens):
        train.append(window.sequence)
        if with_texts:
            train_texts.append(window.token_text())
    test = list(windows_of(test_documents, cut_by or tokenizer, spec.context_tokens))
    if not train:
        if dropped:
            raise UserError(
                f"a text task has no text to train on: {dropped:,} of {len(train_documents):,} documents were dropped, "
                "as what they ask or say is in the held-out text or in a benchmark",
                "give other text to train on, or to test on",
            )
        raise UserError("a text task has no text to train on", "add a file to `train`")
    if not test:
        raise UserError("a text task has no text to test on", "add a file to `test`, or set `held_out_share`")
    chosen = np.linspace(0, len(test) - 1, min(spec.test_sequences, len(test))).round().astype(int)
    # One that tells nothing but the end of its document cannot be measured by the byte
    pieces = [window for window in (test[index] for index in chosen) if window.num_bytes]
    if not pieces:
        raise UserError("a text task's held-out pieces tell no text but the end of it",
                        "raise `test_sequences`, or hold out more text")  # fmt: skip
    chat = chat_format(tokenizer)
    return Corpus(
        train=train,
        test=[
            HeldOutSequence(
                sequence=window.read_by(tokenizer, chat) if cut_by else window.sequence,
                num_bytes=window.num_bytes,
                source=window.whole.document.file,
            )
            for window in pieces
        ],
        dropped_documents=dropped,
        train_texts=train_texts if with_texts else None,
    )


@dataclass(frozen=True, kw_only=True)
class DocumentTokens:
    """A document as a tokenizer reads it: what comes before the response, the response, and what ends it."""

    document: Document
    ids: Sequence[int]
    num_before: int
    told: Sequence[int]  # the characters of the response that are told after each id
    read: Sequence[int]  # as `told`, with the spaces that offsets leave out; 0 after an id that is no text

    @cached_property
    def bytes_before(self) -> Any:
        return bytes_before(self.document.response)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The positions `start` to `stop` of a document: each reads its own id and is to tell the next one."""

    whole: DocumentTokens
    sequence: TokenSequence
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        before, told = self.whole.bytes_before, self.whole.told
        return int(before[told[self.stop]] - before[told[self.start]])

    def read_by(self, tokenizer: Any, chat: ChatFormat | None) -> TokenSequence:
        """The same piece of text as another tokenizer reads it, after the same text before it, or as many tokens of a
        prompt that was cut."""
        document, told = self.whole.document, self.whole.told
        before, end = frame(document, tokenizer, chat)
        if self.start >= self.whole.num_before:
            # What the window's first id stands for, or the character that it is a byte of
            begins = min(told[self.start - 1], told[self.start] - 1) if self.start else 0
            context = tokenizer(document.response[begins : told[self.start]], add_special_tokens=False)
            before = [*([] if self.start else start_ids(tokenizer)), *context["input_ids"]]
        elif self.start:  # the end of a prompt that was cut
            before = before[-(self.whole.num_before - self.start) :]
        text = tokenizer(document.response[told[self.start] : told[self.stop]], add_special_tokens=False)
        is_last = self.stop == len(self.whole.ids) - 1
        # Where nothing begins a text, its end does, so that the first token is told too
        return next_token_sequence(
            before or [tokenizer.eos_token_id], [*text["input_ids"], *(end if is_last else [])]
        )

    def token_text(self) -> TokenText:
        """What the window's ids stand for: nothing of one that begins within a prompt, whose text is not known."""
        whole, ends = self.whole, list(self.whole.read[self.start : self.stop])
        if 0 < self.start < whole.num_before:
            return TokenText(text="", ends=[0] * len(ends))
        # Of a character that goes on in the next window, none of the bytes here has read all of it
        split = whole.read[self.stop]
        ends = [0 if end == split else end for end in ends]
        first = whole.read[self.start - 1] if self.start else 0
        return TokenText(
            text=whole.document.response[first : max(first, *ends)],
            ends=array("i", [max(0, end - first) for end in ends]),
            turns=() if self.start else whole.document.asked,
        )


def windows_of(documents: Sequence[Document], tokenizer: Any, context_tokens: int) -> Iterator[Window]:
    """The documents in pieces of at most `context_tokens` positions; a piece without a target is left out.

    Pieces hold arrays of 4 bytes a number: as Python lists, a large text is some 45 bytes a token.
    """
    chat = chat_format(tokenizer)
    for document in documents:
        whole = document_tokens(document, tokenizer, chat)
        all_of_it = next_token_sequence(whole.ids[: whole.num_before], whole.ids[whole.num_before :])
        for start in range(0, len(all_of_it.targets), context_tokens):
            stop = min(start + context_tokens, len(all_of_it.targets))
            sequence = TokenSequence(
                token_ids=array("i", all_of_it.token_ids[start:stop]),
                targets=array("i", all_of_it.targets[start:stop]),
            )
            if sequence.num_loss_tokens:
                yield Window(whole=whole, sequence=sequence, start=start, stop=stop)


def document_tokens(document: Document, tokenizer: Any, chat: ChatFormat | None) -> DocumentTokens:
    before, end = frame(document, tokenizer, chat)
    encoded = tokenizer(document.response, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    none = [0] * len(before)
    return DocumentTokens(
        document=document,
        ids=[*before, *ids, *end],
        num_before=len(before),
        told=[*none, *(stop for _, stop in offsets), *[len(document.response)] * len(end)],
        read=[*none, *ends_of(tokenizer, document.response, ids, offsets), *[0] * len(end)],
    )


def frame(document: Document, tokenizer: Any, chat: ChatFormat | None) -> tuple[Sequence[int], Sequence[int]]:
    """(ids before the response, ids after it).

    A prompt goes through the tokenizer's chat template where it has one, and its response ends as the template ends a
    reply; other text ends with the tokenizer's end token.
    """
    end = [tokenizer.eos_token_id]
    if not document.prompt:
        return start_ids(tokenizer), end
    return ids_before_reply(document.asked, tokenizer, chat), chat.end_ids if chat else end


def start_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before any text."""
    return [] if tokenizer.bos_token_id is None else tokenizer("")["input_ids"][:1]


def bytes_before(text: str) -> Any:
    """For each character offset, the UTF-8 bytes before it; one more than there are characters."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(lengths)])
