"""How long a benchmark's prompts are and how much of them a run reads, by some chunks of the prompts themselves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stillmark.backends.tokens import TextCodec, num_distinct_positions

PREVIEW_CHUNKS = 4  # whose lengths predict those of all
Question = tuple[
    str, Sequence[str]
]  # a prompt as it is sent, and the choices that are scored after it, if any


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Means of a question, at least 1."""

    prompt_tokens: int
    read_tokens: int  # positions that our engine computes: what questions of a chunk begin with, once
    scored_tokens: int  # of those, positions that predict a token of a choice, or the first one of an answer


def preview(chunks: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Some of the chunks, evenly spaced: the first and the last, which may be smaller ones, are among them."""
    places = np.linspace(0, len(chunks) - 1, min(PREVIEW_CHUNKS, len(chunks))).round().astype(int)
    return [chunks[place] for place in places]


def lengths_of(codec: TextCodec, chunks: Iterable[Sequence[Question]]) -> Lengths:
    """Of questions that are asked chunk by chunk, tokenised as the engine does it."""
    num_questions = prompt_tokens = read = unscored = 0
    for chunk in chunks:
        sent = [prompt for prompt, _ in chunk]
        if requests := [(prompt, choice) for prompt, choices in chunk for choice in choices]:
            pairs = codec.encode_pairs(requests)
            ids_of = {prompt: ids for (prompt, _), (ids, _) in zip(requests, pairs, strict=True)}
        else:
            pairs = [(ids, ()) for ids in codec.encode_prompts(sent)]
            ids_of = {prompt: ids for prompt, (ids, _) in zip(sent, pairs, strict=True)}
        prompt_tokens += sum(len(ids_of[prompt]) for prompt in sent)
        num_questions += len(chunk)
        read += num_distinct_positions(prompt + choice[:-1] for prompt, choice in pairs)
        unscored += num_distinct_positions(prompt[:-1] for prompt, _ in pairs)
    return Lengths(
        prompt_tokens=max(1, round(prompt_tokens / num_questions)),
        read_tokens=max(1, round(read / num_questions)),
        scored_tokens=max(1, round((read - unscored) / num_questions)),
    )
