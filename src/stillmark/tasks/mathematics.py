"""MATH-500 (Lightman et al., arXiv:2305.20050) and the AIME of 2024 and 2025: LaTeX answers in a box."""

from collections.abc import Callable

from stillmark.tasks.benchmark import Benchmark, Form, Mode, Row
from stillmark.tasks.math_scorer import MathScorer, last_boxed
from stillmark.tasks.sources import Hub, RawRow, Source

BOX = "Reason step by step, and put your final answer within \\boxed{}."


def read_math500(raw: RawRow) -> Row:
    return math_row(raw["problem"], raw["answer"], raw.get("solution"), str(raw.get("subject") or ""))


def read_aime(raw: RawRow) -> Row:
    """The columns of HuggingFaceH4/aime_2024 and of math-ai/aime25."""
    question = next(str(raw[name]) for name in ("problem", "question", "Problem") if name in raw)
    answer = next(raw[name] for name in ("answer", "Answer") if name in raw)
    return math_row(question, str(int(answer)), raw.get("solution"))  # "025" is 25


def math_row(question: str, answer: str, solution: str | None, group: str = "") -> Row:
    worked = solution if solution and last_boxed(solution) else None
    return Row(
        question=question.strip(),
        target=answer.strip(),
        answer=f"\\boxed{{{answer}}}",
        worked=worked and worked.strip(),
        group=group,
    )


def boxed_forms(max_new_tokens: int) -> dict[Mode, Form]:
    return {
        "generation": Form(
            question=lambda row: f"Problem: {row.question}\nSolution:",
            answer=lambda row: f" {row.worked or row.answer}",
            zero_shot_instruction=BOX,
            stop=("\nProblem:",),
            max_new_tokens=max_new_tokens,
        )
    }


def mathematics(
    name: str, hub: Hub, read: Callable[[RawRow], Row], max_new_tokens: int, files: tuple[str, ...]
) -> Benchmark:
    return Benchmark(
        name=name,
        source=Source(files=files, hub=hub),
        read=read,
        scorer=MathScorer(),
        forms=boxed_forms(max_new_tokens),
    )


MATH_500 = mathematics(
    "math_500",
    Hub(
        repository="HuggingFaceH4/MATH-500",
        split="test",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
    ),
    read_math500,
    2048,
    ("math500/test.jsonl", "math_500/test.jsonl", "math500.jsonl", "math_500.jsonl"),
)
AIME_2024 = mathematics(
    "aime_2024",
    Hub(
        repository="HuggingFaceH4/aime_2024",
        split="train",
        revision="e6cf0cd64082ada1c025717826bd40e155b1ec81",
    ),
    read_aime,
    16384,
    ("aime_2024.jsonl", "aime_2024/*.jsonl", "aime2024/*.jsonl"),
)
AIME_2025 = mathematics(
    "aime_2025",
    Hub(repository="math-ai/aime25", split="test", revision="563bb8404243c5f09de6ec262f2db674fe5bce9b"),
    read_aime,
    16384,
    ("aime_2025.jsonl", "aime_2025/*.jsonl", "aime2025/*.jsonl"),
)
