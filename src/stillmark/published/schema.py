"""What an entry of the registry may say: the schema of models.yaml and benchmarks.yaml.

Unknown keys are refused, units come from a closed list, and each figure's name fixes the units it may have.
What a schema alone cannot see (a source that does not exist, a duplicate, a score over 100) is in `check.py`.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

Unit = Literal[
    "parameters", "tokens", "samples", "epochs", "FLOP", "FLOP/s",
    "H100-hours", "H200-hours", "B200-hours", "H800-hours", "A100-hours", "V100-hours", "TPU-hours",
    "GPU-hours", "t CO2e", "USD", "USD per 1M tokens", "fraction", "dimensionless", "text",
]  # fmt: skip
ScoreUnit = Literal["percent", "rating"]
Kind = Literal["vanilla", "distilled", "teacher", "proprietary", "rl-baseline"]
Method = Literal["published", "estimated", "derived"]
Metric = Literal[
    "accuracy", "pass@1", "pass@64", "majority@64", "prompt_strict", "strict", "not_stated", "rating"
]
Area = Literal["mathematics", "code", "science", "knowledge", "instruction_following"]
TeacherSignal = Literal["text", "logits", "text_then_logits"]

DEVICE_HOURS = (
    "H100-hours", "H200-hours", "B200-hours", "H800-hours", "A100-hours", "V100-hours", "TPU-hours",
    "GPU-hours",
)  # fmt: skip

FIGURES: dict[str, tuple[str, ...]] = {
    "params_total": ("parameters",),
    "params_active": ("parameters",),
    "pretraining_tokens": ("tokens",),
    "pretraining_tokens_paper": ("tokens",),
    "distillation_samples": ("samples",),
    "distillation_tokens_per_sample": ("tokens",),
    "distillation_tokens_per_epoch": ("tokens",),
    "distillation_tokens_seen": ("tokens",),
    "distillation_tokens_unique": ("tokens",),
    "distillation_epochs": ("epochs",),
    "distillation_context": ("tokens",),
    "learning_rate_initial": ("dimensionless",),
    "gpu_hours": DEVICE_HOURS,
    "gpu_hours_pretraining": DEVICE_HOURS,
    "gpu_hours_total": DEVICE_HOURS,
    "gpu_hours_distillation": DEVICE_HOURS,
    "gpu_hours_on_policy_distillation": DEVICE_HOURS,
    "gpu_hours_rl_same_start": DEVICE_HOURS,
    "gpu_hours_r1_zero": DEVICE_HOURS,
    "gpu_hours_r1": DEVICE_HOURS,
    "gpu_hours_sft_data_creation": DEVICE_HOURS,
    "gpu_hours_total_post_training": DEVICE_HOURS,
    "teacher_logit_generation_gpu_hours_both": DEVICE_HOURS,
    "training_flop": ("FLOP",),
    "training_flop_6nd": ("FLOP",),
    "training_flop_epoch": ("FLOP",),
    "training_flop_estimate": ("FLOP",),
    "post_training_flop_estimate": ("FLOP",),
    "mfu_bf16": ("fraction",),
    "implied_mfu_bf16": ("fraction",),
    "co2_location_based": ("t CO2e",),
    "co2_family": ("t CO2e",),
    "training_cost_usd": ("USD",),
    "teacher_generation_cost_usd": ("USD",),
    "api_price_input": ("USD per 1M tokens",),
    "api_price_output": ("USD per 1M tokens",),
    "hardware": ("text",),
    "role": ("text",),
    "believed_distilled": ("text",),
    "claim_tokens_saved": ("text",),
}
"""Every figure that the registry knows, with the units it may have."""

Name = Annotated[StrictStr, Field(min_length=1)]
ModelId = Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9.\-]*$")]
Number = StrictInt | StrictFloat


class Entry(BaseModel):
    """An entry of the file: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceEntry(Entry):
    """Where a figure was seen."""

    url: Annotated[StrictStr, Field(pattern=r"^https?://\S+$")]
    kind: Literal["primary", "secondary", "aggregator", "estimate", "judgement"]
    seen: Name
    """Which copy was read: commit, table, page, or that it was read in a copy."""


class RangeEntry(Entry):
    """A published range, such as `2-3` epochs."""

    low: Number
    high: Number


