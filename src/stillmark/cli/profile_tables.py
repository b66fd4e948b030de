"""A profile as tables to read: one column a setting, so that it fits a terminal of 80 characters."""

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from stillmark.profiling.pace import PaceRange
from stillmark.profiling.quantiles import median_interval, upper_bound
from stillmark.profiling.roofline import Ceilings
from stillmark.profiling.session import Session
from stillmark.profiling.summary import Figure, SettingSummary
from stillmark.profiling.workload import Timeline

UNKNOWN = "unknown"
STYLES = {"VALID": "green", "INVALID": "bold red", "does not fit": "yellow", "failed": "bold red"}
SETTINGS_PER_TABLE = 3
BUSY_CORES = 0.1

# (row, metric, scale); a second metric is the bound that stands beside the first
ROWS: tuple[tuple[str, str, float], ...] = (
    ("time to first token, ms", "ttft_seconds", 1e3),
    ("time per output token, ms", "tpot_seconds", 1e3),
    ("  p50 of the gaps", "tpot_p50_seconds", 1e3),
    ("  p90, upper bound", "tpot_p90_seconds", 1e3),
    ("  p99, upper bound", "tpot_p99_seconds", 1e3),
    ("prefill, tokens/s", "prefill_tokens_per_second", 1),
    ("  roofline bound", "prefill_bound_tokens_per_second", 1),
    ("  MFU, % of measured FLOP/s", "prefill_mfu", 100),
    ("decode, tokens/s", "decode_tokens_per_second", 1),
    ("  roofline bound", "decode_bound_tokens_per_second", 1),
    ("  MBU, % of measured bandwidth", "decode_mbu", 100),
    ("output, tokens/s", "output_tokens_per_second", 1),
    ("end to end, s", "end_to_end_seconds", 1),
    ("load, s", "load_seconds", 1),
    ("model on disk, MB", "file_bytes", 1e-6),
    ("peak memory of the process, MB", "peak_memory_bytes", 1e-6),
    ("  the model's part, MB", "model_memory_bytes", 1e-6),
    ("  KV cache, MB (counted)", "cache_bytes", 1e-6),
    ("GFLOPs a token (counted)", "decode_flops_per_token", 1e-9),
    ("energy a token, J", "joules_per_token", 1),
    ("energy an answer, J", "joules_per_answer", 1),
    ("net energy a token, J", "net_joules_per_token", 1),
)


def print_profile(session: Session, summaries: list[SettingSummary], ceilings: dict[str, Ceilings]) -> None:
    """The figures, the verdicts, and the state of the machine."""
    console = Console(highlight=False)
    for label, facts in session.facts.items():
        weights = f", {facts.weight_format}" if facts.weight_format else ""
        version = facts.engine_version or "version unknown"
        console.print(f"[bold]{label}[/bold]: {facts.name}{weights}, {version}", soft_wrap=True)
    for start in range(0, len(summaries), SETTINGS_PER_TABLE):
        console.print(figures_table(summaries[start : start + SETTINGS_PER_TABLE]))
    if session.answers:
        console.print(answers_table(session.answers, "answers at their own length"))
    if session.at_lengths:
        console.print(answers_table(session.at_lengths, "answers at the lengths that an evaluation recorded"))
    for summary in summaries:
        style = STYLES.get(summary.status, "red")
        for reason in summary.reasons:
            where = f"{summary.arm}, {summary.workload}"
            console.print(f"[{style}]{summary.status}[/] {where}: {reason}", soft_wrap=True)
    for line in notes(session, summaries, ceilings):
        console.print(f"- {line}", style="dim", soft_wrap=True)


def figures_table(summaries: list[SettingSummary]) -> Table:
    """Medians with their 95% intervals."""
    table = Table(title="median (95% interval)", title_justify="left")
    table.add_column("tokens in + out")
    for summary in summaries:
        table.add_column(f"{summary.arm}\n{summary.workload}", justify="right")
    table.add_row("verdict", *[f"[{STYLES.get(s.status, 'red')}]{s.status}[/]" for s in summaries])
    table.add_row("repetitions", *map(runs, summaries))
    table.add_section()
    for label, name, scale in ROWS:
        cells = [with_interval(summary.figures.get(name), scale) for summary in summaries]
        if name != "net_joules_per_token" or set(cells) != {UNKNOWN}:
            table.add_row(label, *[cell + tier(name, s) for cell, s in zip(cells, summaries, strict=True)])
    return table


def tier(name: str, summary: SettingSummary) -> str:
    """The tier of evidence beside an energy."""
    is_energy = "joules" in name and name in summary.figures
    return f" (tier {summary.energy.tier})" if is_energy else ""


