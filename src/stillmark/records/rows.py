"""The records: what was observed, each number with its unit in the name and the method by which it was obtained."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a sample ended: exactly one of these."""

    CORRECT = "correct"
    WRONG = "wrong"
    TRUNCATED = "truncated"  # max_new_tokens was reached before an answer
    UNPARSED = "unparsed"  # the model stopped, and no answer could be read
    ERROR = "error"  # the harness failed, not the model


class Method(StrEnum):
    """How a number was obtained. Two sides of a ratio must match."""

    MEASURED = "measured"
    COUNTED = "counted"
    PUBLISHED = "published"
    ESTIMATED = "estimated"


@dataclass(frozen=True, kw_only=True)
class ItemRecord:
    """What was asked. `item_id` is a hash of task and prompt, so equal questions are one item."""

    item_id: str
    task: str
    level: int
    prompt: str
    target: str


@dataclass(frozen=True, kw_only=True)
class SampleRecord:
    """What a model replied to one item."""

    job_key: str
    item_id: str
    repeat: int
    position: int  # of the item in the job
    response: str
    outcome: Outcome
    stop_reason: str
    prompt_tokens: int
    generated_tokens: int
    seconds: float | None  # its share of the batch that it ran in


@dataclass(frozen=True, kw_only=True)
class SampleDetail:
    """What evaluation knows of a sample beyond its row: the prompt as sent, how it was read, and its compute."""

    job_key: str
    item_id: str
    repeat: int
    prompt_sha256: str  # of the text as sent, chat template applied: `Store.prompt`
    extracted: str | None  # the answer that was read
    extractor: str | None  # by what
    grades: str  # JSON: each extractor's own verdict, true, false or null
    nats: str | None  # JSON: log-likelihood of each choice
    cuts: str | None  # JSON: budget in tokens -> characters that were written within it
    thinking_tokens: int | None
    prefill_seconds: float | None
    decode_seconds: float | None
    flops: int | None  # counted, by `compute.flops`
    price_usd: float | None  # what the endpoint's price list asks for it
    is_cached: bool  # the reply came from the response cache, and its seconds are of the run that wrote it
    error: str | None
    served_model: str | None = (
        None  # the name by which the endpoint says that it answered; None: a local engine
    )


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """How likely a model finds one piece of a text, after what stands before it."""

    job_key: str
    index: int
    nats: float  # log-likelihood, summed over the piece's tokens
    tokens: int
    num_bytes: int  # of UTF-8
    truncated_tokens: int  # of the context, which did not fit the model's window
    seconds: float | None
    flops: int | None
    source: str | None = None  # the file that the piece is from
    teacher_kl_nats: float | None = (
        None  # KL(teacher || model), summed over the piece's tokens; None: no teacher, or no distribution
    )


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """Compute that one part of a job took: `index` numbers the pieces in which it was recorded."""

    job_key: str
    part: str  # train | prune | teacher_forward | generate_student | generate | capture | evaluate
    index: int
    flops: int | None
    flops_method: Method
    # Of text, padding left out; of replies, each row that was run: its prompt and what follows
    tokens: int | None
    positions: int | None  # that were run; padding counted, as the machine computes it
    seconds: float | None  # wall, measured
    cpu_seconds: float | None  # of this process, all threads, measured
    device: str
    joules: float | None = None  # of the whole machine meanwhile, by its counters
    joules_method: str | None = (
        None  # measured; estimated: the part's share of what was measured; None: unknown
    )
    joules_source: str | None = None  # the counters, or why there is no figure


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """A model on the way: where it lies, and what this job had spent when it was written."""

    job_key: str
    index: int
    step: int
    samples_seen: int
    tokens: int
    train_flops: int
    loss: float | None  # mean nats a loss token since the checkpoint before; None: nothing was trained
    path: str  # relative to the store's folder
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ProfileRecord:
    """One figure of an arm's measured inference, by engine, number format and setting."""

    job_key: str
    engine: str  # transformers | llamacpp
    format: str  # of the weights: float32, Q8_0 ...
    setting: str  # JSON: threads, prompt_tokens, new_tokens, batch, memory_cap_bytes, lengths
    metric: str  # a name of profiling/definitions.py, which says what it means
    value: float | None
    low: float | None  # of the median's interval, over sessions (profiling/pace.py); None: counted or single
    high: float | None
    unit: str
    method: Method
    verdict: str  # VALID | INVALID | does not fit | failed: of the whole run that the figure is from
    reason: str | None  # why there is no value, or which rules the run broke


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job that was begun: what it was told, on what, when."""

    key: str
    stage: str
    inputs: dict[str, Any]
    provenance: dict[str, Any]
    started_at: str
    finished_at: str | None
