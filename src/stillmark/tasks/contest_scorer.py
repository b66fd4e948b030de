"""Contest problems: the program of a reply is run on each test's input, and what comes out is compared here.

The sandbox never holds the expected outputs, so a program cannot pass by patching the comparison or by claiming
to have passed. Equality is that of LiveCodeBench's grader: lines without the spaces around them, and where two lines
differ, as decimal numbers; for functions, of the returned values. As there, 6 seconds a test (of CPU here, so
that a busy machine fails nobody) and 4 GB. There numpy is installed; here a program has the standard library. There
`open(0)` is not the test's input, and a function that the prelude's `import *` brings, such as operator's `add`, may be
taken for the program's; here not.
"""

import base64
import binascii
import json
import pickletools
import re
import zlib
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from stillmark.tasks.sandbox import SandboxLimits, SandboxOutcome, SandboxResult, run_python
from stillmark.tasks.verdict import Reading, ScorerError

LIMITS = SandboxLimits(
    wall_seconds=60, cpu_seconds=6, memory_bytes=4 << 30, output_bytes=16 << 20, file_bytes=64 << 20
)
LARGEST_TESTS = 1 << 30  # bytes of one problem's tests, unpacked
MODULES = re.findall(
    r"\w+",
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json",
)
PRELUDE = "".join(
    [
        *(f"from {name} import *\n" for name in [*MODULES, "builtins", "typing"]),
        *(f"import {name}\n" for name in MODULES),
        "sys.setrecursionlimit(50000)\n",
    ]
)
# Reads the arguments, one JSON value a line; the last line that is written is the result
CALL = """
def _stillmark_call(name):
    import json, sys
    sys.set_int_max_str_digits(0)
    out, sys.stdout = sys.stdout, sys.stderr
    arguments = [json.loads(line) for line in sys.stdin.read().split("\\n")]
    found = getattr(globals()["Solution"](), name) if "Solution" in globals() else globals()[name]
    if found.__module__ != "__main__": raise NameError(name)  # `add` may be operator's
    value = found(*arguments)
    if isinstance(value, tuple): value = list(value)
    def is_plain(part):
        if isinstance(part, list): return all(map(is_plain, part))
        if isinstance(part, dict): return all(isinstance(key, str) and is_plain(part[key]) for key in part)
        return part is None or isinstance(part, (bool, int, float, str))
    out.write("\\n" + json.dumps({"value": value} if is_plain(value) else {"other": repr(value)[:300]}))
    out.flush()
    sys.stdout = out
"""

Runner = Callable[[str, str], SandboxResult]


def run_in_sandbox(program: str, stdin: str) -> SandboxResult:
    return run_python(program, stdin=stdin, limits=LIMITS)


class ContestScorer:
    """Passes all tests or not. The target is JSON: `public` and `private` tests as the data set packs them, and the
    name of the `function`, empty where the program reads stdin."""

    version = 1

    def __init__(self, runner: Runner = run_in_sandbox) -> None:
        self._run = runner

    def readings(self, answer: str, target: str) -> list[Reading]:
        code, is_closed = last_block(answer)
        if code is None:
            return [Reading(extractor="code", value=None, is_right=None)]
        wanted = json.loads(target)
        tests = unpack_tests(wanted["public"]) + unpack_tests(wanted["private"])
        if not tests:
            raise ScorerError("the problem has no tests")
        is_right = all(self.passes(code, test, wanted["function"]) for test in tests)
        return [Reading(extractor="code", value=code, is_right=is_right, is_explicit=is_closed)]

    def passes(self, code: str, test: dict[str, str], function: str) -> bool:
        call = f"{CALL}\n_stillmark_call({function!r})\n" if function else ""
        result = self._run(f"{PRELUDE}\n{code}\n{call}", test["input"])
        if result.outcome is SandboxOutcome.REFUSED:
            raise ScorerError(f"the sandbox does not run here: {result.reason}")
        # A program that reads stdin may leave by sys.exit; what it wrote is compared all the same
        if result.outcome not in (SandboxOutcome.COMPLETED, *([] if function else [SandboxOutcome.EXITED])):
            return False
        if function:
            return is_same_value(result.stdout.rpartition("\n")[2], test["output"])
        return is_same_output(result.stdout, test["output"])


def last_block(answer: str) -> tuple[str | None, bool]:
    """The last fenced block, as the authors' runner takes it, and whether a fence closes it."""
    lines = answer.split("\n")
    fences = [index for index, line in enumerate(lines) if "```" in line]
    if not fences:
        return None, False
    if len(fences) == 1:
        return "\n".join(lines[fences[0] + 1 :]), False
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]), True


def unpack_tests(packed: str) -> list[dict[str, str]]:
    """Tests as JSON, or as JSON in a pickle in zlib in base64. The pickle is read, never run: it may hold one string
    and nothing else."""
    try:
        text = (
            packed if packed.lstrip().startswith("[") else string_of_pickle(inflate(base64.b64decode(packed)))
        )
        tests = json.loads(text)
        kept = [{"input": test["input"], "output": test["output"]} for test in tests]
    except (ValueError, KeyError, TypeError, binascii.Error, zlib.error) as error:
        raise ScorerError(f"the problem's tests cannot be read: {error}") from error
    if not all(isinstance(text, str) for test in kept for text in test.values()):
        raise ScorerError("the problem's tests cannot be read: inputs and outputs must be text")
    return kept


def inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, LARGEST_TESTS)
    if not unpacker.eof:
        raise ValueError("cut short, or larger than 1 GiB")
    return content


def string_of_pickle(data: bytes) -> str:
    """The string that a pickle is, without unpickling."""
    found: list[str] = []
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"):
            found.append(str(argument))
        elif code.name not in ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"):
            raise ValueError(f"a pickle with {code.name}, where only a string may be")
    if len(found) != 1:
        raise ValueError(f"a pickle of {len(found)} strings, where one must be")
    return found[0]


def is_same_output(written: str, wanted: str) -> bool:
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (written, wanted))
    return len(ours) == len(theirs) and all(
        one == other or is_same_numbers(one, other) for one, other in zip(ours, theirs, strict=True)
    )


def is_same_numbers(one: str, other: str) -> bool:
    try:
        return [Decimal(word) for word in one.split()] == [Decimal(word) for word in other.split()]
    except InvalidOperation:
        return False


def is_same_value(written: str, wanted: str) -> bool:
    try:
        said: Any = json.loads(written)
    except ValueError:
        return False
    return isinstance(said, dict) and "value" in said and bool(said["value"] == json.loads(wanted))
