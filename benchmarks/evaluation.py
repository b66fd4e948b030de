"""Our engine beside lm-evaluation-harness: the same requests, one machine, one run.

Three fixed request sets (multiple choice by text, by letter, and generation; what they hold is told in
evaluation.md) are answered by lm-evaluation-harness 0.4.13, batch 1, as its own command would, and by our engine.
What is compared: CPU seconds of answering (`time.process_time` of the process: both threads, no waiting, so a
busy machine distorts it little), peak resident memory of the whole process, each log-likelihood, each text.

  python benchmarks/evaluation.py run --model HF_DIR --peer-python VENV/bin/python --out results.json
  python benchmarks/evaluation.py table results.json

Each engine runs in a process of its own, set by set; ours twice, before and after the peer. `--peer-python` is
the interpreter of an environment with `lm-eval==0.4.13`; without it only ours runs, and is compared with stored
answers.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(os.environ.get("STILLMARK_SHARED", ROOT.parent / "shared")) / "peers" / "lmeval"
SETS = ("mc_text", "mc_letter", "gsm8k_local")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answer_ours(set_name: str, model_dir: str, threads: int, out: Path) -> None:
    """Answer one set with our engine, in this process; write what it took."""
    process_start = time.perf_counter()
    sys.path.insert(0, str(ROOT / "src"))
    from stillmark.startup import start_process

    start_process()  # as the command line does
    import torch

    torch.set_num_threads(threads)
    from stillmark.backends.protocol import Sampling
    from stillmark.backends.transformers import load_backend

    requests = read_lines(PEERS / "requests" / f"{set_name}.jsonl")
    backend = load_backend(model_dir)
    start_seconds = time.perf_counter() - process_start
    wall, cpu = time.perf_counter(), time.process_time()
    if set_name.startswith("mc"):
        pairs = [(row["context"], row["continuation"]) for row in requests]
        answers: list[Any] = [(r.loglikelihood, r.is_greedy) for r in backend.loglikelihood(pairs)]
    else:
        settings = requests[0]["gen_kwargs"]
        sampling = Sampling(max_new_tokens=settings["max_gen_toks"], stop=tuple(settings["until"]))
        answers = [rows[0].text for rows in backend.generate([r["context"] for r in requests], sampling)]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "start_seconds": start_seconds,
        "process_cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "engine_path": backend.path_reason or "packed",
        "answers": answers,
    }
    out.write_text(json.dumps(result))


def lm_eval_answers(samples: list[dict[str, Any]]) -> list[Any]:
    """lm-eval's logged answers, in the order of the request files."""
    by_item = {sample["doc_id"]: sample for sample in samples}  # once for each of a task's filters: the same
    answers: list[Any] = []
    for item in sorted(by_item):
        for [answer] in by_item[item]["resps"]:
            answers.append(
                answer if isinstance(answer, str) else (float(answer[0]), str(answer[1]) == "True")
            )
    return answers


def answer_lm_eval(set_name: str, model_dir: str, threads: int, python: str, folder: Path) -> dict[str, Any]:
    """Answer one set with lm-evaluation-harness at batch 1, in a process of its own."""
    command = [python, str(PEERS / "run_lmeval.py"), set_name, "--model", model_dir, "--out", str(folder)]
    command += ["--threads", str(threads), "--batch", "1", "--tag", "peer"]
    subprocess.run(command, check=True, env=environment(threads), stdout=subprocess.DEVNULL)
    record = json.loads((folder / "peer.json").read_text())
    [timing] = record["timing"].values()
    return {
        "cpu_seconds": timing["cpu_s"],
        "wall_seconds": timing["wall_s"],
        "start_seconds": record["t_to_model_s"],
        "process_cpu_seconds": record["total_cpu_s"],
        "peak_memory_bytes": record["peak_rss_mib"] * 2**20,
        "answers": lm_eval_answers(read_lines(folder / "peer.samples.jsonl")),
    }


def answered_by_ours(set_name: str, model_dir: str, threads: int, folder: Path) -> dict[str, Any]:
    """Answer one set with our engine, in a process of its own."""
    command = [sys.executable, __file__, "ours", set_name, model_dir, str(threads), str(folder / "ours.json")]
    subprocess.run(command, check=True, env=environment(threads))
    answered: dict[str, Any] = json.loads((folder / "ours.json").read_text())
    return answered


