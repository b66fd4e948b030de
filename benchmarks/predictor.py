"""How far off is `compute/predictor.py`? Predicted beside measured over sizes, formats and contexts, here.

    flock /tmp/bench.lock python benchmarks/predictor.py --model X.gguf [--threads 2] [--out predictor.json]

Models with random weights are made from X's header (its width, fewer layers) in Q4_0 and Q8_0, as speed does
not depend on the values. Slowdowns are fitted on the half of the settings with the smaller models (the other
half is held out), per format. The machine must be quiet: each setting's verdict stands beside it.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from stillmark.compute.predictor import Limits, Observation, Slowdown, fitted, predict
from stillmark.profiling.procedure import profile
from stillmark.profiling.quantise import quantise
from stillmark.profiling.roofline import measured_ceilings
from stillmark.profiling.session import Arm, Rules
from stillmark.profiling.summary import summarise
from stillmark.profiling.workload import EngineSpec, Workload

SIZES = ((8, 384), (16, 576), (30, 576), (16, 1024))  # (layers, width)
FORMATS = ("Q4_0", "Q8_0")
CONTEXTS = (128, 1024)


def make_models(tokenizer_of: Path, folder: Path) -> list[tuple[str, Path]]:
    """Random Llamas with the tokenizer of a GGUF file, in each format."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of.parent, gguf_file=tokenizer_of.name)
    made = []
    for layers, width in SIZES:
        source = folder / f"{layers}x{width}"
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width * 8 // 3 // 32 * 32,
            num_hidden_layers=layers, num_attention_heads=width // 64, num_key_value_heads=width // 64 // 3 or 1
            if width % 192 == 0 else 4, max_position_embeddings=4096, tie_word_embeddings=True,
        )  # fmt: skip
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(source)
        tokenizer.save_pretrained(source)
        for format in FORMATS:
            path = folder / f"{source.name}.{format}.gguf"
            quantise(source, path, format)
            made.append((format, path))
    return made


def observe(format: str, path: Path, threads: int, budget_seconds: float) -> list[dict[str, Any]]:
    """One row a context: what was measured, and the facts to predict it from."""
    workloads = [Workload(prompt_tokens=context, new_tokens=48) for context in CONTEXTS]
    spec = EngineSpec(engine="llamacpp", model=str(path), threads=threads, context_tokens=2048)
    session = profile([Arm(spec=spec)], workloads, Rules(budget_seconds=budget_seconds, noise_seconds=0.3))
    rows = []
    for workload, summary in zip(workloads, summarise(session, {}), strict=True):
        seen = Observation(
            facts=session.facts[summary.arm],
            workload=workload,
            ttft_seconds=summary.figures["ttft_seconds"].value,
            tpot_seconds=summary.figures["tpot_seconds"].value,
        )
        rows.append({"model": path.name, "format": format, "status": summary.status, "seen": seen})
        print(path.name, workload.label, summary.status, summary.reasons, file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=25, help="seconds for a model at one context")
    parser.add_argument("--out", type=Path, default=Path("predictor.json"))
    given = parser.parse_args()
    limits = measured_ceilings(given.threads).limits
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for format, path in make_models(given.model, Path(folder))
            for row in observe(format, path, given.threads, given.budget)
        ]
    result: dict[str, Any] = {"limits": asdict(limits), "rows": []}
    for format in FORMATS:
        mine = [row for row in rows if row["format"] == format]
        known, held_out = mine[: len(mine) // 2], mine[len(mine) // 2 :]
        slowdown = fitted([row["seen"] for row in known], limits, "fitted here")
        result[f"slowdown {format}"] = asdict(slowdown) if slowdown else None
        for row in mine:
            result["rows"].append(compared(row, limits, slowdown, is_held_out=row in held_out))
    for name in ("ttft_error", "decode_error"):
        errors = [abs(row[name]) for row in result["rows"] if row["held_out"] and row[name] is not None]
        result[f"median absolute {name}, held out"] = statistics.median(errors) if errors else None
    given.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


def compared(
    row: dict[str, Any], limits: Limits, slowdown: Slowdown | None, *, is_held_out: bool
) -> dict[str, Any]:
    """Predicted over measured - 1, and the roofline beside it."""
    seen: Observation = row["seen"]
    guess, roof = (
        predict(seen.facts, seen.workload, limits, slowdown),
        predict(seen.facts, seen.workload, limits),
    )
    rate = 1 / seen.tpot_seconds
    return {
        "model": row["model"],
        "workload": seen.workload.label,
        "status": row["status"],
        "held_out": is_held_out,
        "ttft_seconds": seen.ttft_seconds,
        "decode_tokens_per_second": rate,
        "ttft_error": guess.ttft_seconds / seen.ttft_seconds - 1 if guess.ttft_seconds else None,
        "decode_error": guess.decode_tokens_per_second / rate - 1 if guess.decode_tokens_per_second else None,
        "decode_share_of_roofline": rate / roof.decode_tokens_per_second
        if roof.decode_tokens_per_second
        else None,
        "ttft_over_roofline": seen.ttft_seconds / roof.ttft_seconds if roof.ttft_seconds else None,
    }


if __name__ == "__main__":
    main()
