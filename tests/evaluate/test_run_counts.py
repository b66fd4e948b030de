"""The ledger of evaluation and traces holds what was run, by torch's counter; an answer's detail what it takes alone."""

import json
from pathlib import Path

import pytest
from tests.backends.tiny import char_tokenizer, tiny_model, without_fused_kernels
from tests.distill.small_training import TASK, TEACHER, TOKENIZER, WORDS
from tests.evaluate.fakes import FakeBackend
from torch.utils.flop_counter import FlopCounterMode

from stillmark.backends.protocol import Sampling
from stillmark.backends.transformers import TransformersBackend
from stillmark.compute.flops import generate_flops
from stillmark.compute.shapes import shape_from_config
from stillmark.evaluate.cache import CachedBackend
from stillmark.evaluate.evaluate import ask
from stillmark.evaluate.model import LoadedModel, transformers_model
from stillmark.evaluate.run_benchmark import EvalSettings, make_job, run_job
from stillmark.models.build import build_model
from stillmark.records import LedgerEntry, Store
from stillmark.report.run_checks import RunRow, least_flops
from stillmark.sizes import model_config
from stillmark.tasks.benchmark import BenchmarkData
from stillmark.tasks.registry import find_benchmark

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


@pytest.fixture(autouse=True)
def seen_by_torch(monkeypatch: pytest.MonkeyPatch):
    without_fused_kernels(monkeypatch)


CONFIG = {**model_config(TEACHER, len(WORDS)), "attn_implementation": "eager"}
SHAPE = shape_from_config(CONFIG)
ITEMS = list({item.prompt: item for item in (TASK.training_sample(0, index) for index in range(40))}.values())


def traces(backend, temperature: float, num_samples: int):
    sampling = Sampling(max_new_tokens=20, temperature=temperature, num_samples=num_samples)
    (chunk,) = ask("k", "generate", backend, SHAPE, "t", TASK, ITEMS, sampling, device="cpu")
    return chunk


@pytest.mark.parametrize(("temperature", "num_samples"), [(0.0, 1), (0.0, 4), (1.0, 1), (1.0, 8)])
def test_the_ledger_of_traces_holds_what_was_run(temperature: float, num_samples: int):
    backend = TransformersBackend(build_model(CONFIG, 1).eval(), TOKENIZER)
    with FlopCounterMode(display=False) as counter:
        chunk = traces(backend, temperature, num_samples)
    entry, samples = chunk.entry, chunk.samples
    assert len(samples) == len(ITEMS) * num_samples
    assert entry.flops == counter.get_total_flops()
    ran = [sample for sample in samples if temperature or sample.repeat == 0]
    assert entry.tokens == sum(sample.prompt_tokens + sample.generated_tokens for sample in ran)
    assert entry.positions < entry.tokens  # no last token is read, and no prompt twice
    # The floor that `stillmark verify` holds it to lies close below, above what half as many tokens would take
    rows = [
        RunRow(prompt=s.item_id, prompt_tokens=s.prompt_tokens, new_tokens=s.generated_tokens) for s in ran
    ]
    assert 0.5 * entry.flops < least_flops(SHAPE, entry.positions, rows) <= entry.flops


def test_an_engine_that_does_not_tell_has_its_answers_by_themselves():
    chunk = traces(FakeBackend(lambda prompt: "red"), 1.0, 2)
    assert chunk.entry.positions is None
    assert chunk.entry.flops == sum(
        generate_flops(SHAPE, prompt_tokens=s.prompt_tokens, new_tokens=s.generated_tokens)
        for s in chunk.samples
    )


@pytest.fixture
def sums(tmp_path: Path) -> str:
    """Twelve sums after two worked ones, which each prompt shares."""
    rows = [{"q": f"{a} + 1", "options": [str(a), str(a + 1), "none"], "right": 1} for a in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "task.yaml").write_text(
        "name: plus\nfile: rows.jsonl\nquestion: '{q}'\nchoices: options\nanswer: '{right}'\nanswer_is: index\n"
    )
    return str(tmp_path / "task.yaml")


def tiny(path: Path | None = None) -> LoadedModel:
    model = tiny_model("llama")
    model.set_attn_implementation("eager")
    backend = TransformersBackend(model, char_tokenizer())
    loaded = transformers_model(backend, label="tiny", weights="w")
    if path is None:
        return loaded
    cached = CachedBackend(backend, loaded.identity, path)
    return LoadedModel(label="tiny", backend=cached, identity=loaded.identity, shape=loaded.shape)


def evaluated(store: Store, model: LoadedModel, task: str, **settings) -> list[LedgerEntry]:
    benchmark, mode = find_benchmark(task)
    data = BenchmarkData(benchmark, None)
    job = make_job(
        model, data, mode, EvalSettings(num_fewshot=2, shot_order="first", max_new_tokens=10, **settings)
    )
    for _ in run_job(store, job):
        pass
    return store.ledger(job.key)


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("loglikelihood", {}), ("generation", {"num_samples": 3}), ("generation", {"num_samples": 3, "temperature": 1.0})],
)  # fmt: skip
def test_the_ledger_of_a_benchmark_holds_what_was_run(tmp_path: Path, sums: str, mode: str, settings: dict):
    store, model = Store.create(tmp_path / "records.sqlite"), tiny()
    with FlopCounterMode(display=False) as counter:
        entries = evaluated(store, model, f"{sums}@{mode}", **settings)
    ran = sum(entry.flops for entry in entries)
    assert ran == counter.get_total_flops()
    key = entries[0].job_key
    samples = {(sample.item_id, sample.repeat): sample for sample in store.samples(key)}
    details = store.details(key)
    alone = sum(detail.flops for detail in details.values())
    assert alone > 1.1 * ran  # each answer by itself, its prompt read anew
    assert sum(entry.positions for entry in entries) < sum(entry.tokens for entry in entries)
    rows = {
        details[place].prompt_sha256: RunRow(
            prompt=details[place].prompt_sha256, prompt_tokens=sample.prompt_tokens,
            new_tokens=1 if mode == "loglikelihood" else sample.generated_tokens,
        )
        for place, sample in samples.items()
    }  # fmt: skip
    least = least_flops(model.shape, sum(entry.positions for entry in entries), list(rows.values()))
    assert 0.2 * ran < least <= ran  # the floor of `stillmark verify`


def test_what_the_response_cache_had_was_not_run(tmp_path: Path, sums: str):
    first = evaluated(Store.create(tmp_path / "a.sqlite"), tiny(tmp_path / "cache"), f"{sums}@generation")
    again = evaluated(Store.create(tmp_path / "b.sqlite"), tiny(tmp_path / "cache"), f"{sums}@generation")
    assert sum(entry.flops for entry in first) > 0
    assert [(entry.flops, entry.tokens, entry.positions) for entry in again] == [(0, 0, 0)] * len(first)