def environment(threads: int) -> dict[str, str]:
    # Passive waiting: on a shared machine, threads that spin while they wait are counted as work
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def difference(ours: list[Any], theirs: list[Any]) -> dict[str, Any]:
    """How far the answers to one set are apart."""
    pairs = list(zip(ours, theirs, strict=True))
    if isinstance(ours[0], str):
        return {"texts_equal": sum(a == b for a, b in pairs), "num_answers": len(pairs)}
    return {
        "largest_difference_nats": max(abs(a[0] - b[0]) for a, b in pairs),
        "greedy_flags_equal": sum(a[1] == b[1] for a, b in pairs),
        "num_answers": len(pairs),
    }


def run(arguments: argparse.Namespace) -> None:
    results: list[dict[str, Any]] = []
    for threads in arguments.threads:
        for set_name in arguments.sets:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                row: dict[str, Any] = {"set": set_name, "threads": threads, "load_before": os.getloadavg()[0]}
                row["ours"] = answered_by_ours(set_name, arguments.model, threads, folder)
                if arguments.peer_python:
                    row["peer"] = answer_lm_eval(
                        set_name, arguments.model, threads, arguments.peer_python, folder
                    )
                    # Before and after the peer: a shared machine's speed moves within the minutes that it takes
                    row["ours_after"] = answered_by_ours(set_name, arguments.model, threads, folder)
            stored = read_lines(
                PEERS / "reference" / f"{set_name.removesuffix('_local')}.bs1.t1.samples.jsonl"
            )
            row["against_stored"] = difference(row["ours"]["answers"], lm_eval_answers(stored))
            if "peer" in row:
                row["against_peer"] = difference(row["ours"]["answers"], row["peer"]["answers"])
                row["is_repeatable"] = row["ours_after"].pop("answers") == row["ours"]["answers"]
                del row["peer"]["answers"]
            del row["ours"]["answers"]
            row["load_after"] = os.getloadavg()[0]
            results.append(row)
            print(table_row(row), file=sys.stderr, flush=True)
            output = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "results": results}
            Path(arguments.out).write_text(json.dumps(output, indent=1))


def machine() -> dict[str, Any]:
    import torch
    import transformers

    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def table_row(row: dict[str, Any]) -> str:
    peer = row.get("peer")
    turns = [row[turn] for turn in ("ours", "ours_after") if turn in row]
    seconds = [turn["cpu_seconds"] for turn in turns]
    memory = f"{max(turn['peak_memory_bytes'] for turn in turns) / 2**30:.2f}"
    cells = [row["set"], str(row["threads"]), f"{peer['cpu_seconds']:.1f}" if peer else "-"]
    cells += [", ".join(f"{value:.1f}" for value in seconds)]
    if peer:
        cells += [f"**{peer['cpu_seconds'] * len(seconds) / sum(seconds):.1f}x**"]
        cells += [f"{peer['peak_memory_bytes'] / 2**30:.2f} / {memory}"]
    else:
        cells += ["-", f"- / {memory}"]
    gap = row.get("against_peer") or row["against_stored"]
    if "texts_equal" in gap:
        cells.append(f"{gap['texts_equal']} of {gap['num_answers']} texts identical")
    else:
        equal = f"{gap['greedy_flags_equal']} of {gap['num_answers']} flags equal"
        cells.append(f"within {gap['largest_difference_nats']:.1e} nats, {equal}")
    if not row.get("is_repeatable", True):
        cells[-1] += "; **ours differed between its two runs**"
    cells.append(", ".join(f"{turn['start_seconds']:.1f}" for turn in turns))
    return "| " + " | ".join(cells) + " |"


def table(arguments: argparse.Namespace) -> None:
    stored = json.loads(Path(arguments.results).read_text())
    print(
        "| set | threads | lm-eval CPU s | ours CPU s | ratio | peak memory GiB, lm-eval / ours | answers | start s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in stored["results"]:
        print(table_row(row))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("--model", required=True)
    running.add_argument("--peer-python")
    running.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    running.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    running.add_argument("--out", default="evaluation.json")
    running.set_defaults(function=run)
    ours = commands.add_parser("ours")
    ours.add_argument("set")
    ours.add_argument("model")
    ours.add_argument("threads", type=int)
    ours.add_argument("out", type=Path)
    ours.set_defaults(function=lambda a: answer_ours(a.set, a.model, a.threads, a.out))
    printing = commands.add_parser("table")
    printing.add_argument("results")
    printing.set_defaults(function=table)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
