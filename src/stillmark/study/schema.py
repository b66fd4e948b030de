"""What a study file may say. Frozen pydantic models: unknown keys and wrong types are refused.

A recipe says what a model learns from in two words: `text`, whose words it reads, and `loss`, what it is
held to on them. Every method is a pair of the two: a vanilla model is (answers, cross_entropy), sequence-level
distillation is (traces, cross_entropy), logit distillation is (traces, forward_kl).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stillmark.published.settings import PublishedSettings

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Strict(BaseModel):
    """Base of every part of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class ModelSpec(Strict):
    """The size of a model, in the words of a Hugging Face config."""

    architecture: Literal["llama"] = "llama"
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None  # None: as many as num_attention_heads
    intermediate_size: Count


class ShuffledObjects(Strict):
    """Who holds what after a number of swaps (`tasks/shuffled_objects.py`)."""

    kind: Literal["shuffled_objects"]
    objects: Annotated[int, Field(ge=3, le=7)] = 5
    min_swaps: Annotated[int, Field(ge=0)] = 1
    max_swaps: Annotated[int, Field(ge=0, le=20)] = 6
    test_samples: Count = 300
    validation_samples: Count = 120


TaskSpec = ShuffledObjects


class Traces(Strict):
    """What the teacher writes for its student, and how: the `generate` stage."""

    prompts: Count
    samples_per_prompt: Count = 1
    temperature: Annotated[float, Field(ge=0)] = 1.0
    max_new_tokens: Count = 96


class Recipe(Strict):
    """How a model is trained.

    text: `answers` (question -> answer), `solutions` (question -> the task's reference worked solution and
    answer), or `traces` (question -> what the teacher wrote, kept where the task's scorer accepts it).
    loss: `cross_entropy` on that text, or a divergence from the teacher's distribution over it.
    """

    text: Literal["answers", "solutions", "traces"]
    loss: Literal["cross_entropy", "forward_kl", "reverse_kl"] = "cross_entropy"
    temperature: Positive = 1.0  # of both distributions in a divergence
    traces: Traces | None = None
    train_flops: Positive  # the budget: forward and backward of this model, counted
    learning_rate: Positive
    batch_samples: Count = 64
    warmup_samples: Annotated[int, Field(ge=0)] = 1000
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    checkpoints: Annotated[int, Field(ge=1, le=50)] = 6
    first_checkpoint: Fraction = 1 / 32  # of train_flops; the others are spaced evenly in log-compute

    @property
    def needs_teacher(self) -> bool:
        return self.text == "traces" or self.loss != "cross_entropy"


class Arm(Strict):
    """One model under comparison and how it came to be."""

    kind: Literal["vanilla", "distilled", "teacher"]
    model: str
    recipe: Recipe
    teacher: str | None = None
    base: str | None = None  # the arm whose final weights it starts from; None: random weights
    task: str | None = None  # the task that it is trained on; None: the study's only one


class Conclusion(Strict):
    """What is compared with what. `vanilla` is the family that students are held against, one or more sizes."""

    students: Annotated[list[str], Field(min_length=1)]
    vanilla: Annotated[list[str], Field(min_length=1)]
    controls: list[str] = []
    students_per_teacher: Count = 1  # k: the teacher's own training is shared by so many students


class Study(Strict):
    """One YAML file: the arms, tasks, budgets and seeds that are compared."""

    name: Name
    description: str = ""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    threads: Count | None = None  # None: one a core
    evaluate_on: Literal["test", "validation"] = "test"
    max_new_tokens: Count = 96  # of an answer in evaluation
    tasks: Annotated[dict[Name, TaskSpec], Field(min_length=1)]
    models: Annotated[dict[Name, ModelSpec], Field(min_length=1)]
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    conclusion: Conclusion | None = None

    def task_of(self, arm: str) -> str:
        """The name of the task that an arm is trained on."""
        return self.arms[arm].task or next(iter(self.tasks))


class PublishedStudy(Strict):
    """A study of figures that others have published: nothing is trained or run."""

    name: Name
    description: str = ""
    published: Annotated[PublishedSettings, Field(strict=False)]
