"""What a study file may say. Frozen pydantic models: unknown keys and wrong types are refused."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from stillmark.published.settings import PublishedSettings
from stillmark.study.base import Count, Name, Strict
from stillmark.study.benchmarks import Benchmarks
from stillmark.study.profile import Profile
from stillmark.study.recipe import Control, Match, Recipe


class ModelSpec(Strict):
    """The size of a model, in the words of a Hugging Face config."""

    architecture: Literal["llama"] = "llama"
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None  # None: as many as num_attention_heads
    intermediate_size: Count


class GivenModel(Strict):
    """A model that exists: a Hugging Face directory, a GGUF file, or a hub id.

    `config` and `weights_sha256` are filled in when a run begins (`resolve.py`), so that a report needs no
    model; given in a study file, a model that differs is refused. So is `vocabulary_sha256`, of a model whose
    tokenizer has other tokens than the first given model's; None where it has the same.
    """

    checkpoint: str
    revision: str | None = None  # of a hub id
    config: dict[str, Any] | None = None
    weights_sha256: str | None = None
    vocabulary_sha256: str | None = None


class PrunedModel(Strict):
    """A start cut out of a given model (`models/prune.py`); None keeps all."""

    pruned_from: Name
    num_hidden_layers: Count | None = None
    hidden_size: Count | None = None
    num_key_value_heads: Count | None = None
    intermediate_size: Count | None = None
    calibration_sequences: Count = 32  # of the arm's training text


def model_tag(value: Any) -> str:
    """Which of the three a model's entry is: told by the one key that only it has."""
    keys = value if isinstance(value, dict) else value.model_fields_set
    return "given" if "checkpoint" in keys else "pruned" if "pruned_from" in keys else "random"


AnyModel = Annotated[
    Annotated[ModelSpec, Tag("random")]
    | Annotated[GivenModel, Tag("given")]
    | Annotated[PrunedModel, Tag("pruned")],
    Discriminator(model_tag),
]


class ShuffledObjects(Strict):
    """Who holds what after a number of swaps (`tasks/shuffled_objects.py`)."""

    kind: Literal["shuffled_objects"]
    objects: Annotated[int, Field(ge=3, le=7)] = 5
    min_swaps: Annotated[int, Field(ge=0)] = 1
    max_swaps: Annotated[int, Field(ge=0, le=20)] = 6
    test_samples: Count = 300
    validation_samples: Count = 120


class TextFile(Strict):
    """A text file (one document), or a JSONL file whose lines have `text`, or a prompt and a response.

    A field that holds a list gives a document for each entry. `held_out_share` of the documents, chosen by a hash
    of their prompt (or text), are kept from training for the task's test split; of a text file its last lines are.
    """

    file: str
    text: str | None = None  # the field with the whole document
    prompt: str | None = None  # the field with what stands before `response`, read without a loss
    response: str | None = None
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_documents: Count | None = None  # the first ones


class Text(Strict):
    """Documents to learn from and to be surprised by as little as possible: bits per byte, KL to the teacher.

    Documents are cut into sequences of `context_tokens` by the models' tokenizer. What the files were is filled in when
    a run begins: as tokens of the first given model (`resolved`), and, where models have several vocabularies, as the
    others read them (`resolved_by`) and as `uld` compares two (`compared`, by the models whose tokenizers student and
    teacher read with: `STUDENT TEACHER`). Held-out text is cut by the first, so that all are held to the same pieces.
    """

    kind: Literal["text"]
    train: Annotated[list[TextFile], Field(min_length=1)]
    test: list[TextFile] = Field(default=[])
    context_tokens: Annotated[int, Field(ge=8)] = 256
    test_sequences: Count = 64  # of the held-out documents, spread evenly over them
    resolved: "ResolvedText | None" = None
    resolved_by: dict[Name, "ResolvedText"] = Field(default={})
    compared: dict[str, "ComparedText"] = Field(default={})


class ResolvedText(Strict):
    """A text task as token counts, and checksums of its sequences."""

    sha256: str
    train_sha256: str | None = None  # of those that are trained on alone; None: found by an earlier version
    train_sequences: Count
    train_tokens: Count
    train_loss_tokens: Count
    test_sequences: Count
    test_tokens: Count
    test_loss_tokens: Count
    vocab_size: Count  # rows of the given model's output head
    token_rows: Count | None = None  # those up to its tokenizer's last token; None: all, as none is padding
    dropped_documents: Annotated[int, Field(ge=0)] = 0  # of `train`: they overlap with held-out ones
    prompted_sequences: Annotated[int, Field(ge=0)] = 0  # of `train`, that begin with a prompt


class ComparedText(Strict):
    """The training text, read once, as `uld` compares a teacher and a student on it."""

    sha256: str  # of what the teacher reads and of the places that are compared
    teacher_tokens: Count  # read by the teacher, up to the last place of a sequence
    positions: Count  # where both have read the same text


