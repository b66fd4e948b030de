"""How a model is trained: what it learns from, what it is held to, and within which budget.

Two words tell methods apart: `text`, whose words a model reads, and `loss`, what it is held to on them. A
vanilla model is (answers, cross_entropy), sequence-level distillation (traces, cross_entropy), logit
distillation (traces, forward_kl). The other fields vary these, and those that make no sense together are
refused with the reason (`recipe_faults`).
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from stillmark.study.base import Count, Fraction, Positive, Share, Strict

Divergence = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "total_variation"]


class Traces(Strict):
    """What the teacher writes for its student, and how: the `generate` stage."""

    prompts: Count
    samples_per_prompt: Count = 1
    temperature: Annotated[float, Field(ge=0)] = 1.0
    max_new_tokens: Count = 96
    max_per_prompt: Count | None = None  # accepted traces kept of one prompt, the first ones; None: all


class LogitCache(Strict):
    """The teacher's logits written once and read by every arm and seed, in place of a live teacher.

    top_k: the k likeliest tokens and the probability of all others, an exact divergence of k + 1 buckets.
    samples: k tokens drawn, an unbiased estimate of forward KL ("Sparse Logit Sampling", arXiv:2503.16870).
    """

    keep: Literal["top_k", "samples"] = "top_k"
    k: Count = 32


class OnPolicy(Strict):
    """The student's own replies, written as it trains, judged by the teacher (GKD, arXiv:2306.13649).

    fraction: of the optimiser steps whose text the student writes itself (GKD's lambda).
    reuse: how many steps read the same replies before new ones are written (DistiLLM's buffer, arXiv:2402.03898).
    """

    fraction: Fraction = 1.0
    reuse: Count = 1
    temperature: Positive = 1.0
    max_new_tokens: Count = 96


class HiddenStates(Strict):
    """Layers of the student pulled towards the teacher's, beside the loss (`distill/hidden_states.py`).

    match: `cosine` (DistilBERT, arXiv 1910.01108) has no scale. `mse` (TinyBERT) has the teacher's: where its states
    are large, as SmolLM2's, it needs a small weight, or it drowns the loss (benchmarks/distillation.md).
    """

    weight: Positive = 1.0
    match: Literal["mse", "cosine"] = "cosine"


class Lora(Strict):
    """Low-rank adapters in place of all weights (peft); merged into the weights at each checkpoint."""

    rank: Count = 16
    alpha: Positive = 32.0
    target_modules: list[str] | None = None  # None: every linear layer but the output head


Match = Literal["tokens", "steps", "compute", "compute_with_teacher"]


class Control(Strict):
    """A vanilla arm beside a distilled one: same start, seeds and order of data, cross-entropy and no teacher.

    match: what both may spend, as counted of the student's run, seed by seed. `tokens` and `steps`: as many.
    `compute`: the student's own FLOPs, those of training and of writing its own replies. `compute_with_teacher`: these
    and what the teacher's forward and writing took beside them.
    text: what the control reads; None: what the student reads, or the reference solutions for teacher's traces.
    learning_rate: its own, since what is best for one loss need not be for another; None: the student's.
    """

    match: Match
    text: Literal["answers", "solutions", "corpus"] | None = None
    learning_rate: Positive | None = None


class Recipe(Strict):
    """How a model is trained.

    text: `answers` (question -> answer), `solutions` (question -> the task's reference worked solution and
    answer), `traces` (question -> what the teacher wrote, kept where the task's scorer accepts it), or `corpus`
    (the documents of a text task).
    loss: `cross_entropy` on that text, or a divergence from the teacher's distribution over it, as
    `distill/divergence.py` defines them; `cross_entropy_weight` mixes the two. `uld`: from a teacher with another
    tokenizer, where both have read the same text (`distill/cross_tokenizer.py`).
    """

    text: Literal["answers", "solutions", "traces", "corpus"]
    loss: Literal["cross_entropy", "uld"] | Divergence = "cross_entropy"
    beta: Share = 0.5  # of jsd: 0 is forward KL, 1 is reverse KL
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.1  # of the skewed divergences
    temperature: Positive = 1.0  # of both distributions in a divergence
    temperature_squared: bool = False  # multiply the divergence by temperature^2 (arXiv:1503.02531)
    cross_entropy_weight: Share = 0.0  # of cross-entropy beside a divergence
    logit_cache: LogitCache | None = None  # None: the teacher runs beside the student
    on_policy: OnPolicy | None = None
    hidden_states: HiddenStates | None = None
    traces: Traces | None = None
    train_flops: Positive  # the budget: forward and backward of this model, counted
    train_samples: Count | None = None  # a budget in its place, of which `train_flops` is then the prediction
    learning_rate: Positive
    batch_samples: Count = 64
    warmup_samples: Annotated[int, Field(ge=0)] = 1000
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    checkpoints: Annotated[int, Field(ge=1, le=50)] = 6
    first_checkpoint: Fraction = 1 / 32  # of train_flops; the others are spaced evenly in log-compute
    lora: Lora | None = None
    packing: bool = False  # several short samples in a row, none seeing another
    gradient_checkpointing: bool = False  # less memory for a second forward, which is counted
    precision: Literal["float32", "bfloat16"] = "float32"  # of the forward and backward; weights stay float32

    @property
    def needs_teacher(self) -> bool:
        return self.text == "traces" or self.needs_logits

    @property
    def needs_logits(self) -> bool:
        return self.loss != "cross_entropy" or self.hidden_states is not None

    @property
    def hears_logits(self) -> bool:
        """Whether the loss has a part that the teacher's logits decide."""
        return self.loss != "cross_entropy" and self.cross_entropy_weight < 1.0

    @property
    def needs_live_teacher(self) -> bool:
        return self.needs_logits and self.logit_cache is None


def recipe_faults(recipe: Recipe) -> Iterator[str]:
    """Fields that do not go together: `field: reason`, one line each."""
    given = recipe.model_fields_set
    asks_teacher = recipe.loss != "cross_entropy"
    for name, losses in (("beta", ("jsd",)), ("alpha", ("skew_kl", "skew_reverse_kl"))):
        if name in given and recipe.loss not in losses:
            yield f"{name}: is given, but loss is `{recipe.loss}`; it belongs to {' and '.join(losses)}"
    for name in ("temperature", "temperature_squared", "cross_entropy_weight", "logit_cache", "on_policy"):
        if name in given and getattr(recipe, name) is not None and not asks_teacher:
            yield f"{name}: is given, but loss is `cross_entropy`, which asks no teacher"
    if recipe.loss == "uld":
        yield from uld_faults(recipe)
    if recipe.text == "traces" and recipe.traces is None:
        yield "traces: is missing: say how many prompts the teacher answers"
    if recipe.text != "traces" and recipe.traces is not None:
        yield f"traces: is given, but text is `{recipe.text}`"
    cache = recipe.logit_cache
    if cache and cache.keep == "samples" and recipe.loss not in ("forward_kl", "cross_entropy"):
        yield f"logit_cache.keep: samples estimate forward_kl without bias, and no other divergence ({recipe.loss})"
    if cache and recipe.text != "corpus":
        yield f"logit_cache: needs `text: corpus`, a fixed set of sequences; text is `{recipe.text}`"
    if cache and recipe.on_policy:
        yield "on_policy: the student's replies are new, so no cache can hold the teacher's logits on them"
    if cache and recipe.hidden_states:
        yield "hidden_states: needs a live teacher: a logit cache holds no hidden states"
    if recipe.on_policy and recipe.cross_entropy_weight:
        yield "cross_entropy_weight: is not combined with on_policy: it would teach the student its own words as right"
    if recipe.on_policy and recipe.hidden_states:
        yield "on_policy: is not combined with hidden_states"
    if recipe.packing and recipe.on_policy:
        yield "packing: is not combined with on_policy, whose rows are made as it goes"
    if recipe.packing and recipe.hidden_states:
        yield "packing: is not combined with hidden_states"


def uld_faults(recipe: Recipe) -> Iterator[str]:
    """What does not go with a teacher that reads other tokens than its student."""
    if recipe.temperature_squared:
        yield "temperature_squared: undoes the 1/T^2 of a divergence's gradient, which uld does not have"
    if recipe.logit_cache:
        yield "logit_cache: holds the teacher's logits on the student's tokens, which uld's teacher does not read"
    if recipe.on_policy:
        yield "on_policy: is not combined with uld, whose teacher reads text and not the student's tokens"
    if recipe.hidden_states:
        yield "hidden_states: is not combined with uld, whose teacher has other positions"
    if recipe.packing:
        yield "packing: is not combined with uld, whose teacher reads each sample's text by itself"
