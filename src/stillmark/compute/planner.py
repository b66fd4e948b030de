"""What would it cost: distil a student, pretrain it, serve the teacher, or buy the answers from an API?

    plan = make_plan(PlanInputs(...))
    plan.choice("distil").fixed.usd, plan.break_evens

Each choice has a cost before the first query (stages of work, `workloads.py`) and a cost a query. From those
comes the number of queries after which one pays against another, in money and in FLOPs: the lifetime cost
6·N·D + 2·N·T of arXiv:2401.00448, with generation and retries counted. Quality is not: whether the answers
are as good is what an evaluation has to say first. A number that rests on something unknown (a peak, a TDP,
a price) is None.
"""

from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from stillmark.compute.carbon import carbon_kilograms
from stillmark.compute.plan_costs import Cost, Hardware
from stillmark.compute.prices import ApiPrice
from stillmark.compute.workloads import (
    TEACHER_TRACES,
    Distillation,
    DistillationMethod,
    PlannedModel,
    Stage,
    Work,
    answer_flops_of,
    pretraining,
)
from stillmark.errors import UserError

ChoiceName = Literal["distil", "pretrain", "teacher", "api"]
Unit = Literal["usd", "flops"]

# Least and most over 13 published runs that train, in benchmarks/planner.md (a test holds these two to it).
PUBLISHED_OVER_PLANNED = (1.1, 11.0)


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One stage with what it costs; `bought` where an API does it."""

    stage: Stage
    cost: Cost
    bought: str | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to get answers."""

    name: ChoiceName
    what: str
    stages: tuple[StageCost, ...]
    per_query: Cost
    answer_tokens: float

    @property
    def fixed(self) -> Cost:
        """Before the first query."""
        total = Cost()
        for stage in self.stages:
            total += stage.cost
        return total

    def total(self, queries: float) -> Cost:
        return self.fixed + self.per_query.times(queries)


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """From how many queries on `choice` costs less than `against`; before that, `against` does.

    `always`: from the first. `equal`: they cost the same. `unknown`: a cost that it needs is not known.
    """

    choice: ChoiceName
    against: ChoiceName
    unit: Unit
    queries: float | None
    verdict: Literal["after", "always", "equal", "unknown"]