TaskSpec = Annotated[ShuffledObjects | Text, Field(discriminator="kind")]


class Arm(Strict):
    """One model under comparison and how it came to be."""

    kind: Literal["vanilla", "distilled", "teacher"]
    model: str
    recipe: Recipe | None = None  # None: a given model as it is
    teacher: str | None = None
    base: str | None = None  # the arm whose final weights it starts from; None: random weights
    task: str | None = None  # the task that it is trained on; None: the study's only one
    control: Control | None = None  # adds the arm `NAME-control`
    quantise: list[str] = Field(default=[])  # GGUF formats: each adds the arm `NAME-FORMAT`

    @property
    def training(self) -> Recipe:
        """The recipe of an arm that is trained."""
        assert self.recipe is not None, "this arm is a given model"
        return self.recipe

    @property
    def arms_before(self) -> tuple[str | None, ...]:
        """The arms that are made before it."""
        return self.teacher, self.base

    @property
    def checkpoints(self) -> int:
        """How many of its models are evaluated: a given model is one."""
        return self.recipe.checkpoints if self.recipe else 1

    @property
    def evaluated(self) -> range:
        """The checkpoints that are evaluated, by number."""
        return range(self.checkpoints)


class ControlArm(Arm):
    """The vanilla arm that a distilled one's `control` asks for. A plan makes it (`added_arms.py`), no file.

    Its recipe's `train_flops` is predicted; it trains to what its student was counted to have taken (`marks.py`).
    """

    student: str
    match: Match

    @property
    def arms_before(self) -> tuple[str | None, ...]:
        return *super().arms_before, self.student


class QuantisedArm(Arm):
    """The last checkpoint of another arm in a GGUF format, as an engine of that format runs it (llama.cpp).

    Nothing is trained for it: what it took to make is what its parent took. A plan makes it (`added_arms.py`), no file.
    """

    parent: str
    format: str

    @property
    def arms_before(self) -> tuple[str | None, ...]:
        return *super().arms_before, self.parent

    @property
    def evaluated(self) -> range:
        return range(self.checkpoints - 1, self.checkpoints)


class Conclusion(Strict):
    """What is compared with what. `vanilla` is the family that students are held against, one or more sizes."""

    students: Annotated[list[str], Field(min_length=1)]
    vanilla: list[str] = Field(default=[])  # in a text study, the controls stand for it
    controls: list[str] = Field(default=[])
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
    models: Annotated[dict[Name, AnyModel], Field(min_length=1)]
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    conclusion: Conclusion | None = None
    track: list[Literal["trackio", "mlflow", "wandb", "tensorboard"]] = Field(
        default=[]
    )  # each training job a run
    benchmarks: Benchmarks | None = None  # None: no model is asked a public benchmark
    profile: Profile | None = None  # None: no inference is measured

    @property
    def is_text(self) -> bool:
        """Whether models are held to text (bits per byte) and not to questions (accuracy): all tasks are of a kind."""
        return any(isinstance(spec, Text) for spec in self.tasks.values())

    @property
    def first_given(self) -> GivenModel:
        """The given model whose tokenizer cuts a text study's held-out text, and reads for all that share it."""
        return next(spec for spec in self.models.values() if isinstance(spec, GivenModel))

    def is_compared(self, arm: str) -> bool:
        """Whether the arm's teacher reads its text in tokens of its own. Questions have one tokenizer for all."""
        recipe = self.arms[arm].recipe
        return self.is_text and recipe is not None and recipe.loss == "uld"

    def compared_readers(self, arm: str) -> str:
        """The key of `Text.compared` for an arm and its teacher."""
        teacher = self.arms[arm].teacher
        assert teacher is not None, arm
        return f"{self.reader_of(arm)} {self.reader_of(teacher)}"

    def task_of(self, arm: str) -> str:
        """The name of the task that an arm is trained on."""
        return self.arms[arm].task or next(iter(self.tasks))

    def reader_of(self, arm: str) -> str:
        """The given model whose tokenizer an arm's text is read with: the first of those that have its vocabulary."""
        spec = self.models[self.arms[arm].model]
        while isinstance(spec, PrunedModel):
            spec = self.models[spec.pruned_from]
        vocabulary = spec.vocabulary_sha256 if isinstance(spec, GivenModel) else None
        return next(
            name
            for name, model in self.models.items()
            if isinstance(model, GivenModel) and model.vocabulary_sha256 == vocabulary
        )

    def given_reader(self, arm: str) -> GivenModel:
        """The same, as the study has it."""
        model = self.models[self.reader_of(arm)]
        assert isinstance(model, GivenModel), arm
        return model

    def is_first_reader(self, arm: str) -> bool:
        """Whether the arm reads as the study's first given model does."""
        return self.given_reader(arm) is self.first_given


class PublishedStudy(Strict):
    """A study of figures that others have published: nothing is trained or run."""

    name: Name
    description: str = ""
    published: Annotated[PublishedSettings, Field(strict=False)]
