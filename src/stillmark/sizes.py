"""How large an arm's model is and how long its samples are, from the study alone: what FLOPs are predicted from.

Needs no torch, no model and no data file: what a run found out about those stands in the resolved study.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from typing import Any

import numpy as np

from stillmark.compute.backward import Lora, Recompute
from stillmark.compute.flops import (
    decode_flops,
    forward_flops,
    prefill_flops,
    spared_prefill_flops,
    train_flops,
)
from stillmark.compute.model_shape import ModelShape
from stillmark.compute.shapes import shape_from_config
from stillmark.configs import model_config, pruned_config, require_prunable
from stillmark.errors import UserError
from stillmark.lengths import Lengths, preview_lengths, tokenizer_words
from stillmark.study.recipe import Recipe
from stillmark.study.schema import (
    ComparedText,
    GivenModel,
    ModelSpec,
    ResolvedText,
    Study,
    TaskSpec,
    Text,
)
from stillmark.tasks import TrainableTask, make_task

ROUNDING = 1e-9  # of a number of steps


@dataclass(frozen=True, kw_only=True)
class SampleTokens:
    """A training sample of mean length: the tokens that a model reads, and those of them that it is scored on."""

    read: int
    scored: int


class Sizes:
    """Configs, shapes and mean lengths of a study's arms."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.tasks: dict[str, TrainableTask] = {
            name: make_task(spec) for name, spec in study.tasks.items() if not isinstance(spec, Text)
        }

    def config(self, arm: str) -> dict[str, Any]:
        """The Hugging Face config of an arm's model."""
        return self.model_config(self.study.arms[arm].model, self.study.task_of(arm))

    def model_config(self, model: str, task: str) -> dict[str, Any]:
        spec = self.study.models[model]
        if isinstance(spec, ModelSpec):
            return model_config(spec, self.vocab_size(task))
        if isinstance(spec, GivenModel):
            if spec.config is None:
                raise UserError(f"models.{model}: its config is not known before it is loaded")
            return spec.config
        whole = self.model_config(spec.pruned_from, task)
        require_prunable(model, spec, whole)
        return pruned_config(spec, whole)

    def vocab_size(self, task: str) -> int:
        spec = self.study.tasks[task]
        if isinstance(spec, Text):
            return first_reading(spec, task).vocab_size
        return len(tokenizer_words(self.tasks[task]))

    def shape(self, arm: str) -> ModelShape:
        return shape_from_config(self.config(arm))

    @cached_property
    def lengths(self) -> dict[str, Lengths]:
        """By question task, from its first training samples."""
        return {name: preview_lengths(task) for name, task in self.tasks.items()}

    def sample(self, arm: str) -> SampleTokens:
        """A training sample of the arm: the mean of its text's and of its own replies', for an arm that writes some."""
        given, on_policy = self.given_sample(arm), self.study.arms[arm].training.on_policy
        if on_policy is None:
            return given
        own, share = self.own_sample(arm), on_policy.fraction
        return SampleTokens(
            read=round((1 - share) * given.read + share * own.read),
            scored=round((1 - share) * given.scored + share * own.scored),
        )

    def own_sample(self, arm: str) -> SampleTokens:
        """A prompt of the arm's text with a reply of its own, taken to be as long as the text's response or cut."""
        given, on_policy = self.given_sample(arm), self.study.arms[arm].training.on_policy
        assert on_policy is not None, arm
        reply = min(on_policy.max_new_tokens, given.scored)
        return SampleTokens(read=given.read - given.scored + reply, scored=reply)

    def given_sample(self, arm: str) -> SampleTokens:
        """A training sample of the text that the arm is given."""
        task = self.study.task_of(arm)
        spec = self.study.tasks[task]
        if isinstance(spec, Text):
            found = resolved(self.study, arm)
            return SampleTokens(
                read=round(found.train_tokens / found.train_sequences),
                scored=round(found.train_loss_tokens / found.train_sequences),
            )
        scored = self.response_tokens(arm)
        return SampleTokens(read=self.lengths[task].prompt + scored, scored=scored)

    def response_tokens(self, arm: str) -> int:
        """The mean length of what an arm of a question task learns to write."""
        text = self.study.arms[arm].training.text
        return self.lengths[self.study.task_of(arm)].response["answers" if text == "answers" else "solutions"]

    def executed_shape(self, arm: str) -> ModelShape:
        """The shape as it is run: transformers' default kernel (SDPA) computes a window's whole context."""
        return self.shape(arm).without_windows()

    def sample_flops(self, arm: str) -> int:
        """Forward and backward FLOPs of one training sample of mean length, as its recipe has them; no padding."""
        sample, recipe = self.sample(arm), self.study.arms[arm].training
        shape = self.executed_shape(arm)
        formula = partial(
            train_flops, shape, tokens=sample.read, lora=adapters(recipe, shape), recompute=recomputed(recipe)
        )
        whole = formula(scored_tokens=sample.scored) + self.projector_flops(arm)
        if not self.study.is_compared(arm):
            return whole
        # The head is run for what is compared, and again where cross-entropy is mixed in
        without_head = formula(scored_tokens=0)
        compared = (
            formula(scored_tokens=self.compared_sample(arm).scored) if recipe.hears_logits else without_head
        )
        return compared + (whole - without_head if recipe.cross_entropy_weight else 0)

    def projector_flops(self, arm: str) -> int:
        """6 a weight and scored token of the projectors that carry hidden states to the teacher's width."""
        spec = self.study.arms[arm]
        if not spec.teacher or spec.training.hidden_states is None:
            return 0
        own, teacher = self.shape(arm), self.shape(spec.teacher)
        if own.hidden_size == teacher.hidden_size:
            return 0
        return 6 * self.sample(arm).scored * len(own.layers) * own.hidden_size * teacher.hidden_size

    def num_samples(self, arm: str) -> int:
        """How many training samples the arm's budget takes: of whole steps, the last of which reaches it."""
        recipe = self.study.arms[arm].training
        samples = recipe.train_samples or recipe.train_flops / self.sample_flops(arm)
        return ceil(samples / recipe.batch_samples - ROUNDING) * recipe.batch_samples

    def teacher_forward_flops(self, name: str) -> int:
        """What a live teacher's forward takes beside the arm's whole training; 0 where none runs."""
        arm = self.study.arms[name]
        recipe = arm.training
        if (
            not arm.teacher
            or not recipe.needs_live_teacher
            or not (recipe.hears_logits or recipe.hidden_states)
        ):
            return 0
        sample = self.compared_sample(name) if self.study.is_compared(name) else self.sample(name)
        scored = sample.scored if recipe.hears_logits else 0
        one = forward_flops(self.executed_shape(arm.teacher), tokens=sample.read, scored_tokens=scored)
        return self.num_samples(name) * one

    def compared_sample(self, name: str) -> SampleTokens:
        """What the teacher of an arm with another tokenizer reads of a training sample, and where it is compared."""
        found = compared(self.study, name)
        num_sequences = resolved(self.study, name).train_sequences
        return SampleTokens(
            read=round(found.teacher_tokens / num_sequences), scored=round(found.positions / num_sequences)
        )

    def own_text_flops(self, name: str) -> int:
        """What the arm's writing of replies takes as it trains (`on_policy`); 0 where it writes none."""
        on_policy = self.study.arms[name].training.on_policy
        if on_policy is None:
            return 0
        own = self.own_sample(name)
        one = replies_flops(self.shape(name), prompt_tokens=own.read - own.scored, new_tokens=own.scored)
        return round(self.num_samples(name) * on_policy.fraction / on_policy.reuse * one)

    def generation_flops(self, name: str) -> int:
        """What the writing of the arm's traces takes, those of a prompt together; 0 where it has none."""
        arm = self.study.arms[name]
        if not arm.teacher or arm.training.traces is None:
            return 0
        lengths, traces = self.lengths[self.study.task_of(name)], arm.training.traces
        return traces.prompts * replies_flops(
            self.shape(arm.teacher), prompt_tokens=lengths.prompt, new_tokens=lengths.response["solutions"],
            num_replies=traces.samples_per_prompt if traces.temperature else 1,
        )  # fmt: skip

    def capture_flops(self, name: str) -> int:
        """What the writing of the arm's logit cache takes: the teacher reads the training text once; 0 without one."""
        arm = self.study.arms[name]
        if not arm.teacher or arm.training.logit_cache is None:
            return 0
        found = resolved(self.study, name)
        sample = self.sample(name)
        one = forward_flops(self.executed_shape(arm.teacher), tokens=sample.read, scored_tokens=sample.scored)
        return found.train_sequences * one


