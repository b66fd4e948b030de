"""Code: what a reply defines is run with the task's tests, in the sandbox.

`tasks/sandbox.py` runs it without network and with limits on time, memory, processes and files. A program that
fails, times out or uses too much is wrong; a sandbox that does not start is an error of ours.
"""

import hashlib
import json
import re
from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from stillmark.tasks.verdict import Reading, ScorerError

FENCE = re.compile(r"```[ \t]*(?:python|py|python3)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)


class SandboxResult(Protocol):
    """What `run_python` says of a run; the rest of its fields are not needed here."""

    @property
    def outcome(self) -> str: ...

    @property
    def reason(self) -> str: ...


Runner = Callable[[str], SandboxResult]


def sandbox_runner() -> Runner:
    """`run_python` of the sandbox, or a ScorerError where it cannot run on this machine."""
    try:
        module = import_module("stillmark.tasks.sandbox")
    except ImportError as error:
        raise ScorerError(f"code is graded in the sandbox, which is not here: {error}") from error
    return cast("Runner", module.run_python)


class CodeScorer:
    """Passes the tests or not. The target is JSON: `before` and `after` the code, `prefix` of a completion."""

    version = 1

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner = runner
        self._verdicts: dict[str, bool] = {}  # SHA-256 of a program that was run -> whether it passed

    def readings(self, answer: str, target: str) -> list[Reading]:
        return self._readings(answer, target, is_cut=False)

    def readings_when_cut(self, answer: str, target: str) -> list[Reading]:
        """Of a reply that a limit cut: code that is still open decides nothing, so it is not run."""
        return self._readings(answer, target, is_cut=True)

    def _readings(self, answer: str, target: str, *, is_cut: bool) -> list[Reading]:
        wanted = json.loads(target)
        code = code_of(answer, wanted["prefix"], wanted["entry_point"])
        if code is None:
            return [Reading(extractor="code", value=None, is_right=None)]
        # Code that nothing closes may be half of what was to come: a cut reply is not judged by it
        is_open_from_prompt = defines(answer.partition("```")[0], wanted["entry_point"])
        is_closed = answer.count("```") >= (1 if is_open_from_prompt else 2)
        is_right = None if is_cut and not is_closed else self.passes(code, wanted)
        return [Reading(extractor="code", value=code, is_right=is_right, is_explicit=is_closed)]

    def passes(self, code: str, wanted: dict[str, str]) -> bool:
        """Whether the program reaches its last line: the sandbox proves that by a nonce, so that code which
        exits early does not pass. A program is run once: replies cut at several budgets hold the same code."""
        program = "\n".join([wanted["before"], code, wanted["after"], ""])
        name = hashlib.sha256(program.encode("utf-8", "surrogatepass")).hexdigest()
        if name not in self._verdicts:
            self._verdicts[name] = self._run(program)
        return self._verdicts[name]

    def _run(self, program: str) -> bool:
        result = (self._runner or sandbox_runner())(program)
        if result.outcome == "refused":
            raise ScorerError(f"the sandbox does not run here: {result.reason}")
        return result.outcome == "completed"


def code_of(answer: str, prefix: str, entry_point: str) -> str | None:
    """The program in a reply: its fenced blocks that hold the function, or the reply as a completion of `prefix`.

    None where the reply holds no code for the function.
    """
    before, fence, _ = answer.partition("```")
    if fence and defines(before, entry_point):  # the prompt has opened the block
        return f"{imports_of(prefix)}\n{before}"
    blocks = [block for block in FENCE.findall(answer) if block.strip()]
    if blocks:
        whole = [block for block in blocks if defines(block, entry_point)]
        if whole:
            return whole[-1] if not prefix else f"{imports_of(prefix)}\n{whole[-1]}"
        return prefix + blocks[0] if prefix else None
    if defines(answer, entry_point):
        return f"{imports_of(prefix)}\n{answer}"
    if prefix and re.match(r"\s*^[ \t]+\S", answer, re.MULTILINE):  # its first line of code is indented
        return prefix + answer
    return None


def defines(code: str, entry_point: str) -> bool:
    pattern = (
        rf"^[ \t]*(?:def|class)\s+{re.escape(entry_point)}\b" if entry_point else r"^[ \t]*(?:def|class)\s"
    )
    return re.search(pattern, code, re.MULTILINE) is not None


def imports_of(prefix: str) -> str:
    """What a prompt holds before its last function: imports and helpers that the reply may leave out."""
    start = prefix.rfind("\ndef ")
    return prefix[: max(start, 0)]
