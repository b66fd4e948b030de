"""FLOPs of making a student, method by method, for samples of one length; add up lists for mixed lengths.

Each function returns the parts by who works and what for, so that the ledger can put each under its boundary:
`student_train`, `student_generate`, `teacher_score`, `teacher_generate`. The convention is that of
`stillmark.compute.flops`; counts are exact integers. What a part is shared over (k students that learn from
the same traces or logits) is a division that the ledger states: `MethodFlops.share` gives it as a fraction.
"""

from dataclasses import dataclass
from fractions import Fraction

from stillmark.compute.flops import Frozen, Lora, Recompute, forward_flops, generate_flops, train_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError

SHAREABLE = ("sequence_level", "cached_logits")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What the student learns from: `num_samples` sequences of prompt and answer.

    Tokens are the student's own. `epochs` is how often the student sees each. `scored_tokens` is the number
    of positions with a loss and so with a vocabulary head: all of them (None) unless the training leaves the
    head out on the prompt.
    """

    num_samples: int
    prompt_tokens: int
    answer_tokens: int
    epochs: int = 1
    scored_tokens: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens of one sequence."""
        return self.prompt_tokens + self.answer_tokens


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the student is trained: see `train_flops`."""

    recompute: Recompute = Recompute.NONE
    frozen: Frozen | None = None
    lora: Lora | None = None


@dataclass(frozen=True, kw_only=True)
class MethodFlops:
    """The parts of one method, in FLOPs; a part that the method does not have is 0."""

    method: str
    student_train: int
    student_generate: int = 0
    teacher_score: int = 0
    teacher_generate: int = 0

    @property
    def student(self) -> int:
        """What the student itself takes."""
        return self.student_train + self.student_generate

    @property
    def teacher(self) -> int:
        """What running the teacher takes; training it is another boundary."""
        return self.teacher_score + self.teacher_generate

    @property
    def total(self) -> int:
        return self.student + self.teacher

    def share(self, num_students: int) -> Fraction:
        """FLOPs of one student when `num_students` learn from the same traces or the same cached logits."""
        if num_students < 1:
            raise UserError(f"num_students={num_students}: the teacher's work is shared by 1 or more")
        if num_students > 1 and self.method not in SHAREABLE:
            raise UserError(
                f"{self.method}: the teacher's output is for one student, is not kept and not shared",
                hint=f"kept and shared: {', '.join(SHAREABLE)}",
            )
        return self.student + Fraction(self.teacher, num_students)


def train_on(student: ModelShape, samples: Samples, training: Training) -> int:
    """Forward and backward of the student over all samples and epochs."""
    one = train_flops(
        student,
        tokens=samples.tokens,
        scored_tokens=samples.scored_tokens,
        recompute=training.recompute,
        frozen=training.frozen,
        lora=training.lora,
    )
    return samples.num_samples * samples.epochs * one


def fine_tuning(student: ModelShape, samples: Samples, training: Training | None = None) -> MethodFlops:
    """Training on given text, without a teacher."""
    return MethodFlops(method="fine_tuning", student_train=train_on(student, samples, training or Training()))


def sequence_level(
    student: ModelShape,
    teacher: ModelShape,
    samples: Samples,
    *,
    training: Training | None = None,
    generated: Samples | None = None,
) -> MethodFlops:
    """Sequence-level (Kim and Rush, arXiv:1606.07947): the teacher writes each answer, once.

    `generated` is what the teacher wrote if that is more than what was kept (rejected traces) or counted in
    other tokens; default: the samples, once.
    """
    written = generated or samples
    one = generate_flops(teacher, prompt_tokens=written.prompt_tokens, new_tokens=written.answer_tokens)
    return MethodFlops(
        method="sequence_level",
        student_train=train_on(student, samples, training or Training()),
        teacher_generate=written.num_samples * one,
    )


def live_logits(
    student: ModelShape, teacher: ModelShape, samples: Samples, *, training: Training | None = None
) -> MethodFlops:
    """Logits of a live teacher (Hinton et al., arXiv:1503.02531): it reads all again in every epoch."""
    return MethodFlops(
        method="live_logits",
        student_train=train_on(student, samples, training or Training()),
        teacher_score=samples.epochs * score_flops(teacher, samples),
    )


def cached_logits(
    student: ModelShape, teacher: ModelShape, samples: Samples, *, training: Training | None = None
) -> MethodFlops:
    """Logits captured once and kept: the teacher reads each sample once, whatever the epochs."""
    return MethodFlops(
        method="cached_logits",
        student_train=train_on(student, samples, training or Training()),
        teacher_score=score_flops(teacher, samples),
    )


def on_policy(
    student: ModelShape, teacher: ModelShape, samples: Samples, *, training: Training | None = None
) -> MethodFlops:
    """On-policy (GKD, arXiv:2306.13649): the student writes, anew in every epoch; the teacher scores.

    The student's generation is counted in full, then its training pass over the same tokens: a trainer that
    keeps the activations of the one for the other is not known.
    """
    written = generate_flops(student, prompt_tokens=samples.prompt_tokens, new_tokens=samples.answer_tokens)
    return MethodFlops(
        method="on_policy",
        student_train=train_on(student, samples, training or Training()),
        student_generate=samples.num_samples * samples.epochs * written,
        teacher_score=samples.epochs * score_flops(teacher, samples),
    )


def score_flops(teacher: ModelShape, samples: Samples) -> int:
    """One forward pass of the teacher over each sample, head on the positions that have a loss."""
    one = forward_flops(teacher, tokens=samples.tokens, scored_tokens=samples.scored_tokens)
    return samples.num_samples * one


@dataclass(frozen=True, kw_only=True)
class SixND:
    """The rule of thumb 6·N·D beside the formula, and how far off it is."""

    params: int
    tokens: int
    flops: int
    formula_flops: int | None = None

    @property
    def difference(self) -> float | None:
        """(6ND - formula) / formula, or None where no formula count was given."""
        return None if not self.formula_flops else self.flops / self.formula_flops - 1


def six_nd(shape_or_params: ModelShape | int, tokens: int, *, formula_flops: int | None = None) -> SixND:
    """6·N·D (Kaplan et al., arXiv:2001.08361), N = all parameters that a token meets, embedding in.

    Kaplan's N leaves embeddings out; most published figures take the model's nominal size, as here. Pass
    `shape.non_embedding_params` or `shape.matmul_params` for the other readings.
    """
    params = shape_or_params if isinstance(shape_or_params, int) else shape_or_params.active_params
    return SixND(params=params, tokens=tokens, flops=6 * params * tokens, formula_flops=formula_flops)
