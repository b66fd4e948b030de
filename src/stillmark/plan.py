"""What a study will run: jobs in order, each keyed by its content, with predicted FLOPs.

A job's key is a hash of everything that its result depends on: its own settings and the keys of the jobs that it
reads. So a changed study re-runs what the change touches and nothing else, and two arms that need the same job
share it. Needs no torch: `stillmark check` prints the plan on any machine.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stillmark.compute.flops import forward_flops, generate_flops, train_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError
from stillmark.records import canonical
from stillmark.study.recipe import Recipe
from stillmark.study.schema import ModelSpec, Study
from stillmark.tasks import Sample, TrainableTask, make_task

METHOD_VERSION = 1  # of how stages are carried out: raised when code changes what a stage would record
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
PREVIEW_SAMPLES = 192  # of a task, to predict lengths


@dataclass(frozen=True, kw_only=True)
class Job:
    """One stage of one arm and seed. `inputs` and `needs` make its key."""

    key: str
    stage: str  # train | generate | evaluate
    arm: str
    seed: int
    inputs: dict[str, Any]
    needs: tuple[str, ...]
    checkpoint: int | None
    predicted_flops: int
    predicted_tokens: int

    def row(self) -> dict[str, Any]:
        """What the store keeps of it."""
        names = ("key", "stage", "arm", "seed", "needs", "checkpoint", "predicted_flops", "predicted_tokens")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Mean tokens of a task's texts, special tokens included where the model reads or writes them."""

    prompt: int
    response: dict[str, int]  # by text: answers, solutions


def tokenizer_words(task: TrainableTask) -> list[str]:
    """The vocabulary of a word-level tokenizer: one id a word."""
    return [*SPECIAL_TOKENS, *task.words()]


