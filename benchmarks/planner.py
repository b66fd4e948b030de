"""The planner's device-hours beside the hours that makers published. No fit: one MFU for all, chosen before.

    python -m benchmarks.planner            # the tables of planner.md
    python -m benchmarks.planner --json

Each run: FLOPs by the planner, hours at MFU 0.40 of the dense BF16 peak (0.10 for writing answers),
published hours, error, and the MFU that the published hours imply. Published inputs come from the registry,
each with its source there; what nobody published is assumed, and the row says what and on which basis."""

import argparse
import json
import math
from dataclasses import asdict, dataclass

from stillmark.compute.carbon import carbon_kilograms, grid_intensity
from stillmark.compute.convert import Utilisation, hours_from_flops, implied_mfu
from stillmark.compute.fit import TrainingSetup, fit
from stillmark.compute.flops import Recompute
from stillmark.compute.hardware import device
from stillmark.compute.memory import PRECISIONS, Sharding
from stillmark.compute.planned_model import planned_model
from stillmark.compute.shapes import shape_from_config
from stillmark.compute.workloads import Distillation, PlannedModel, Stage, Work, pretraining
from stillmark.published.registry import load_registry

TRAIN_MFU = 0.40  # Llama 3 405B reports 38 to 43% (arXiv:2407.21783, Table 4)
GENERATE_MFU = (
    0.10  # DeepSeek's service decodes 14.8k tokens/s on 8 H800: 14% of the BF16 peak at 37e9 active
)
DEVICES = {"H100-hours": "h100-sxm", "H800-hours": "h800", "A100-hours": "a100-sxm-80gb"}

# Llama 3 herd, arXiv:2407.21783, Table 3; vocabulary of the released configs.
LLAMA_31 = {
    "llama-3.1-8b": (4096, 14336, 32, 32),
    "llama-3.1-70b": (8192, 28672, 80, 64),
    "llama-3.1-405b": (16384, 53248, 126, 128),
}
R1_TOKENS = 5355.3  # mean of DeepSeek-R1's own distillation data (published), taken for other traces of R1
R1_BASIS = "tokens a sample: R1's published mean of 5,355"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published run beside its prediction."""

    run: str
    device: str
    flops: float
    predicted_hours: float
    published_hours: float
    implied_mfu: float | None
    assumed: str

    @property
    def error(self) -> float:
        """Of the prediction, as a share of the published hours."""
        return self.predicted_hours / self.published_hours - 1


def row(run: str, stages: list[Stage], *, hours: str, assumed: str) -> Row:
    """Stages of one kind of work against the registry's figure `hours` of the model `run`."""
    figure = load_registry().model(run).figure(hours)
    assert figure is not None, f"{run} has no {hours}"
    assert figure.value is not None, f"{run}: {hours} is not a number"
    known = device(DEVICES[figure.unit])
    peak = known.peak_flops_per_second("bf16")
    assert peak is not None
    mfu = GENERATE_MFU if stages[0].work is Work.GENERATE else TRAIN_MFU
    flops = sum(stage.flops or math.nan for stage in stages)
    used = Utilisation(mfu=mfu, peak_flops_per_second=peak, basis="assumed")
    return Row(
        run=run,
        device=known.name,
        flops=flops,
        predicted_hours=hours_from_flops(flops, used),
        published_hours=figure.value,
        implied_mfu=implied_mfu(flops=flops, device_hours=figure.value, peak_flops_per_second=peak),
        assumed=assumed,
    )


def figure(model: str, name: str) -> float:
    """A published number; loud where there is none."""
    found = load_registry().model(model).figure(name)
    assert found is not None, f"{model} has no {name}"
    assert found.value is not None, f"{model}: {name} is not one number"
    return found.value


def llama_31(name: str) -> PlannedModel:
    hidden, ffn, layers, heads = LLAMA_31[name]
    config = {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "tie_word_embeddings": False,
    }
    shape = shape_from_config(config)
    return PlannedModel(
        name=name, params=shape.params, active_params=shape.params, basis="Table 3", shape=shape
    )


