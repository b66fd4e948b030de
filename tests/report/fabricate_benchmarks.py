"""The made-up text study asked a benchmark at every checkpoint: who is right on how many items is said here."""

from pathlib import Path

from tests.report.fabricate_text import STUDY, Scores, text_store

from stillmark.compute.flops import generate_flops
from stillmark.plan import Job, Plan
from stillmark.records import ItemRecord, LedgerEntry, Method, Outcome, SampleDetail, SampleRecord, Store
from stillmark.study import Study
from stillmark.study.benchmarks import FoundBenchmark

NUM_ITEMS, PROMPT_TOKENS, NEW_TOKENS, USD = 40, 50, 10, 0.002
FOUND = FoundBenchmark(
    task="gsm8k", task_version=1, task_settings={}, scorer="NumberScorer", mode="generation", likelihood_rule=None,
    origin={"files": {"test.jsonl": "0" * 64}}, num_items=NUM_ITEMS, chance=None, prompt_tokens=PROMPT_TOKENS,
    new_tokens=NEW_TOKENS,
)  # fmt: skip
TEXT = (
    STUDY
    + """
benchmarks:
  tasks: [gsm8k]
  checkpoints: all
  others: {proprietary: {model: large-1, engine: openai, price_model: large-1}}
"""
)


def num_right(arm: str, checkpoint: int | None) -> int:
    """Of the 40 items, the first so many: the student learns twice as fast as its control."""
    if arm == "proprietary":
        return 38
    if arm == "teacher":
        return 36
    return (9 if arm == "distilled" else 4) * ((checkpoint or 0) + 1)


def asked_store(folder: Path, scores: Scores) -> Store:
    """The text study's records, with the replies."""
    return text_store(folder, scores, TEXT, found=with_found, more={"benchmark": benchmark})


def with_found(study: Study) -> Study:
    """The study with what a run would have found its benchmark to be."""
    assert study.benchmarks is not None
    return study.model_copy(
        update={"benchmarks": study.benchmarks.model_copy(update={"resolved": {"gsm8k": FOUND}})}
    )


def benchmark(job: Job, plan: Plan, store: Store, scores: Scores) -> None:
    is_arm = job.arm in plan.study.arms
    flops = None
    if is_arm:
        flops = generate_flops(plan.shape(job.arm), prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS)
    items = [ItemRecord(item_id=f"item-{k:02}", task="gsm8k", level=0, prompt=f"{k} + 0?", target=str(k))
             for k in range(NUM_ITEMS)]  # fmt: skip
    store.add_items(items)
    store.add_prompts({"3" * 64: "Question"})
    for place, item in enumerate(items):
        is_right = place < num_right(job.arm, job.checkpoint)
        response = f"#### {place if is_right else place + 1000}"
        store.add(
            SampleRecord(job_key=job.key, item_id=item.item_id, repeat=0, position=3 * place + 1, response=response,
                         outcome=Outcome.CORRECT if is_right else Outcome.WRONG, stop_reason="stop",
                         prompt_tokens=PROMPT_TOKENS, generated_tokens=NEW_TOKENS, seconds=0.5),
            SampleDetail(job_key=job.key, item_id=item.item_id, repeat=0, prompt_sha256="3" * 64, extracted=None,
                         extractor=None, grades="{}", nats=None, cuts=None, thinking_tokens=0, prefill_seconds=0.1,
                         decode_seconds=0.4, flops=flops, price_usd=None if is_arm else USD, is_cached=False, error=None),
        )  # fmt: skip
    store.add(
        LedgerEntry(job_key=job.key, part="evaluate", index=0, flops=None if flops is None else NUM_ITEMS * flops,
                    flops_method=Method.COUNTED, tokens=NUM_ITEMS * (PROMPT_TOKENS + NEW_TOKENS), positions=None,
                    seconds=20.0, cpu_seconds=20.0, device="none")
    )  # fmt: skip
