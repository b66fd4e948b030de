"""The `profile:` section of a study: inference of its arms, measured on this machine after all else has run."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from stillmark.errors import UserError, did_you_mean
from stillmark.study.amounts import bytes_of
from stillmark.study.base import Count, Positive, Strict

EngineName = Literal["transformers", "llamacpp"]
FLOAT32 = "float32"
FORMATS: dict[
    str, tuple[str, ...]
] = {  # of weights, by engine; llama.cpp's are those that quantise.py writes
    "transformers": (FLOAT32, "float16", "bfloat16"),
    "llamacpp": ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0",
                 "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
}  # fmt: skip
FLOAT_FORMATS = ("F32", "F16", "BF16")  # of GGUF: of any shape
SAME_WEIGHTS = (FLOAT32, "F32")  # nothing is rounded: what evaluation found of the arm holds
LEAST_CAP_BYTES = 2**20


class Profile(Strict):
    """What is measured of each arm: all in one job, interleaved, of the first seed, alone on the machine.

    The formats that an arm is quantised to are measured beside `engines`. Without `prompt_tokens` and
    `new_tokens` they are the means of what the arm's own evaluation recorded, so that an arm that writes more is
    measured writing more. Under each of `memory_caps` the same work is tried again; an arm that does not fit is
    recorded as such.
    """

    arms: list[str] = Field(default=[])  # none named: all
    engines: dict[EngineName, Annotated[list[str], Field(min_length=1)]] = Field(
        default={"transformers": [FLOAT32]}, min_length=1
    )
    threads: Count | None = None  # None: the study's
    prompt_tokens: Count | None = None
    new_tokens: Annotated[int, Field(ge=2)] | None = None  # one token has no time between tokens
    batch: Count = 1
    memory_caps: list[str] = Field(default=[])  # such as 512M
    budget_seconds: Positive = 25.0  # of timed work at one setting

    @property
    def cap_bytes(self) -> list[int | None]:
        """No cap first, then each."""
        return [None, *(bytes_of(cap) for cap in self.memory_caps)]


def profile_faults(raw: Mapping[str, Any], arms: Mapping[str, Any], *, is_text: bool) -> Iterator[str]:
    """What the schema alone cannot see, one line each. `raw` is the section as it stands in the file."""
    named = raw.get("arms")
    for index, name in enumerate(named if isinstance(named, list) else []):
        if isinstance(name, str) and name not in arms:
            near = did_you_mean(name, arms) or "arms: " + ", ".join(map(str, arms))
            yield f"profile.arms[{index}]: there is no arm `{name}`; {near}"
    if isinstance(named, list) and len({str(name) for name in named}) < len(named):
        yield "profile.arms: the same arm is named twice"
    yield from engine_faults(raw.get("engines"))
    given = [key for key in ("prompt_tokens", "new_tokens") if raw.get(key) is not None]
    if len(given) == 1:
        other = "new_tokens" if given == ["prompt_tokens"] else "prompt_tokens"
        yield f"profile.{other}: is missing beside {given[0]}: give both lengths, or neither for the arm's own"
    if is_text and not given:
        yield "profile.prompt_tokens: is missing: a text study's arms answer nothing, so there are no lengths of theirs"
    yield from cap_faults(raw.get("memory_caps"))


def engine_faults(engines: Any) -> Iterator[str]:
    """Formats that an engine has not."""
    for engine, formats in engines.items() if isinstance(engines, Mapping) else ():
        possible = FORMATS.get(engine) if isinstance(engine, str) else None
        if possible is None:
            continue  # the schema says so
        yield from format_faults(f"profile.engines.{engine}", formats, possible)


def format_faults(path: str, formats: Any, possible: tuple[str, ...]) -> Iterator[str]:
    """Formats that are none of the possible ones, or given twice."""
    listed = [str(format) for format in formats] if isinstance(formats, list) else []
    for format in listed:
        if format not in possible:
            near = did_you_mean(format, possible) or "possible: " + ", ".join(possible)
            yield f"{path}: `{format}` is not a format; {near}"
    if len(set(listed)) < len(listed):
        yield f"{path}: the same format is given twice"


def cap_faults(caps: Any) -> Iterator[str]:
    """Caps that are no amounts, no caps at all, or the same twice."""
    found = []
    for index, cap in enumerate(caps if isinstance(caps, list) else []):
        if not isinstance(cap, str):
            continue  # the schema says so
        try:
            found.append(bytes_of(cap))
        except UserError as error:
            yield f"profile.memory_caps[{index}]: {error.message}; {error.hint}"
            continue
        if found[-1] < LEAST_CAP_BYTES:
            yield f"profile.memory_caps[{index}]: {cap} is {found[-1]} bytes, less than any model needs"
    if len(set(found)) < len(found):
        yield "profile.memory_caps: the same cap is given twice"