class FigureEntry(Entry):
    """One figure from one source."""

    name: Name
    value: StrictInt | StrictFloat | RangeEntry | StrictStr
    unit: Unit
    method: Method
    printed: Name | None = None
    """As the source prints it, where that is not the value itself."""
    source: Name | None = None
    """A key of `sources`. May be absent only where the figure is derived from others of the same model."""
    where: Name | None = None
    formula: Name | None = None
    derived_from: tuple[Name, ...] = ()
    note: Name | None = None


class ScoreEntry(Entry):
    """One score on one test set, from one source, with the settings that the source states."""

    benchmark: Name
    printed: Name
    value: Number
    unit: ScoreUnit = "percent"
    metric: Metric
    variant: Literal["base", "chat"]
    """Which checkpoint was scored: the pretrained one (`base`) or the one people talk to (`chat`)."""
    source: Name
    reported_by: Literal["self", "third-party"]
    where: Name | None = None
    also: tuple[Name, ...] = ()
    """Other sources that print the same value."""
    thinking: StrictBool | None = None
    checkpoint: Name | None = None
    """An intermediate checkpoint; absent for the released model."""
    num_fewshot: StrictInt | None = None
    chain_of_thought: StrictBool | None = None
    num_responses: StrictInt | None = None
    max_new_tokens: StrictInt | None = None
    temperature: Number | None = None
    decoding: Name | None = None
    harness: Name | None = None
    note: Name | None = None


class AnswerLengthEntry(Entry):
    """How many tokens a model writes per answer on one test set, and how it scored in that run."""

    benchmark: Name
    printed: Name
    tokens: Annotated[Number, Field(gt=0)]
    """Mean over the answers, hidden reasoning included."""
    score: Annotated[Number, Field(ge=0, le=100)] | None = None
    """In percent, of the same run."""
    thinking: StrictBool | None = None
    source: Name
    reported_by: Literal["self", "third-party"]
    where: Name | None = None
    note: Name | None = None


class BaseEntry(Entry):
    """The model that this one started from."""

    printed: Name
    id: ModelId | None = None
    variant: Literal["base", "chat"] | None = None
    relation: Literal["continued", "pruned"]
    """`continued` keeps the base's architecture, and so its parameters; `pruned` does not."""


class TeacherEntry(Entry):
    """Who taught it, as printed, and which of them the registry holds."""

    printed: Name
    ids: tuple[ModelId, ...] = ()


class ModelEntry(Entry):
    """One model with everything that others have published about it."""

    id: ModelId
    name: Name
    kind: Kind
    family: Name
    """Models of one recipe in several sizes: joined by a line in a chart."""
    base: BaseEntry | None = None
    teacher: TeacherEntry | None = None
    teacher_signal: TeacherSignal | None = None
    method: Name | None = None
    figures: tuple[FigureEntry, ...] = ()
    scores: tuple[ScoreEntry, ...] = ()
    answer_lengths: tuple[AnswerLengthEntry, ...] = ()


class ConstantEntry(Entry):
    """A figure that belongs to no model."""

    name: Name
    value: Number
    unit: Unit
    source: Name
    where: Name | None = None
    note: Name | None = None


class RegistryFile(Entry):
    """A whole file: the one that is shipped, or a contributor's."""

    schema_version: Literal[1] = Field(alias="schema")
    about: Name | None = None
    constants: tuple[ConstantEntry, ...] = ()
    sources: dict[Name, SourceEntry] = {}
    models: tuple[ModelEntry, ...] = ()


class BenchmarkEntry(Entry):
    """One test set. Two scores can be compared only on the same one."""

    name: Name
    family: Name
    area: Area
    metrics: tuple[Metric, ...]
    is_comparable: StrictBool = True
    """False where the source does not say which items: such scores are shown and never compared."""
    num_items: StrictInt | None = None
    """How many items, for the standard error; absent where no source was found."""
    items_source: Annotated[StrictStr, Field(pattern=r"^https?://\S+$")] | None = None
    chance_percent: Number = 0
    """What guessing scores."""
    note: Name | None = None


class BenchmarkFile(Entry):
    """benchmarks.yaml."""

    benchmarks: dict[Name, BenchmarkEntry]
