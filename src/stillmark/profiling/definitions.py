"""What each figure of a profile means: name, unit, formula, source. One definition each.

docs/reference/metrics.md is written from here (`metrics_page`), and a test holds the two together.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One metric: how it is worked out, and after whom."""

    name: str
    label: str
    unit: str
    formula: str
    source: str


DEFINITIONS = (
    Definition(
        name="load_seconds",
        label="load",
        unit="s",
        formula=(
            "from the call that loads the weights until it returns; imports are not in it, the "
            "first run's warm-up neither"
        ),
        source="ours; cold disk caches are not forced",
    ),
    Definition(
        name="ttft_seconds",
        label="TTFT",
        unit="s",
        formula="request scheduled -> first generated token of any kind, reasoning included",
        source="MLPerf LoadGen (the clock starts when the query was scheduled); GuideLLM #737",
    ),
    Definition(
        name="ttfa_seconds",
        label="TTFA",
        unit="s",
        formula="request scheduled -> first token that is not reasoning; none where the answer has none",
        source="GuideLLM time_to_first_output_token; AIPerf #391",
    ),
    Definition(
        name="tpot_seconds",
        label="TPOT",
        unit="s",
        formula="(t_last - t_first) / (n - 1), n >= 2: the first token is excluded",
        source="MLPerf LoadGen logging.cc; AIPerf inter-token latency; GuideLLM ITL",
    ),
    Definition(
        name="tpot_p50_seconds",
        label="TPOT p50",
        unit="s",
        formula="median of the gaps between successive tokens of all repetitions",
        source="GuideLLM, AIPerf",
    ),
    Definition(
        name="tpot_p90_seconds",
        label="TPOT p90",
        unit="s",
        formula=(
            "order statistic that bounds the 90th percentile of those gaps with 99% confidence (44 "
            "gaps or more)"
        ),
        source="MLPerf early stopping (inference rules, appendix); Hahn and Meeker 1991",
    ),
    Definition(
        name="tpot_p99_seconds",
        label="TPOT p99",
        unit="s",
        formula="the same for the 99th percentile (459 gaps or more)",
        source="as TPOT p90",
    ),
    Definition(
        name="prefill_tokens_per_second",
        label="prefill tok/s",
        unit="tokens/s",
        formula="batch · prompt tokens / time until every request has its first token",
        source="AIPerf; llama-bench pp",
    ),
    Definition(
        name="decode_tokens_per_second",
        label="decode tok/s",
        unit="tokens/s",
        formula="sum over the batch of (n - 1) / (last token - first token of the batch)",
        source="optimum-benchmark",
    ),
    Definition(
        name="output_tokens_per_second",
        label="output tok/s",
        unit="tokens/s",
        formula="all generated tokens / wall time, prefill and ramps included",
        source="AIPerf; MLPerf offline",
    ),
    Definition(
        name="end_to_end_seconds",
        label="end to end",
        unit="s",
        formula=(
            "request scheduled -> the caller has the whole answer; over real prompts to the natural"
            " stop where prompts were given"
        ),
        source="LoadGen; the lengths are the model's own, ours",
    ),
    Definition(
        name="peak_memory_bytes",
        label="peak memory",
        unit="bytes",
        formula=(
            "highest resident set (VmHWM) of the engine's own process over load and runs, "
            "interpreter and libraries in it"
        ),
        source="optimum-benchmark (max RSS)",
    ),
    Definition(
        name="model_memory_bytes",
        label="of it the model's",
        unit="bytes",
        formula=(
            "peak_memory_bytes - resident set before the model was loaded: weights, KV cache, work space"
        ),
        source="ours",
    ),
    Definition(
        name="cache_bytes",
        label="KV cache",
        unit="bytes",
        formula="batch · context · K·(C + U) summed over layers · bytes a value (counted, not measured)",
        source="stillmark.compute.model_shape",
    ),
    Definition(
        name="file_bytes",
        label="on disk",
        unit="bytes",
        formula="size of the weight files",
        source="llama-bench model_size",
    ),
    Definition(
        name="joules_per_token",
        label="J/token",
        unit="J",
        formula=(
            "energy over the repetitions (gross, idle included) / generated tokens; its prompts' "
            "energy is in it"
        ),
        source="ML.ENERGY; MLPerf Power charges idle",
    ),
    Definition(
        name="joules_per_answer",
        label="J/answer",
        unit="J",
        formula="the same energy / answers: across tokenizers, compare this one",
        source="ML.ENERGY (verbosity counts)",
    ),
    Definition(
        name="net_joules_per_token",
        label="net J/token",
        unit="J",
        formula="(energy - idle power · seconds) / generated tokens; none where the tier is an estimate",
        source="MLPerf #2587 static and active",
    ),
    Definition(
        name="prefill_flops_per_token",
        label="FLOPs/prompt token",
        unit="FLOPs",
        formula=("counted by formula (compute/flops.py), attention in full, the head on the last position"),
        source="PaLM appendix B",
    ),
    Definition(
        name="decode_flops_per_token",
        label="FLOPs/token",
        unit="FLOPs",
        formula="counted by formula, mean over the growing context",
        source="PaLM appendix B",
    ),
    Definition(
        name="prefill_mfu",
        label="prefill MFU",
        unit="1",
        formula=(
            "counted prefill FLOPs / TTFT / this machine's measured float32 FLOP/s at as many "
            "threads; integer and 16-bit kernels may pass 1"
        ),
        source="PaLM section 4.1, with a measured ceiling",
    ),
    Definition(
        name="decode_mbu",
        label="decode MBU",
        unit="1",
        formula=(
            "(weight bytes of a step + KV bytes read) / step time / this machine's measured read "
            "bandwidth; weights that caches hold may pass 1"
        ),
        source="Databricks, LLM inference performance engineering (2023), with a measured ceiling",
    ),
    Definition(
        name="prefill_bound_tokens_per_second",
        label="prefill bound",
        unit="tokens/s",
        formula="prompt tokens / max(FLOPs / FLOP/s ceiling, weight bytes / bandwidth ceiling)",
        source="roofline (Williams et al. 2009)",
    ),
    Definition(
        name="decode_bound_tokens_per_second",
        label="decode bound",
        unit="tokens/s",
        formula="batch / max(FLOPs of a step / FLOP/s ceiling, bytes of a step / bandwidth ceiling)",
        source="roofline (Williams et al. 2009)",
    ),
)
METRICS = {definition.name: definition for definition in DEFINITIONS}


def metrics_page() -> str:
    """docs/reference/metrics.md, whole."""
    lines = [
        "# What the profiling metrics mean",
        "",
        "Written from `stillmark.profiling.definitions`; a test holds the two together. n is the number of generated",
        "tokens, reasoning and the end token included. A value is the median over repetitions with an",
        "order-statistic interval, widened by how far the machine's pace moved from earlier sessions to this one",
        "(profiling/pace.py); bounds of percentiles are of the session alone. Outliers are kept. Unknown is shown as",
        "unknown.",
        "",
        "| metric | unit | definition | source |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{m.name}` | {m.unit} | {m.formula} | {m.source} |" for m in DEFINITIONS]
    return "\n".join(lines) + "\n"