def answers_table(answers: dict[str, list[Timeline]], title: str) -> Table:
    """Whole answers of many lengths; a request that failed is counted and has no time."""
    table = Table(title=f"{title}: median (95% interval of this session alone)", title_justify="left")
    for heading in ("arm", "answers", "tokens", "seconds", "p90 s", "TTFT ms"):
        table.add_column(heading, justify="left" if heading == "arm" else "right")
    for label, lines in answers.items():
        done = [line for line in lines if line.error is None and line.token_seconds]
        seconds = [line.end_seconds for line in done]
        bound = upper_bound(seconds, 0.90)
        failed = f", {len(lines) - len(done)} failed" if len(done) < len(lines) else ""
        table.add_row(
            label,
            f"{len(done)}{failed}",
            interval_text([float(line.new_tokens) for line in done], 1.0),
            interval_text(seconds, 1.0),
            UNKNOWN if bound is None else f"≤ {number(bound)}",
            interval_text([line.token_seconds[0] for line in done], 1e3),
        )
    return table


def interval_text(values: list[float], scale: float) -> str:
    interval = median_interval(values)
    if interval is None:
        return UNKNOWN
    low, high = number(interval.low * scale), number(interval.high * scale)
    return f"{number(interval.value * scale)} ({low} to {high})"


def notes(session: Session, summaries: list[SettingSummary], ceilings: dict[str, Ceilings]) -> Iterator[str]:
    """What the figures rest on."""
    for c in {ceiling.threads: ceiling for ceiling in ceilings.values()}.values():
        if c.flops_per_second and c.bytes_per_second:
            flops, rate = c.flops_per_second / 1e9, c.bytes_per_second / 1e9
            yield f"ceilings measured here, {c.threads} threads: {flops:.0f} GFLOP/s float32, {rate:.1f} GB/s"
            if c.foreign_cores is not None and c.foreign_cores > BUSY_CORES:
                yield f"others used {c.foreign_cores:.2f} cores meanwhile: ceilings too low, MFU and MBU too high"
    for moment, noise in (("before", session.before), ("after", session.after)):
        state = noise.state
        parts = (
            f"others use {known(noise.foreign_cores, '.2f')} cores",
            f"load {known(state.load_average, '.1f')}",
            f"clock {known(state.clock_hertz, '.2f', lambda hertz: hertz / 1e9)} GHz",
            f"temperature {known(state.temperature_celsius, '.0f')} °C",
        )
        yield f"{moment}: {', '.join(parts)}"
    yield from dict.fromkeys(pace_note(summary.pace) for summary in summaries)
    during = ", ".join(known(summary.foreign_cores, ".2f") for summary in summaries)
    yield f"during the runs others used {during} cores"
    for summary in summaries:
        if summary.engine_ratio:
            ratios = ", ".join(f"{name} {value:.4f}" for name, value in summary.engine_ratio.items())
            yield f"our time over the engine's own, {summary.arm}, {summary.workload}: {ratios}"
    for kind in dict.fromkeys(setting.arm.constraints.memory_cap_kind for setting in session.settings):
        if kind is not None:
            yield f"memory capped by {kind}"
    if summaries:
        energy = summaries[0].energy
        idle = f"idle {known(session.idle_watts, '.1f')} W"
        reason = "; ".join(energy.notes) if energy.joules is None else energy.source
        yield f"energy gross, {idle} (tier B: counter, C: estimate): {reason}"


def pace_note(pace: PaceRange | None) -> str:
    """What the intervals of the medians say of other sessions."""
    if pace is None:
        return "the pace in other sessions is unknown: intervals are of these repetitions alone"
    threads = "1 thread" if pace.threads == 1 else f"{pace.threads} threads"
    work = f"a fixed piece of work at {threads} took {number(1e3 * pace.seconds)} ms"
    if not pace.earlier_seconds:
        return f"{work}; no earlier session on this machine is known: intervals are of this one alone"
    number_of = len(pace.earlier_seconds)
    sessions = "1 earlier session" if number_of == 1 else f"{number_of} earlier sessions"
    return f"{work}, in this and {sessions} {pace.least:.2f} to {pace.most:.2f} times that: medians' intervals cover it"


def known(value: float | None, spec: str, scaled: Callable[[float], float] = lambda value: value) -> str:
    return UNKNOWN if value is None else format(scaled(value), spec)


def runs(summary: SettingSummary) -> str:
    marked = max((figure.num_outliers for figure in summary.figures.values()), default=0)
    return f"{summary.num_repetitions}" + (f" ({marked} outliers, kept)" if marked else "")


def with_interval(figure: Figure | None, scale: float = 1.0) -> str:
    if figure is None:
        return UNKNOWN
    if figure.low is None or figure.high is None:
        return number(figure.value * scale)
    return f"{number(figure.value * scale)} ({number(figure.low * scale)} to {number(figure.high * scale)})"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
