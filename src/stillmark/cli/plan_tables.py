"""A plan as tables to read."""

from rich.console import Console
from rich.table import Table

from stillmark.compute.fit import Fit
from stillmark.compute.plan_costs import Cost
from stillmark.compute.planner import BreakEven, Choice, Plan

UNKNOWN = "unknown"
KILOWATT_HOUR = 3.6e6


def print_plan(plan: Plan, fit: Fit, queries: float | None) -> None:
    """Costs, when each pays, memory, and what all of it rests on."""
    console = Console(highlight=False)
    console.print(_costs(plan, queries))
    for even in plan.break_evens:
        if even.verdict != "unknown":
            console.print(_sentence(even))
    unknown = [even for even in plan.break_evens if even.verdict == "unknown"]
    if unknown:
        pairs = ", ".join(f"{even.choice}/{even.against} in {_unit(even)}" for even in unknown)
        console.print(f"not known when it pays: {pairs}", style="dim")
    for choice in plan.choices:
        hours = plan.inputs.hardware.wall_hours(choice.fixed.device_hours)
        if hours:
            number = plan.inputs.hardware.num_devices
            console.print(
                f"{choice.name} takes {amount(hours)} hours on {number} device(s) before the first query."
            )
    console.print()
    console.print(_memory_title(fit), soft_wrap=True)
    console.print(_memory(fit))
    console.print(_verdict(fit))
    console.print()
    console.print("Assumed:", style="bold")
    for line in plan.assumptions:
        console.print(f"- {line}", soft_wrap=True)


def _costs(plan: Plan, queries: float | None) -> Table:
    table = Table(title="What it would cost", title_justify="left")
    for heading in ("", "FLOPs", "device-hours", "US dollars", "kWh (est.)", "kg CO2e (est.)"):
        table.add_column(heading, justify="left" if not heading else "right")
    for choice in plan.choices:
        table.add_row(f"[bold]{choice.name}[/bold]: {choice.what}", *[""] * 5)
        for stage in choice.stages:
            table.add_row(f"  {stage.stage.name}", *_numbers(stage.cost, plan))
        if len(choice.stages) > 1:
            table.add_row("  before the first query", *_numbers(choice.fixed, plan))
        table.add_row(_query_label(choice), *_numbers(choice.per_query, plan))
        if queries is not None:
            table.add_row(f"  all, with {queries:,.0f} queries", *_numbers(choice.total(queries), plan))
        table.add_section()
    return table


def _query_label(choice: Choice) -> str:
    return f"  a query ({choice.answer_tokens:,.0f} answer tokens)"


def _numbers(cost: Cost, plan: Plan) -> list[str]:
    kilowatt_hours = None if cost.joules is None else cost.joules / KILOWATT_HOUR
    carbon = plan.carbon_kilograms(cost.joules)
    no_region = "no region" if plan.inputs.region is None else UNKNOWN
    return [
        UNKNOWN if cost.flops is None else f"{cost.flops:.3g}",
        amount(cost.device_hours),
        amount(cost.usd),
        amount(kilowatt_hours),
        no_region if carbon is None else amount(carbon),
    ]


def amount(value: float | None) -> str:
    """Three digits that matter, thousands apart; unknown in words."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _unit(even: BreakEven) -> str:
    return "money" if even.unit == "usd" else "FLOPs"


def _sentence(even: BreakEven) -> str:
    if even.verdict == "equal":
        return f"In {_unit(even)}, {even.choice} and {even.against} cost the same."
    if even.verdict == "always":
        return f"In {_unit(even)}, {even.choice} costs less than {even.against} from the first query."
    return (
        f"In {_unit(even)}, {even.choice} costs less than {even.against} after {even.queries:,.0f} queries."
    )


def _memory(fit: Fit) -> Table:
    memory = fit.memory
    table = Table()
    table.add_column("part")
    table.add_column("GB", justify="right")
    rows = (
        ("weights", memory.weights_bytes),
        ("gradients", memory.gradients_bytes),
        ("optimizer", memory.optimizer_bytes),
        ("gathered layers", memory.gathered_bytes),
        ("activations", memory.activations_bytes),
        ("logits", memory.logits_bytes),
        ("teacher's weights", memory.teacher_bytes),
        ("all (a lower bound)", memory.total_bytes),
        ("the device has", fit.capacity_bytes),
    )
    for name, value in rows:
        table.add_row(name, UNKNOWN if value is None else f"{value / 1e9:,.2f}")
    return table


def _memory_title(fit: Fit) -> str:
    setup = fit.setup
    return (
        f"Memory of training, on one of {setup.num_devices} device(s): {setup.precision.name} precision, "
        f"sharding {setup.sharding}, recompute {setup.recompute}, {setup.sequences} x "
        f"{setup.sequence_tokens:,} tokens"
    )


def _verdict(fit: Fit) -> str:
    if fit.fits is None:
        return "fits: unknown (a config.json gives the activations; the device's memory must be known)"
    if fit.fits:
        return "fits, by this lower bound"
    if fit.smallest_num_devices:
        return f"does not fit; fully sharded, {fit.smallest_num_devices} devices would do by this lower bound"
    return "does not fit"
