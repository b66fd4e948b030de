"""What a plan predicts of a benchmark against what the engine counts as it asks it, for prompts that share and not."""

import json
from pathlib import Path

import pytest
from tests.backends.tiny import char_tokenizer, tiny_model

from stillmark.backends.tokens import TextCodec, num_distinct_positions
from stillmark.backends.transformers import TransformersBackend
from stillmark.benchmark_plan import benchmark_size
from stillmark.evaluate.model import transformers_model
from stillmark.evaluate.prompt_lengths import Lengths, lengths_of, preview
from stillmark.evaluate.run_benchmark import make_job, run_job
from stillmark.evaluate.study_benchmarks import found_benchmark, rows_of, settings_of
from stillmark.records import Store
from stillmark.study.benchmarks import Benchmarks

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own
NUM_ITEMS = 80


@pytest.fixture
def task(tmp_path: Path) -> str:
    """Sums of three choices; as examples, the first of the others."""
    rows = [
        {"q": f"{a * 37 % 101} + {a}", "options": [f"{a * 38}", "12", "none"], "right": 2}
        for a in range(NUM_ITEMS)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "task.yaml").write_text(
        "name: plus\nfile: rows.jsonl\nquestion: '{q}'\nchoices: options\nanswer: '{right}'\nanswer_is: index\n"
    )
    return str(tmp_path / "task.yaml")


@pytest.mark.parametrize("mode", ["loglikelihood", "generation"])
@pytest.mark.parametrize("num_fewshot", [0, 3])
def test_a_prediction_is_what_the_engine_counts(tmp_path: Path, task: str, mode: str, num_fewshot: int):
    backend = TransformersBackend(tiny_model("llama"), char_tokenizer())
    model = transformers_model(backend, label="tiny", weights="w")
    name = f"{task}@{mode}"
    asked = Benchmarks(tasks=[name], num_fewshot=num_fewshot, shots="fixed", max_new_tokens=1)
    found = found_benchmark(asked, name, backend.tokenizer)
    store = Store.create(tmp_path / "records.sqlite")
    job = make_job(model, rows_of(name, None)[0], found.mode, settings_of(asked))
    for _ in run_job(store, job):
        pass
    counted = sum(entry.flops or 0 for entry in store.ledger(job.key))
    predicted, _ = benchmark_size(found, model.shape, is_packed=True)
    assert predicted == pytest.approx(counted, rel=0.08)
    alone, _ = benchmark_size(found, model.shape, is_packed=False)
    assert alone > (2.5 if num_fewshot else 1) * predicted
    earlier = found.model_copy(update={"read_tokens": None})  # as a run of an earlier version has it
    assert benchmark_size(earlier, model.shape, is_packed=True)[0] == alone


def test_a_beginning_that_is_shared_counts_once():
    sequences = [(1, 2, 3), (1, 2, 4), (1, 2), (5,), (1, 2, 3)]
    beginnings = {ids[:end] for ids in sequences for end in range(1, len(ids) + 1)}
    assert num_distinct_positions(sequences) == len(beginnings) == 5
    assert num_distinct_positions([]) == 0


def test_lengths_are_means_of_questions_however_many_choices_each_has():
    chunks = [[("aaaaaaaaa", [" b", " c"]), ("d", [" x", " y", " xx"])], [("aaaa", [" b"])]]
    read = [9 + 1, 1 + 2, 4 + 1]  # a space is the first token of all choices, and the last token is not read
    scored = [2, 3, 2]
    lengths = lengths_of(TextCodec(char_tokenizer()), chunks)
    assert lengths == Lengths(
        prompt_tokens=round((9 + 1 + 4) / 3),
        read_tokens=round(sum(read) / 3),
        scored_tokens=round(sum(scored) / 3),
    )


def test_a_preview_has_the_first_and_the_last_chunk_and_no_more_than_four():
    chunks = [[index] for index in range(11)]
    assert preview(chunks) == [[0], [3], [7], [10]]
    assert preview(chunks[:3]) == chunks[:3]
