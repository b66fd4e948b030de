"""Is `stillmark profile` right? Beside llama-bench, a hand-timed loop, a slowed server, a cap and a busy loop.

    flock /tmp/bench.lock python benchmarks/profiling.py --model X.gguf [--llama-bench PATH] [--out profiling.json]

Each section prints what was expected beside what was found. The machine must be quiet: the harness says itself
where it was not (INVALID), and this file prints that too. benchmarks/profiling.md holds the last run.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path[:0] = [str(Path(__file__).parents[1] / part) for part in ("src", ".")]

from tests.profiling.scripted import slow_server  # noqa: E402

from stillmark.profiling.constraints import Constraints  # noqa: E402
from stillmark.profiling.engines import load_engine, prepare  # noqa: E402
from stillmark.profiling.metrics import values_of  # noqa: E402
from stillmark.profiling.procedure import profile  # noqa: E402
from stillmark.profiling.quantiles import median_interval  # noqa: E402
from stillmark.profiling.remote import RemoteEngine  # noqa: E402
from stillmark.profiling.session import Arm, Rules, Session  # noqa: E402
from stillmark.profiling.summary import SettingSummary, summarise  # noqa: E402
from stillmark.profiling.workload import EngineSpec, Workload  # noqa: E402

WORKLOAD = Workload(prompt_tokens=512, new_tokens=128)
SHORT = Workload(prompt_tokens=64, new_tokens=48)


def spec_of(model: str, threads: int) -> EngineSpec:
    return EngineSpec(engine="llamacpp", model=model, threads=threads, context_tokens=1024)


def measured(arms: list[Arm], workload: Workload, rules: Rules) -> tuple[Session, list[SettingSummary]]:
    session = profile(arms, [workload], rules, progress=lambda message: print(" ", message, file=sys.stderr))
    return session, summarise(session, {})


def described(summary: SettingSummary) -> dict[str, Any]:
    """What the tables need of one setting."""
    keep = ("ttft_seconds", "tpot_seconds", "prefill_tokens_per_second", "decode_tokens_per_second")
    return {
        "status": summary.status,
        "reasons": summary.reasons,
        "repetitions": summary.num_repetitions,
        "foreign_cores": summary.foreign_cores,
        "engine_ratio": summary.engine_ratio,
        "figures": {
            name: [summary.figures[name].value, summary.figures[name].low, summary.figures[name].high]
            for name in keep
            if name in summary.figures
        },
    }


def against_llama_bench(model: str, threads: int, binary: Path | None) -> dict[str, Any]:
    """Prefill 512 and decode 128 at depth 512, llama-bench before and after ours, so that drift is seen."""
    before = run_llama_bench(model, threads, binary)
    began = time.perf_counter()
    _, [summary] = measured([Arm(spec=spec_of(model, threads))], WORKLOAD, Rules())
    seconds = time.perf_counter() - began
    return {
        "llama_bench": [before, run_llama_bench(model, threads, binary)],
        "stillmark": described(summary),
        "stillmark_seconds": seconds,
    }


def run_llama_bench(model: str, threads: int, binary: Path | None) -> dict[str, Any] | None:
    if binary is None:
        return None
    found = {}
    for name, options in (
        ("prefill", ["-p", "512", "-n", "0"]),
        ("decode", ["-p", "0", "-n", "128", "-d", "512"]),
    ):
        command = [str(binary), "-m", model, "-t", str(threads), "-r", "6", "-o", "json", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        [row] = json.loads(done.stdout)
        found[name] = {"tokens_per_second": statistics.median(row["samples_ts"]), "samples": row["samples_ts"],
                       "build": row["build_number"]}  # fmt: skip
    return found


def against_a_hand_timed_loop(model: str, threads: int, rounds: int = 12) -> dict[str, Any]:
    """The same requests to xllamacpp in this process, two clock readings and nothing else, in turns with ours."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel = model, 1024, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.warmup, parameters.verbosity, parameters.cache_ram_mib = False, -1, 0
    server = xllamacpp.Server(parameters)
    ours = RemoteEngine(spec_of(model, threads))
    hand, harness = [], []
    for variant in range(rounds + 2):
        [prompt] = SHORT.prompts(ours.facts.vocab_size or 1, variant)
        request = {"prompt": prompt, "n_predict": SHORT.new_tokens, "ignore_eos": True, "temperature": 0.0,
                   "cache_prompt": False}  # fmt: skip
        began = time.perf_counter()
        server.handle_completions(request)
        by_hand = time.perf_counter() - began
        by_harness = ours.run(SHORT, variant).wall_seconds
        if variant >= 2:
            hand.append(by_hand)
            harness.append(by_harness)
    ours.close()
    ratios = [b / a for a, b in zip(hand, harness, strict=True)]
    return {"hand_seconds": hand, "stillmark_seconds": harness, "ratio": interval(ratios)}


