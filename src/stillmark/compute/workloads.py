"""FLOPs of what can be planned: pretraining, distillation by each method, answering queries.

By the model's shape where its config is known (`flops.py`); else by parameters: 6·N a token trained, 2·N a
token read or written, N the active parameters, without attention. Which of the two is in every result
(`formula`).

A distillation of n samples of p prompt and a answer tokens, e epochs, k attempts generated for each kept
sample:

    sequence        teacher writes n·k answers once; student trains on n·e samples
    live logits     teacher reads n·e samples; student trains on n·e samples
    cached logits   teacher reads n samples once; student trains on n·e samples
    on-policy       student writes n·k·e answers; teacher reads them; student trains on them

Lengths are means; attention, which grows with the square of a length, is counted at the mean.
"""

from dataclasses import dataclass
from enum import StrEnum

from stillmark.compute.flops import forward_flops, generate_flops, train_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError

TEACHER_TRACES = "teacher traces"


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    """A model as far as planning needs it. A mixture of experts computes with its active parameters."""

    name: str
    params: float
    active_params: float
    basis: str
    """Where the counts come from."""
    shape: ModelShape | None = None

    @property
    def formula(self) -> str:
        return "by shape" if self.shape else "6ND and 2ND, without attention"


def train_flops_of(model: PlannedModel, *, tokens: float, sequence_tokens: float) -> float:
    """Forward and backward over `tokens`, in sequences of that length."""
    if model.shape is None:
        return 6 * model.active_params * tokens
    length = max(1, round(sequence_tokens))
    return train_flops(model.shape, tokens=length) * (tokens / length)


def read_flops_of(model: PlannedModel, *, tokens: float, sequence_tokens: float) -> float:
    """One forward pass with the head on every position, as scoring needs it."""
    if model.shape is None:
        return 2 * model.active_params * tokens
    length = max(1, round(sequence_tokens))
    return forward_flops(model.shape, tokens=length) * (tokens / length)


def answer_flops_of(model: PlannedModel, *, prompt_tokens: float, answer_tokens: float) -> float:
    """One answer with a KV cache: the prompt read, the answer written."""
    if model.shape is None:
        return 2 * model.active_params * (prompt_tokens + answer_tokens)
    return float(
        generate_flops(model.shape, prompt_tokens=round(prompt_tokens), new_tokens=round(answer_tokens))
    )


class Work(StrEnum):
    """What a stage does; decoding runs at a far lower MFU than the other two."""

    TRAIN = "train"
    READ = "read"
    GENERATE = "generate"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One model doing one kind of work."""

    name: str
    work: Work
    model: PlannedModel | None
    """None: a model behind an API, of unknown size."""
    flops: float | None
    tokens_read: float
    tokens_written: float


class DistillationMethod(StrEnum):
    """What the teacher hands over, and whose text the student learns from."""

    SEQUENCE = "sequence"
    LIVE_LOGITS = "live-logits"
    CACHED_LOGITS = "cached-logits"
    ON_POLICY = "on-policy"


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Student, teacher and the data between them."""

    student: PlannedModel
    teacher: PlannedModel | None
    """None: the traces are there already, or are bought (sequence-level only)."""
    samples: float
    prompt_tokens: float
    answer_tokens: float
    epochs: float = 1.0
    attempts: float = 1.0
    """Traces generated for each kept one: 1 over the yield of the filter."""
    method: DistillationMethod = DistillationMethod.SEQUENCE

    def __post_init__(self) -> None:
        for name in ("samples", "answer_tokens", "epochs"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.prompt_tokens < 0:
            raise UserError(f"prompt_tokens must be 0 or more, not {self.prompt_tokens}")
        if self.attempts < 1:
            raise UserError(
                f"attempts must be 1 or more, not {self.attempts}: it is traces generated for each kept one",
                hint=f"a yield of {self.attempts} is {1 / self.attempts:g} attempts"
                if self.attempts
                else None,
            )
        if self.teacher is None and self.method is not DistillationMethod.SEQUENCE:
            raise UserError(f"method `{self.method}` needs a teacher: it reads the samples")

    @property
    def sample_tokens(self) -> float:
        return self.prompt_tokens + self.answer_tokens

    @property
    def tokens_an_epoch(self) -> float:
        return self.samples * self.sample_tokens

    @property
    def train_tokens(self) -> float:
        return self.epochs * self.tokens_an_epoch

    def stages(self) -> tuple[Stage, ...]:
        """The work, in the order in which it is done."""
        training = self._train(self.student, self.train_tokens)
        if self.method is DistillationMethod.SEQUENCE:
            generation = [self._generate(self.teacher, TEACHER_TRACES, 1.0)] if self.teacher else []
            return (*generation, training)
        assert self.teacher is not None
        if self.method is DistillationMethod.ON_POLICY:
            written = self._generate(self.student, "student traces", self.epochs)
            scored = self.train_tokens * self.attempts
            return (written, self._read(self.teacher, scored), self._train(self.student, scored))
        passes = self.epochs if self.method is DistillationMethod.LIVE_LOGITS else 1.0
        return (self._read(self.teacher, self.tokens_an_epoch * passes), training)

    def bought_traces(self) -> Stage:
        """The teacher's traces where an API of unknown size writes them."""
        answers = self.samples * self.attempts
        return Stage(
            name=TEACHER_TRACES,
            work=Work.GENERATE,
            model=None,
            flops=None,
            tokens_read=answers * self.prompt_tokens,
            tokens_written=answers * self.answer_tokens,
        )

    def _train(self, model: PlannedModel, tokens: float) -> Stage:
        flops = train_flops_of(model, tokens=tokens, sequence_tokens=self.sample_tokens)
        return Stage(
            name="student training",
            work=Work.TRAIN,
            model=model,
            flops=flops,
            tokens_read=tokens,
            tokens_written=0,
        )

    def _read(self, model: PlannedModel, tokens: float) -> Stage:
        flops = read_flops_of(model, tokens=tokens, sequence_tokens=self.sample_tokens)
        return Stage(
            name="teacher logits",
            work=Work.READ,
            model=model,
            flops=flops,
            tokens_read=tokens,
            tokens_written=0,
        )

    def _generate(self, model: PlannedModel, name: str, passes: float) -> Stage:
        answers = self.samples * self.attempts * passes
        each = answer_flops_of(model, prompt_tokens=self.prompt_tokens, answer_tokens=self.answer_tokens)
        return Stage(
            name=name,
            work=Work.GENERATE,
            model=model,
            flops=answers * each,
            tokens_read=answers * self.prompt_tokens,
            tokens_written=answers * self.answer_tokens,
        )


def pretraining(model: PlannedModel, *, tokens: float, sequence_tokens: float) -> Stage:
    """Pretraining on that many tokens."""
    return Stage(
        name="pretraining",
        work=Work.TRAIN,
        model=model,
        flops=train_flops_of(model, tokens=tokens, sequence_tokens=sequence_tokens),
        tokens_read=tokens,
        tokens_written=0,
    )


def cached_logits_bytes(*, tokens: float, vocab_size: int, top_k: int | None = None) -> float:
    """Disk for cached teacher logits: whole rows in 16 bits, or top-k of 16 bits and a 32-bit id each."""
    return tokens * (2 * vocab_size if top_k is None else 6 * top_k)
