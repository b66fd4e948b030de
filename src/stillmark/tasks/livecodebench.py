"""LiveCodeBench, code generation: problems of programming contests by date (Jain et al., arXiv:2403.07974).

`livecodebench` is the release of April 2025 (release_v6, 1,055 problems); `livecodebench:v5` an earlier one, which
holds the earlier problems alone; `livecodebench:2024-08-01..2025-01-31` those of contests on these days, the ends
included, and `livecodebench:v5:2024-08-01..` both. A model is to be held against problems newer than its training.

The data are livecodebench/code_generation_lite on the hub (its card says "cc"; the authors' code is MIT; the problems
are LeetCode's, AtCoder's and Codeforces'): 4.5 GB in six files of JSON lines, which are read as they are, since the
hub's copy is otherwise read by a script. Prompt, release and dates are as in the authors' runner.
"""

import json
import re
from collections.abc import Callable
from datetime import date

from stillmark.errors import UserError
from stillmark.tasks.benchmark import Benchmark, Form, Row
from stillmark.tasks.contest_scorer import ContestScorer
from stillmark.tasks.sources import PART, Hub, RawRow, Source

REVISION = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
RELEASES = ("test", "test2", "test3", "test4", "test5", "test6")  # what each adds; release_v6 is all of them
FIRST_DAY, LAST_DAY = date(2023, 5, 1), date(9999, 12, 31)
EXPERT = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests."
)
READ_AND_WRITE = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample "
    "inputs). Enclose your code within delimiters as follows."
)
FILL_IN = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters."
)


def read(raw: RawRow, release: int, first: date, last: date) -> Row | None:
    """The columns of the hub's data set. None: of a later release, or not of these days."""
    if raw[PART] in RELEASES and RELEASES.index(raw[PART]) >= release:
        return None
    if not first <= date.fromisoformat(str(raw["contest_date"])[:10]) <= last:
        return None
    target = {
        "function": json.loads(raw["metadata"] or "{}").get("func_name") or "",
        "public": raw["public_test_cases"],
        "private": raw["private_test_cases"],  # as it came, so that a target stays small
    }
    starter = str(raw["starter_code"] or "")
    given = (
        f"{FILL_IN}\n```python\n{starter}\n```"
        if starter
        else f"{READ_AND_WRITE}\n```python\n# YOUR CODE HERE\n```"
    )
    return Row(
        question=f"### Question:\n{raw['question_content']}\n\n### Format: {given}",
        target=json.dumps(target),
        answer="",
    )


def livecodebench(part: str = "") -> Benchmark:
    """`part`: what follows the colon of the name, `v5` or `release_v5`, dates `FROM..TO`, or both with a colon."""
    release, first, last = len(RELEASES), FIRST_DAY, LAST_DAY
    for word in filter(None, part.split(":")):
        named = re.fullmatch(r"(?:release_)?v([1-9])", word)
        if named and int(named[1]) <= len(RELEASES):
            release = int(named[1])
        elif ".." in word:
            first, last = days_of(word)
        else:
            raise UserError(
                f"livecodebench:{part}: `{word}` is neither a release nor dates",
                hint=f"v1 to v{len(RELEASES)}, 2024-08-01..2025-01-31, or v5:2024-08-01..",
            )
    reader: Callable[[RawRow], Row | None] = lambda raw: read(raw, release, first, last)  # noqa: E731
    files = tuple(f"{name}.jsonl" for name in RELEASES[:release])
    return Benchmark(
        name="livecodebench" + (f":{part}" if part else ""),
        source=Source(
            files=("livecodebench/test*.jsonl", "code_generation_lite/test*.jsonl"),
            hub=Hub(
                repository="livecodebench/code_generation_lite", split="test", revision=REVISION, files=files
            ),
        ),
        read=reader,
        scorer=ContestScorer(),
        forms={
            "generation": Form(
                question=lambda row: (
                    f"{row.question}\n\n### Answer: (use the provided format with backticks)\n\n"
                ),
                answer=lambda row: row.answer,
                instruction=lambda row: EXPERT,
                stop=("\n### Question",),
                max_new_tokens=4096,
            )
        },
        settings={"release": f"release_v{release}", "first_day": str(first), "last_day": str(last)},
    )


def days_of(word: str) -> tuple[date, date]:
    first, _, last = word.partition("..")
    try:
        days = (
            date.fromisoformat(first) if first else FIRST_DAY,
            date.fromisoformat(last) if last else LAST_DAY,
        )
    except ValueError as error:
        raise UserError(
            f"livecodebench: `{word}`: {error}", hint="dates such as 2024-08-01..2025-01-31"
        ) from error
    if days[0] > days[1]:
        raise UserError(f"livecodebench: `{word}` ends before it begins")
    return days


LIVECODEBENCH = livecodebench()
