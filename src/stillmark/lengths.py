"""The words of a question task and the lengths of its texts: for tokenizers, and for FLOPs that are predicted."""

from dataclasses import dataclass

from stillmark.errors import UserError
from stillmark.tasks import Sample, TrainableTask

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
PREVIEW_SAMPLES = 192  # of a task, to predict lengths


def tokenizer_words(task: TrainableTask) -> list[str]:
    """The vocabulary of a word-level tokenizer: one id a word."""
    return [*SPECIAL_TOKENS, *task.words()]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Mean tokens of a task's texts, special tokens included where the model reads or writes them."""

    prompt: int
    response: dict[str, int]  # by text: answers, solutions


def preview_lengths(task: TrainableTask) -> Lengths:
    """Mean lengths of a task's texts in words, with <bos> before the prompt and <eos> after the reply."""
    samples = [task.training_sample(0, index) for index in range(PREVIEW_SAMPLES)]
    response = {
        text: mean_words([response_text(sample, text) for sample in samples]) + 1
        for text in ("answers", "solutions")
    }
    return Lengths(prompt=mean_words([sample.prompt for sample in samples]) + 1, response=response)


def response_text(sample: Sample, text: str) -> str:
    """What a model that learns from `answers` or `solutions` should write."""
    if text == "answers":
        return sample.answer
    if sample.solution is None:
        raise UserError(
            "this task has no reference worked solutions", hint="use `text: answers` or `text: traces`"
        )
    return sample.solution


def mean_words(texts: list[str]) -> int:
    return round(sum(len(text.split()) for text in texts) / len(texts))