@dataclass(frozen=True, kw_only=True)
class PlanInputs:
    """What is asked. A choice whose inputs are missing is not in the plan."""

    hardware: Hardware
    student: PlannedModel
    teacher: PlannedModel | None = None
    distillation: Distillation | None = None
    teacher_api: ApiPrice | None = None
    """Where the teacher's traces are bought rather than generated here."""
    pretrain_tokens: float | None = None
    pretrain_sequence_tokens: float = 4096
    api: ApiPrice | None = None
    query_prompt_tokens: float = 500
    query_answer_tokens: float = 500
    teacher_answer_tokens: float | None = None
    api_answer_tokens: float | None = None
    """Where another model answers at another length: hidden reasoning counts."""
    region: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The choices side by side, when each pays, and all that was assumed."""

    inputs: PlanInputs
    choices: tuple[Choice, ...]
    break_evens: tuple[BreakEven, ...]
    assumptions: tuple[str, ...] = field(default_factory=tuple)

    def choice(self, name: ChoiceName) -> Choice | None:
        return next((choice for choice in self.choices if choice.name == name), None)

    def carbon_kilograms(self, joules: float | None) -> float | None:
        """None where the region was not given or the energy is unknown."""
        return carbon_kilograms(joules, self.inputs.region) if self.inputs.region else None


def make_plan(inputs: PlanInputs) -> Plan:
    """Every choice that the inputs allow, each pair compared."""
    if (
        inputs.teacher_api
        and inputs.distillation
        and inputs.distillation.method is not DistillationMethod.SEQUENCE
    ):
        raise UserError(
            f"method `{inputs.distillation.method}` needs the teacher's logits, and "
            f"{inputs.teacher_api.model} behind an API hands over text",
            hint="take method `sequence`, or a teacher that runs here",
        )
    choices = tuple(_choices(inputs))
    units: tuple[Unit, ...] = ("usd", "flops")
    return Plan(
        inputs=inputs,
        choices=choices,
        break_evens=tuple(break_even(*pair, unit) for unit in units for pair in combinations(choices, 2)),
        assumptions=tuple(_assumptions(inputs)),
    )


def _choices(inputs: PlanInputs) -> list[Choice]:
    choices: list[Choice] = []
    student = _served(inputs, inputs.student, inputs.query_answer_tokens)
    if inputs.distillation:
        work = inputs.distillation.stages()
        teacher = inputs.teacher.name if inputs.teacher else "given traces"
        if inputs.teacher_api and inputs.distillation.teacher is None:
            work = (inputs.distillation.bought_traces(), *work)
            teacher = inputs.teacher_api.model
        stages = tuple(_stage_cost(stage, inputs) for stage in work)
        choices.append(
            Choice(
                name="distil",
                what=f"{inputs.student.name} from {teacher}",
                stages=stages,
                per_query=student,
                answer_tokens=inputs.query_answer_tokens,
            )
        )
    if inputs.pretrain_tokens:
        stage = pretraining(
            inputs.student, tokens=inputs.pretrain_tokens, sequence_tokens=inputs.pretrain_sequence_tokens
        )
        choices.append(
            Choice(
                name="pretrain",
                what=f"{inputs.student.name} on {inputs.pretrain_tokens:.3g} tokens",
                stages=(_stage_cost(stage, inputs),),
                per_query=student,
                answer_tokens=inputs.query_answer_tokens,
            )
        )
    if inputs.teacher:
        tokens = inputs.teacher_answer_tokens or inputs.query_answer_tokens
        choices.append(
            Choice(
                name="teacher",
                what=f"{inputs.teacher.name}, served here",
                stages=(),
                per_query=_served(inputs, inputs.teacher, tokens),
                answer_tokens=tokens,
            )
        )
    if inputs.api:
        tokens = inputs.api_answer_tokens or inputs.query_answer_tokens
        usd = inputs.api.answer_usd(input_tokens=inputs.query_prompt_tokens, output_tokens=tokens)
        choices.append(
            Choice(
                name="api",
                what=f"{inputs.api.vendor} {inputs.api.model}",
                stages=(),
                per_query=Cost(flops=None, device_hours=None, usd=usd, joules=None),
                answer_tokens=tokens,
            )
        )
    return choices


def _served(inputs: PlanInputs, model: PlannedModel, answer_tokens: float) -> Cost:
    flops = answer_flops_of(model, prompt_tokens=inputs.query_prompt_tokens, answer_tokens=answer_tokens)
    return inputs.hardware.cost(flops, Work.GENERATE)


def _stage_cost(stage: Stage, inputs: PlanInputs) -> StageCost:
    api = inputs.teacher_api
    if api and stage.name == TEACHER_TRACES:
        usd = api.answer_usd(input_tokens=stage.tokens_read, output_tokens=stage.tokens_written)
        # The API's hours and energy are its own: none of ours, and unknown.
        return StageCost(
            stage=stage, cost=Cost(flops=stage.flops, device_hours=0.0, usd=usd, joules=None), bought=str(api)
        )
    return StageCost(stage=stage, cost=inputs.hardware.cost(stage.flops, stage.work))


def break_even(one: Choice, other: Choice, unit: Unit) -> BreakEven:
    """Queries at which fixed + each · queries are equal, and which of the two is the cheaper beyond."""
    costs = [(getattr(c.fixed, unit), getattr(c.per_query, unit)) for c in (one, other)]
    if any(None in cost for cost in costs):
        return BreakEven(choice=one.name, against=other.name, unit=unit, queries=None, verdict="unknown")
    if costs[0] == costs[1]:
        return BreakEven(choice=one.name, against=other.name, unit=unit, queries=None, verdict="equal")
    # The cheaper in the long run: less a query, or, with equal queries, less before the first.
    (choice, (fixed, each)), (against, (other_fixed, other_each)) = sorted(
        zip((one, other), costs, strict=True), key=lambda pair: (pair[1][1], pair[1][0])
    )
    if fixed <= other_fixed:
        return BreakEven(choice=choice.name, against=against.name, unit=unit, queries=0.0, verdict="always")
    queries = (fixed - other_fixed) / (other_each - each)
    return BreakEven(choice=choice.name, against=against.name, unit=unit, queries=queries, verdict="after")


def _assumptions(inputs: PlanInputs) -> list[str]:
    hardware = inputs.hardware
    lines = [_model_line(model) for model in _models(inputs)]
    if hardware.train:
        lines.append(f"training and scoring at {hardware.train}")
        least, most = PUBLISHED_OVER_PLANNED
        lines.append(
            f"published runs took {least:g} to {most:g} times the hours planned at MFU 40% "
            "(benchmarks/planner.md)"
        )
    if hardware.generate:
        lines.append(
            f"writing answers at {hardware.generate}, on devices that are busy: idle hours not counted"
        )
    if hardware.train is None:
        lines.append(f"the peak of {hardware.device.name} is not known: no hours, money or energy")
    if hardware.usd_per_hour is not None:
        lines.append(f"${hardware.usd_per_hour:,.2f} a device-hour ({hardware.price_basis})")
    elif hardware.usd_per_kilowatt_hour is not None:
        lines.append(
            f"${hardware.usd_per_kilowatt_hour:g} a kWh is all that an hour of one's own device costs"
        )
    else:
        lines.append(f"no price of {hardware.device.name} is known: no money for work done on it")
    if hardware.device.tdp_watts is not None:
        lines.append(
            f"energy estimated: TDP {hardware.device.tdp_watts:g} W x {hardware.power_share:.0%} of the "
            "device-hours; host, network and cooling left out"
        )
    lines += [f"API: {price}" for price in dict.fromkeys(p for p in (inputs.api, inputs.teacher_api) if p)]
    if inputs.distillation:
        lines.append("`distil` leaves out the base's and the teacher's own training (boundary: generation)")
    lines += _weights_lines(inputs)
    lines.append("equal answers are assumed, not shown: compare quality before cost")
    return lines


def _model_line(model: PlannedModel) -> str:
    active = "" if model.active_params == model.params else f", {model.active_params:.4g} active"
    return f"{model.name}: {model.params:.4g} parameters{active}, FLOPs {model.formula} ({model.basis})"


def _weights_lines(inputs: PlanInputs) -> list[str]:
    """Models whose 16-bit weights alone are more than the devices hold."""
    memory = inputs.hardware.device.memory_bytes
    if memory is None:
        return []
    room = memory * inputs.hardware.num_devices
    return [
        f"{model.name} does not fit: its weights take {2 * model.params / 1e9:,.0f} GB in 16 bits, the "
        f"{inputs.hardware.num_devices} device(s) have {room / 1e9:,.0f} GB"
        for model in _models(inputs)
        if 2 * model.params > room
    ]


def _models(inputs: PlanInputs) -> list[PlannedModel]:
    return [model for model in (inputs.student, inputs.teacher) if model]