def pretraining_rows() -> list[Row]:
    rows = []
    for name in LLAMA_31:
        tokens = figure(name, "pretraining_tokens")
        stage = pretraining(llama_31(name), tokens=tokens, sequence_tokens=8192)
        rows.append(row(name, [stage], hours="gpu_hours", assumed="sequences of 8,192 throughout"))
    for name in ("llama-3.2-1b", "llama-3.2-3b"):
        stage = pretraining(
            planned_model(name), tokens=figure(name, "pretraining_tokens"), sequence_tokens=8192
        )
        rows.append(
            row(name, [stage], hours="gpu_hours", assumed="6ND; 'up to 9T' tokens; teacher's logits apart")
        )
    stage = pretraining(
        planned_model("deepseek-v3"), tokens=figure("deepseek-v3", "pretraining_tokens"), sequence_tokens=4096
    )
    rows.append(
        row("deepseek-v3", [stage], hours="gpu_hours_pretraining", assumed="6ND; ran in FP8, peak of BF16")
    )
    return rows


def sft(run: str, *, samples: float, tokens: float, epochs: float, student: str | None = None) -> list[Stage]:
    """The student's training alone: these hours are published without the teacher's."""
    plan = Distillation(
        student=planned_model(student or run),
        teacher=None,
        samples=samples,
        prompt_tokens=0,
        answer_tokens=tokens,
        epochs=epochs,
    )
    return list(plan.stages())


def distillation_rows() -> list[Row]:
    hours = "gpu_hours_distillation"
    seen = {
        name: figure(name, "distillation_tokens_seen") for name in ("phi-4-reasoning", "phi-4-mini-reasoning")
    }
    rows = [
        row(
            name,
            sft(name, samples=1, tokens=tokens, epochs=1),
            hours=hours,
            assumed="nothing: tokens published",
        )
        for name, tokens in seen.items()
    ]
    for name in ("openthinker-7b", "openthinker-32b"):
        samples = figure(name, "distillation_samples")
        stages = sft(name, samples=samples, tokens=R1_TOKENS, epochs=3)
        rows.append(row(name, stages, hours=hours, assumed=f"{R1_BASIS}; 3 epochs (the 32B's card)"))
    samples = figure("bespoke-stratos-32b", "distillation_samples")
    stages = sft("bespoke-stratos-32b", samples=samples, tokens=R1_TOKENS, epochs=3)
    rows.append(row("bespoke-stratos-32b", stages, hours=hours, assumed=f"{R1_BASIS}; 3 epochs"))
    name = "sky-t1-32b-preview"
    stages = sft(
        name,
        samples=figure(name, "distillation_samples"),
        tokens=R1_TOKENS,
        epochs=figure(name, "distillation_epochs"),
    )
    rows.append(
        row(name, stages, hours=hours, assumed=f"{R1_BASIS}, though QwQ wrote these; ran with offload")
    )
    stages = sft(
        "s1-32b",
        samples=figure("s1-32b", "distillation_samples"),
        tokens=3600,
        epochs=figure("s1-32b", "distillation_epochs"),
    )
    rows.append(
        row(
            "s1-32b",
            stages,
            hours=hours,
            assumed="3.6K tokens a sample: the 59K pool's thinking; s1K's are longer",
        )
    )
    return rows


def generation_rows() -> list[Row]:
    """The teacher's side, where it was published."""
    plan = Distillation(
        student=planned_model("deepseek-r1-distill-llama-8b"),
        teacher=planned_model("deepseek-r1"),
        samples=figure("deepseek-r1-distill-llama-8b", "distillation_samples"),
        prompt_tokens=0,
        answer_tokens=R1_TOKENS,
    )
    kept = [plan.stages()[0]]
    assumed = "kept traces only: how many were rejected is not published"
    return [row("deepseek-r1", kept, hours="gpu_hours_sft_data_creation", assumed=assumed)]