def model_config(spec: ModelSpec, vocab_size: int) -> dict[str, Any]:
    """The Hugging Face config of a study's model."""
    return {
        "model_type": spec.architecture,
        "vocab_size": vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "num_key_value_heads": spec.num_key_value_heads or spec.num_attention_heads,
        "intermediate_size": spec.intermediate_size,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def checkpoint_flops(recipe: Recipe) -> list[float]:
    """Train FLOPs at which checkpoints are written: evenly spaced in log-compute, the last at the budget."""
    first = recipe.train_flops * recipe.first_checkpoint
    if recipe.checkpoints == 1:
        return [recipe.train_flops]
    return [float(x) for x in np.geomspace(first, recipe.train_flops, recipe.checkpoints)]


class Plan:
    """The jobs of a study. Raises UserError for budgets that cannot be met, all at once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.tasks: dict[str, TrainableTask] = {name: make_task(spec) for name, spec in study.tasks.items()}
        self.jobs: dict[str, Job] = {}  # in an order in which each comes after its needs
        self.train_keys: dict[tuple[str, int], str] = {}
        self.generate_keys: dict[tuple[str, int], str] = {}
        self._refuse_impossible_budgets()
        for seed in study.seeds:
            for arm in self.arms_in_order:
                self._add_arm(arm, seed)

    @cached_property
    def arms_in_order(self) -> list[str]:
        """Each arm after its teacher and base."""
        order: list[str] = []

        def visit(name: str) -> None:
            arm = self.study.arms[name]
            for needed in (arm.teacher, arm.base):
                if needed:
                    visit(needed)
            if name not in order:
                order.append(name)

        for name in self.study.arms:
            visit(name)
        return order

    def shape(self, arm: str) -> ModelShape:
        return shape_from_config(self.config(arm))

    def config(self, arm: str) -> dict[str, Any]:
        vocabulary = tokenizer_words(self.tasks[self.study.task_of(arm)])
        return model_config(self.study.models[self.study.arms[arm].model], len(vocabulary))

    @cached_property
    def lengths(self) -> dict[str, Lengths]:
        """By task, from its first training samples."""
        return {name: preview_lengths(task) for name, task in self.tasks.items()}

    def sample_flops(self, arm: str) -> int:
        """Forward and backward FLOPs of one training sample of mean length."""
        response = self._response_tokens(arm)
        tokens = self.lengths[self.study.task_of(arm)].prompt + response
        return train_flops(self.shape(arm), tokens=tokens, scored_tokens=response)

    def _response_tokens(self, arm: str) -> int:
        text = self.study.arms[arm].training.text
        response = self.lengths[self.study.task_of(arm)].response
        return response["answers" if text == "answers" else "solutions"]

    def _refuse_impossible_budgets(self) -> None:
        faults = []
        for name, arm in self.study.arms.items():
            step = self.sample_flops(name) * arm.training.batch_samples
            first = checkpoint_flops(arm.training)[0]
            if arm.training.train_flops < step:
                faults.append(
                    f"arms.{name}.recipe.train_flops: {arm.training.train_flops:.3g} is less than one step of "
                    f"{arm.training.batch_samples} samples takes, {step:.3g}"
                )
            elif first < step:
                faults.append(
                    f"arms.{name}.recipe.first_checkpoint: falls at {first:.3g} FLOPs, before the end of the first "
                    f"step at {step:.3g}"
                )
        if faults:
            raise UserError("\n".join([f"study `{self.study.name}`: impossible budgets", *faults]))

    def _add(
        self, stage: str, arm: str, seed: int, inputs: dict[str, Any], needs: list[str], **extra: Any
    ) -> str:
        content = {"version": METHOD_VERSION, "stage": stage, "inputs": inputs, "needs": needs}
        key = hashlib.sha256(canonical(content).encode()).hexdigest()[:24]
        job = Job(key=key, stage=stage, arm=arm, seed=seed, inputs=inputs, needs=tuple(needs), **extra)
        self.jobs.setdefault(key, job)
        return key

    def _add_arm(self, name: str, seed: int) -> None:
        arm, task_name = self.study.arms[name], self.study.task_of(name)
        recipe, lengths = arm.training, self.lengths[task_name]
        needs = []
        if arm.teacher and recipe.text == "traces":
            self.generate_keys[name, seed] = self._add_generation(name, seed)
            needs.append(self.generate_keys[name, seed])
        needs += [self.train_keys[needed, seed] for needed in (arm.teacher, arm.base) if needed]
        sample_tokens = lengths.prompt + self._response_tokens(name)
        num_samples = int(recipe.train_flops / self.sample_flops(name))
        predicted = int(recipe.train_flops)
        if arm.teacher and recipe.loss != "cross_entropy":
            scored = self._response_tokens(name)
            teacher = forward_flops(self.shape(arm.teacher), tokens=sample_tokens, scored_tokens=scored)
            predicted += num_samples * teacher
        key = self._add(
            "train", name, seed,
            {
                "seed": seed, "model": self.config(name), "recipe": recipe.model_dump(exclude={"traces"}),
                "task": self.tasks[task_name].training_key(), "teacher": bool(arm.teacher), "base": bool(arm.base),
            },
            needs, checkpoint=None, predicted_flops=predicted, predicted_tokens=num_samples * sample_tokens,
        )  # fmt: skip
        self.train_keys[name, seed] = key
        for checkpoint in range(recipe.checkpoints):
            self._add_evaluation(name, seed, key, checkpoint)

    def _add_generation(self, name: str, seed: int) -> str:
        arm = self.study.arms[name]
        assert arm.teacher is not None, name
        assert arm.training.traces is not None, name
        traces, lengths = arm.training.traces, self.lengths[self.study.task_of(name)]
        response = lengths.response["solutions"]
        num_traces = traces.prompts * traces.samples_per_prompt
        shape = self.shape(arm.teacher)
        flops = num_traces * generate_flops(shape, prompt_tokens=lengths.prompt, new_tokens=response)
        inputs = {
            "seed": seed, "traces": traces.model_dump(),
            "task": self.tasks[self.study.task_of(name)].training_key(),
        }  # fmt: skip
        needs = [self.train_keys[arm.teacher, seed]]
        tokens = num_traces * (lengths.prompt + response)
        return self._add("generate", arm.teacher, seed, inputs, needs,
                         checkpoint=None, predicted_flops=flops, predicted_tokens=tokens)  # fmt: skip

    def _add_evaluation(self, name: str, seed: int, train_key: str, checkpoint: int) -> None:
        task_name = self.study.task_of(name)
        spec, lengths = self.study.tasks[task_name], self.lengths[task_name]
        num_samples = spec.test_samples if self.study.evaluate_on == "test" else spec.validation_samples
        new_tokens = self._response_tokens(name)
        flops = num_samples * generate_flops(
            self.shape(name), prompt_tokens=lengths.prompt, new_tokens=new_tokens
        )
        inputs = {
            "task": self.tasks[task_name].training_key(), "split": self.study.evaluate_on,
            "num_samples": num_samples, "max_new_tokens": self.study.max_new_tokens, "checkpoint": checkpoint,
        }  # fmt: skip
        tokens = num_samples * (lengths.prompt + new_tokens)
        self._add("evaluate", name, seed, inputs, [train_key], checkpoint=checkpoint,
                  predicted_flops=flops, predicted_tokens=tokens)  # fmt: skip

    @property
    def predicted_flops(self) -> int:
        return sum(job.predicted_flops for job in self.jobs.values())


def preview_lengths(task: TrainableTask) -> Lengths:
    """Mean lengths of a task's texts in words, with <bos> before the prompt and <eos> after the reply."""
    samples = [task.training_sample(0, index) for index in range(PREVIEW_SAMPLES)]
    response = {
        text: mean_words([response_text(sample, text) for sample in samples]) + 1
        for text in ("answers", "solutions")
    }
    return Lengths(prompt=mean_words([sample.prompt for sample in samples]) + 1, response=response)


def response_text(sample: Sample, text: str) -> str:
    """What a model that learns from `answers` or `solutions` should write."""
    if text == "answers":
        return sample.answer
    if sample.solution is None:
        raise UserError(
            "this task has no reference worked solutions", hint="use `text: answers` or `text: traces`"
        )
    return sample.solution


def mean_words(texts: list[str]) -> int:
    return round(sum(len(text.split()) for text in texts) / len(texts))