def replies_flops(shape: ModelShape, *, prompt_tokens: int, new_tokens: int, num_replies: int = 1) -> int:
    """What our engine takes to read a prompt, once, and to write replies; what prompts share is not known here."""
    prompt_tokens = max(1, prompt_tokens)
    prompt = prefill_flops(shape, prompt_tokens=prompt_tokens)
    prompt -= spared_prefill_flops(shape, prompt_tokens=prompt_tokens)
    return prompt + num_replies * decode_flops(shape, prompt_tokens=prompt_tokens, new_tokens=new_tokens)


def adapters(recipe: Recipe, shape: ModelShape) -> Lora | None:
    """The recipe's adapters as the formula takes them; where it names no matrices, those of every linear layer."""
    if recipe.lora is None:
        return None
    has_experts = any(matmul.copies > 1 for layer in shape.layers for matmul in layer.matmuls)
    matmuls = [
        m for layer in shape.layers for m in (layer.attention_matmuls if has_experts else layer.matmuls)
    ]
    names = recipe.lora.target_modules or sorted({matmul.name.rpartition(".")[2] for matmul in matmuls})
    return Lora(rank=recipe.lora.rank, targets=tuple(names))


def recomputed(recipe: Recipe) -> Recompute:
    """What gradient checkpointing runs again in most architectures; where a norm or a dropout follows a layer's last
    product, as in Gemma 2, that product too, which training counts and this does not.
    """
    return Recompute.LAYERS_BUT_LAST_PRODUCT if recipe.gradient_checkpointing else Recompute.NONE


def evenly_spaced(recipe: Recipe, budget: float) -> tuple[float, ...]:
    """Where checkpoints are written: evenly spaced in the logarithm of what the budget counts, the last at its end."""
    if recipe.checkpoints == 1:
        return (budget,)
    return tuple(map(float, np.geomspace(budget * recipe.first_checkpoint, budget, recipe.checkpoints)))


def resolved(study: Study, arm: str) -> ResolvedText:
    """What the files of an arm's text task were found to hold, as the arm's tokenizer reads them."""
    task = study.task_of(arm)
    spec = study.tasks[task]
    first = first_reading(spec, task)
    assert isinstance(spec, Text), task
    return first if study.is_first_reader(arm) else spec.resolved_by[study.reader_of(arm)]


def first_reading(spec: TaskSpec, task: str) -> ResolvedText:
    """The same as the study's first tokenizer reads them."""
    if not isinstance(spec, Text) or spec.resolved is None:
        raise UserError(f"tasks.{task}: its files have not been read yet")
    return spec.resolved


def compared(study: Study, arm: str) -> ComparedText:
    """What `uld` compares of the text that an arm is trained on."""
    spec = study.tasks[study.task_of(arm)]
    assert isinstance(spec, Text), arm
    return spec.compared[study.compared_readers(arm)]