def table(rows: list[Row]) -> str:
    lines = [
        "| run | device | FLOPs | predicted h | published h | error | implied MFU | assumed |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for r in rows:
        mfu = "unknown" if r.implied_mfu is None else f"{r.implied_mfu:.1%}"
        hours = f"{r.predicted_hours:,.0f}" if r.predicted_hours >= 1000 else f"{r.predicted_hours:.3g}"
        lines.append(
            f"| {r.run} | {r.device} | {r.flops:.3g} | {hours} | {r.published_hours:,.0f} "
            f"| {r.error:+.0%} | {mfu} | {r.assumed} |"
        )
    return "\n".join(lines)


def carbon_table() -> str:
    """Published hours at the TDP and the US mean, beside the model cards' tonnes (Meta's own grids)."""
    grid = grid_intensity("USA")
    lines = [
        f"| run | published h x 700 W | t CO2e at the US mean ({grid.year}) | published t CO2e | error |",
        "|---|---:|---:|---:|---:|",
    ]
    watts = device("h100-sxm").tdp_watts
    assert watts is not None
    for name in LLAMA_31:
        joules = figure(name, "gpu_hours") * 3600 * watts
        tonnes = (carbon_kilograms(joules, "USA") or math.nan) / 1000
        published = figure(name, "co2_location_based")
        lines.append(
            f"| {name} | {joules / 3.6e9:,.0f} MWh | {tonnes:,.0f} | {published:,.0f} "
            f"| {tonnes / published - 1:+.0%} |"
        )
    return "\n".join(lines)


def memory_line() -> str:
    """Sky-T1's setting: Qwen2.5-32B on 8 H100, ZeRO-3, one sequence of up to 16,384 tokens."""
    shape = shape_from_config(
        {
            "model_type": "qwen2",
            "hidden_size": 5120,
            "intermediate_size": 27648,
            "num_hidden_layers": 64,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "vocab_size": 152_064,
            "tie_word_embeddings": False,
        }
    )
    model = PlannedModel(
        name="qwen2.5-32b", params=shape.params, active_params=shape.params, basis="", shape=shape
    )
    setup = TrainingSetup(
        precision=PRECISIONS["mixed"],
        sequence_tokens=16_384,
        sharding=Sharding.FULL,
        num_devices=8,
        recompute=Recompute.LAYERS,
    )
    found = fit(model, setup, device("h100-sxm"))
    total, memory = found.memory.total_bytes, found.memory
    assert total is not None
    return (
        f"Qwen2.5-32B on 8 H100 fully sharded, 16,384 tokens, layers recomputed: states "
        f"{memory.states_bytes / 1e9:.0f} GB, all {total / 1e9:.0f} GB of 80: fits = {found.fits}; "
        f"{found.smallest_num_devices} devices would do."
    )


def spread(rows: list[Row]) -> str:
    factors = sorted(r.published_hours / r.predicted_hours for r in rows)
    mean = math.exp(sum(map(math.log, factors)) / len(factors))
    if len(factors) == 1:
        return f"Published over predicted: {mean:.2g} times."
    return (
        f"Published over predicted: {factors[0]:.2g} to {factors[-1]:.2g} times, geometric mean {mean:.2g} "
        f"({len(factors)} runs)."
    )


def groups_of_rows() -> dict[str, list[Row]]:
    """Every run, by what was published of it."""
    return {
        "Pretraining": pretraining_rows(),
        "Distillation: the student's training": distillation_rows(),
        "Distillation: the teacher's traces": generation_rows(),
    }


def report() -> str:
    """The tables of planner.md."""
    parts = []
    for group, rows in groups_of_rows().items():
        parts += [f"### {group}", table(rows), spread(rows)]
    parts += ["### Energy and carbon of published hours", carbon_table(), "### Memory", memory_line()]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="rows as JSON")
    arguments = parser.parse_args()
    if arguments.json:
        rows = [(group, r) for group, rows in groups_of_rows().items() for r in rows]
        print(json.dumps([{"group": group, "error": r.error, **asdict(r)} for group, r in rows], indent=2))
    else:
        print(report())


if __name__ == "__main__":
    main()
