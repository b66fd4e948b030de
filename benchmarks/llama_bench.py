"""Is `stillmark profile` within 3% of llama.cpp's own llama-bench, in the very same build? Measured in turns.

    pip download --no-binary xllamacpp --no-deps xllamacpp==VERSION        (the version that is installed)
    python benchmarks/llama_bench.py --source xllamacpp-VERSION.tar.gz --model X.gguf [--threads 1,2] [--rounds 8]

xllamacpp's wheel has no llama-bench, but its source distribution holds the llama.cpp that the wheel was made of,
and the wheel's library exports all that tools/llama-bench/llama-bench.cpp calls. So that one file is compiled
(20 s, GCC) and loaded beside the wheel's own library: llama-bench then runs the wheel's kernels, compiled once,
by its makers. A round is ABBA or BAAB by lot, so that a steady drift of the machine's speed cancels; both programs
start anew each time, with one warm-up run and `--runs` timed ones: prefill 512, and decode 128 at depth 512. Each
round is one pair (each program's two rates as their geometric mean); the interval is of the pairs' ratios.
"""

import argparse
import ctypes
import fcntl
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from stillmark.profiling.machine import cpu_books, foreign_cores, own_cpu_seconds
from stillmark.profiling.quantiles import median_interval
from stillmark.profiling.remote import RemoteEngine
from stillmark.profiling.workload import EngineSpec, Workload

PREFILL, DECODE = 512, 128
# xllamacpp's Linux wheels are built on manylinux2014, where libstdc++ keeps its old ABI
FLAGS = ("-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-shared", "-D_GLIBCXX_USE_CXX11_ABI=0")
INCLUDES = ("include", "ggml/include", "common", "vendor", ".", "src")
ENTRY = "_Z11llama_benchiPPc"  # int llama_bench(int, char **)
ENGINE, READER = 10, 20  # real-time priorities
LOCK = Path("/tmp/bench.lock")  # shared by all timings on this machine


def build(source: Path, folder: Path) -> Path:
    """llama-bench.cpp of an xllamacpp source distribution as a library without a llama.cpp of its own."""
    with tarfile.open(source) as archive:
        members = [m for m in archive.getmembers() if "/thirdparty/llama.cpp/" in m.name]
        archive.extractall(folder, members=members, filter="data")
    root = next(folder.glob("*/thirdparty/llama.cpp"))
    library = folder / "libllama_bench.so"
    includes = [f"-I{root / name}" for name in INCLUDES]
    code = root / "tools" / "llama-bench" / "llama-bench.cpp"
    subprocess.run(["g++", *FLAGS, *includes, str(code), "-o", str(library)], check=True)
    return library


def llama_bench_here(library: str, arguments: list[str]) -> None:
    """Become llama-bench, on the library of the installed wheel. Does not return."""
    found = importlib.util.find_spec("xllamacpp")
    assert found is not None
    assert found.submodule_search_locations is not None
    [wheel] = Path(next(iter(found.submodule_search_locations))).glob("xllamacpp*.so")
    ctypes.CDLL(str(wheel), mode=ctypes.RTLD_GLOBAL)
    words = [b"llama-bench", *[argument.encode() for argument in arguments], None]
    code = getattr(ctypes.CDLL(library), ENTRY)(len(words) - 1, (ctypes.c_char_p * len(words))(*words))
    os._exit(code)


def llama_bench(library: Path, model: str, threads: int, runs: int) -> dict[str, float]:
    """Median tokens a second of each of its two tests."""
    rates = {}
    for name, options in (
        ("prefill", ["-p", str(PREFILL), "-n", "0"]),
        ("decode", ["-p", "0", "-n", str(DECODE), "-d", str(PREFILL)]),
    ):
        command = [sys.executable, __file__, "--become", str(library), "-m", model, "-t", str(threads),
                   "-r", str(runs), "-o", "jsonl", *options]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rates[name] = statistics.median(json.loads(done.stdout.splitlines()[-1])["samples_ts"])
    return rates