def known_times() -> dict[str, Any]:
    """An engine that computes until exactly 5 ms a token: does that come back?"""
    engine = RemoteEngine(EngineSpec(engine="fake", model="prefill=0.05,token=0.005,spin=1"))
    batches = [engine.run(Workload(prompt_tokens=16, new_tokens=101), i) for i in range(7)]
    engine.close()
    tpots = values_of(batches)["tpot_seconds"]
    return {"asked_seconds": 0.005, "tpot": interval(tpots), "share": [v / 0.005 - 1 for v in tpots]}


def clock_cost() -> dict[str, Any]:
    """What the harness does for each token (read the clock, keep it) in nanoseconds."""
    kept: list[float] = []
    began = time.perf_counter()
    for _ in range(200_000):
        kept.append(time.perf_counter() - began)
    return {"nanoseconds_a_token": 1e9 * (time.perf_counter() - began) / 200_000}


def slowed_server() -> dict[str, Any]:
    """The same server with and without 50 ms before its first token, in turns."""
    found: dict[str, list[float]] = {"0": [], "50": []}
    with slow_server(0.0, 0.002) as (fast, _), slow_server(0.05, 0.002) as (slow, _):
        engines = {name: load_engine(EngineSpec(engine="endpoint", model=url), None)
                   for name, url in (("0", fast), ("50", slow))}  # fmt: skip
        for variant in range(30):
            for name, engine in engines.items():
                found[name] += values_of([engine.run(SHORT, variant)])["ttft_seconds"]
    difference = [slow - fast for fast, slow in zip(found["0"], found["50"], strict=True)]
    return {"expected_seconds": 0.05, "difference": interval(difference)}


def sessions(model: str, threads: int, number: int) -> dict[str, Any]:
    """The same study again and again, half a minute apart: do the intervals of any two that are VALID overlap, as
    stated and as they would be of one session alone? The first knows of no earlier one."""
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, STILLMARK_CACHE=folder):
        for index in range(number):
            time.sleep(30 if index else 0)
            _, [summary] = measured([Arm(spec=spec_of(model, threads))], SHORT, Rules(budget_seconds=15))
            alone = {name: interval(summary.samples[name]) for name in described(summary)["figures"]}
            pace = summary.pace.seconds if summary.pace else None
            runs.append(described(summary) | {"alone": alone, "pace_seconds": pace})
    valid = [run for run in runs if run["status"] == "VALID"]
    pairs = list(itertools.combinations(valid, 2))
    return {
        "runs": runs,
        "num_valid": len(valid),
        "num_pairs": len(pairs),
        "pairs_that_agree": {
            kind: {name: sum(overlap(one[kind][name], other[kind][name]) for one, other in pairs)
                   for name in valid[0]["figures"]}
            for kind in ("figures", "alone")
        } if valid else {},
    }  # fmt: skip


def overlap(one: list[float], other: list[float]) -> bool:
    return one[1] <= other[2] and other[1] <= one[2]


def cap_and_neighbour(model: str, threads: int) -> dict[str, Any]:
    """A cap below the model's size, and a busy loop beside the run."""
    cap = os.path.getsize(model) // 2
    rules = Rules(budget_seconds=6)
    capped = Arm(spec=spec_of(model, threads), constraints=Constraints(memory_bytes=cap), name="capped")
    free = Arm(spec=spec_of(model, threads), name="free")
    _, summaries = measured([capped, free], SHORT, rules)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        _, [beside] = measured([free], SHORT, rules)
    finally:
        busy.kill()
        busy.wait()
    return {
        "cap_bytes": cap,
        "capped": [summaries[0].status, summaries[0].reasons],
        "free": described(summaries[1]),
        "beside_a_busy_loop": described(beside),
    }


def interval(values: list[float]) -> list[float]:
    found = median_interval(values)
    assert found is not None
    return [found.value, found.low, found.high]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--sessions", type=int, default=8, help="of one study, in turns")
    parser.add_argument("--out", type=Path, default=Path("profiling.json"))
    parser.add_argument("--only")
    given = parser.parse_args()
    prepare(spec_of(given.model, given.threads))
    sections = {
        "llama_bench": lambda: against_llama_bench(given.model, given.threads, given.llama_bench),
        "hand_timed": lambda: against_a_hand_timed_loop(given.model, given.threads),
        "known_times": known_times,
        "clock": clock_cost,
        "slowed_server": slowed_server,
        "sessions": lambda: sessions(given.model, given.threads, given.sessions),
        "cap_and_neighbour": lambda: cap_and_neighbour(given.model, given.threads),
    }
    found: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name, section in sections.items():
        if given.only is None or name in given.only.split(","):
            print(name, file=sys.stderr)
            found[name] = section()
            print(json.dumps({name: found[name]}, indent=1))
            given.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
