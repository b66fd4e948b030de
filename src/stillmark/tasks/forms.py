"""The forms that most benchmarks share: an open question, and multiple choice by letters or by whole texts."""

from collections.abc import Callable

from stillmark.errors import UserError
from stillmark.tasks.benchmark import Form, LikelihoodRule, Mode, Row
from stillmark.tasks.choice_scorer import LETTERS, choice_label

NO_INSTRUCTION: Callable[[Row], str] = lambda row: ""  # noqa: E731
CHOICE_INSTRUCTION = (
    "Answer the multiple-choice question. Think it through if that helps, and end with a line "
    '"The answer is (X)", where X is the letter of the choice.'
)


def letters_of(row: Row) -> str:
    """The letters of the row's choices. More choices than letters cannot be shown: none is left out in silence."""
    if len(row.choices) > len(LETTERS):
        raise UserError(
            f"a question has {len(row.choices)} choices, and letters name {len(LETTERS)}: {row.question[:60]!r}",
            "compare the likelihoods of whole choices (`likelihood: texts` in a task of your own)",
        )
    return LETTERS[: len(row.choices)]


def lettered(row: Row) -> str:
    """Question, the choices under letters, and `Answer:`."""
    options = "\n".join(
        f"{letter}. {text}" for letter, text in zip(letters_of(row), row.choices, strict=True)
    )
    return f"Question: {row.question}\n{options}\nAnswer:"


def bare(row: Row) -> str:
    return f"Question: {row.question}\nAnswer:"


def letter_forms(
    first: Mode = "loglikelihood",
    *,
    question: Callable[[Row], str] = lettered,
    instruction: Callable[[Row], str] = NO_INSTRUCTION,
    max_new_tokens: int = 512,
) -> dict[Mode, Form]:
    """MMLU's way: choices shown, the letters' likelihoods compared; and the same question by generation."""
    likelihood = Form(
        question=question,
        answer=lambda row: f" {row.answer}",
        instruction=instruction,
        continuations=lambda row: tuple(f" {letter}" for letter in letters_of(row)),
        rule="sum",
    )
    return in_order(first, likelihood, written_choice(question, instruction, max_new_tokens))


def right_text(row: Row) -> str:
    return next(text for index, text in enumerate(row.choices) if choice_label(index) == row.answer)


def text_forms(
    *,
    question: Callable[[Row], str] = bare,
    rule: LikelihoodRule = "per_character",
    shown: Callable[[Row], str] = lettered,
) -> dict[Mode, Form]:
    """ARC's and HellaSwag's way: the likelihoods of whole choices compared, which are not shown before."""
    likelihood = Form(
        question=question,
        answer=lambda row: f" {right_text(row)}",
        continuations=lambda row: tuple(f" {choice}" for choice in row.choices),
        rule=rule,
    )
    return in_order("loglikelihood", likelihood, written_choice(shown, NO_INSTRUCTION, 512))


def written_choice(
    question: Callable[[Row], str], instruction: Callable[[Row], str], max_new_tokens: int
) -> Form:
    """By generation: a worked reply where there is one, else the letter."""
    return Form(
        question=question,
        answer=lambda row: f" {row.worked}" if row.worked else f" The answer is ({row.answer}).",
        instruction=instruction,
        zero_shot_instruction=CHOICE_INSTRUCTION,
        stop=("\nQuestion:",),
        max_new_tokens=max_new_tokens,
    )


def in_order(first: Mode, likelihood: Form, generation: Form) -> dict[Mode, Form]:
    if first == "loglikelihood":
        return {"loglikelihood": likelihood, "generation": generation}
    return {"generation": generation, "loglikelihood": likelihood}