def ours(model: str, threads: int, runs: int, *, is_first: bool) -> dict[str, float]:
    """The same from the engine that `stillmark profile` uses: 129 tokens are 128 decode steps.

    At real-time priority llama.cpp's threads, which spin, would keep the thread that reads its stream from
    ever running: that one (the process's first) goes before them.
    """
    spec = EngineSpec(engine="llamacpp", model=model, threads=threads, context_tokens=1024)
    engine, workload = RemoteEngine(spec), Workload(prompt_tokens=PREFILL, new_tokens=DECODE + 1)
    try:
        if is_first:
            os.sched_setscheduler(engine._process.pid, os.SCHED_FIFO, os.sched_param(READER))
        lines = [engine.run(workload, variant).timelines[0] for variant in range(-1, runs)][1:]
    finally:
        engine.close()
    return {
        "prefill": statistics.median(PREFILL / line.token_seconds[0] for line in lines),
        "decode": statistics.median(
            DECODE / (line.token_seconds[-1] - line.token_seconds[0]) for line in lines
        ),
        "engine prefill": statistics.median(PREFILL / (line.engine_prefill_seconds or 0) for line in lines),
        "engine decode": statistics.median(DECODE / (line.engine_decode_seconds or 0) for line in lines),
    }


def mean_rates(rates: list[dict[str, float]]) -> dict[str, float]:
    return {test: statistics.geometric_mean(rate[test] for rate in rates) for test in rates[0]}


@contextmanager
def quiet(*, is_first: bool) -> Iterator[dict[str, Any]]:
    """Hold the machine's lock, and with `is_first` run before all else on it; say how many cores others used.

    A niceness counts only among the processes of one session (the kernel's autogroups), so beside other
    people's work it does nothing: real-time priority does. Both programs are its children and inherit it.
    """
    seen: dict[str, Any] = {}
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        books, own = cpu_books(), own_cpu_seconds()
        if is_first:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(ENGINE))
        try:
            yield seen
        finally:
            if is_first:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        seen["foreign_cores"] = foreign_cores(books, cpu_books(), own_cpu_seconds() - own)


def compared(
    library: Path, model: str, threads: int, rounds: int, runs: int, *, is_first: bool
) -> dict[str, Any]:
    """`rounds` rounds, and the median of ours over llama-bench's with its 95% interval."""
    pairs: list[dict[str, Any]] = []
    order = random.Random(threads)
    for number in range(rounds):
        programs = [
            ("llama-bench", lambda: llama_bench(library, model, threads, runs)),
            ("stillmark", lambda: ours(model, threads, runs, is_first=is_first)),
        ]
        order.shuffle(programs)
        with quiet(is_first=is_first) as seen:
            rates = [(name, program()) for name, program in (*programs, *programs[::-1])]
        pairs.append({name: mean_rates([r for n, r in rates if n == name]) for name, _ in programs} | seen)
        print(threads, number, json.dumps(pairs[-1]), file=sys.stderr, flush=True)
    found: dict[str, Any] = {"threads": threads, "pairs": pairs}
    for test in ("prefill", "decode"):
        interval = median_interval([pair["stillmark"][test] / pair["llama-bench"][test] for pair in pairs])
        assert interval is not None
        found[test] = {
            name: statistics.median(pair[name][test] for pair in pairs)
            for name in ("llama-bench", "stillmark")
        } | {"ratio": [interval.value, interval.low, interval.high]}
    return found


def main() -> None:
    if sys.argv[1:2] == ["--become"]:
        llama_bench_here(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="xllamacpp's source distribution")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--first", action="store_true", help="real-time priority (root): others wait")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = build(given.source, Path(folder))
        results = [
            compared(library, given.model, int(threads), given.rounds, given.runs, is_first=given.first)
            for threads in given.threads.split(",")
        ]
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
