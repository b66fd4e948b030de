"""Tasks from a hub on loopback, in a process and with a HF_HOME of their own: which revision is asked for, that no
code of a data set runs, and what is said when the hub cannot be reached or does not allow it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backends.tiny import char_tokenizer, tiny_model
from tests.tasks.fake_hub import FakeHub
from tests.tasks.test_livecodebench import ECHO
from tests.tasks.test_livecodebench import row as contest_row

from stillmark.records import Store
from stillmark.tasks.registry import find_benchmark

pytest.importorskip("datasets")
ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"
A, B = "a" * 40, "b" * 40


def hub_of(name: str):
    return find_benchmark(name)[0].source.hub


def parquet(path: Path) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def python(arguments: list[str], home: Path, endpoint: str, **more: str) -> subprocess.CompletedProcess[str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {
        **keep, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}",
        "NO_PROXY": "127.0.0.1", "COLUMNS": "200", **more,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=home.parent,
    )


def evaluate(
    tmp_path: Path, model: Path, endpoint: str, tasks: str, **more: str
) -> subprocess.CompletedProcess[str]:
    arguments = ["--model", str(model), "--tasks", tasks, "--out", str(tmp_path / "out"), "--json"]
    arguments += ["--max-new-tokens", "4", "--limit", "3", "--num-fewshot", "0"]
    return python(
        ["-c", "from stillmark.cli import main; main()", "eval", *arguments],
        tmp_path / "home",
        endpoint,
        **more,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "model"
    tiny_model("llama").save_pretrained(path)
    char_tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """MATH-500 as JSON lines, HellaSwag as parquet, LiveCodeBench as its files beside a script that must not run."""
    mark = f"open({str(tmp_path / 'code-was-run')!r}, 'w').close()\n".encode()
    contests = json.dumps(contest_row("2023-06-01", public=ECHO)).encode() + b"\n"
    math, swag, contest = hub_of("math_500"), hub_of("hellaswag"), hub_of("livecodebench:v1")
    card = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: validation\n    path: data/validation-*\n---\n"
    hub = FakeHub(
        {
            math.repository: {math.revision: {"README.md": b"# MATH", "test.jsonl": (DATA / "math_500.jsonl").read_bytes(), "load.py": mark}},
            swag.repository: {swag.revision: {"README.md": card, "data/validation-00000-of-00001.parquet": parquet(DATA / "hellaswag.jsonl")}},
            contest.repository: {contest.revision: {"README.md": b"", "test.jsonl": contests, "code_generation_lite.py": mark}},
            "some/rows": {A: {"README.md": b"", "test.jsonl": b'{"q": "of a"}\n'}, B: {"README.md": b"", "test.jsonl": b'{"q": "of b"}\n'}},
            "Idavidrein/gpqa": {A: {"README.md": b""}},
        },
        refused={"Idavidrein/gpqa": (401, "GatedRepo")},
    )  # fmt: skip
    (tmp_path / "home").mkdir()
    yield hub
    hub.close()


def revisions_asked(hub: FakeHub, repository: str) -> set[str]:
    paths = [path for _, path in hub.requests if repository in path]
    assert paths
    return {
        part
        for path in paths
        for part in path.partition("?")[0].split("/")
        if len(part) == 40 or part == "main"
    }


@pytest.mark.slow
def test_eval_takes_the_pinned_revision_and_runs_no_code(tmp_path: Path, model: Path, hub: FakeHub):
    tasks = ["math_500", "hellaswag", "livecodebench:v1"]
    done = evaluate(tmp_path, model, hub.endpoint, ",".join(tasks))
    assert done.returncode == 0, done.stderr[-2000:]
    assert [(r["task"], r["num_items"]) for r in json.loads(done.stdout)["results"]] == list(
        zip(tasks, (3, 3, 1), strict=True)
    )
    for task in tasks:
        pinned = hub_of(task)
        assert revisions_asked(hub, pinned.repository) == {pinned.revision}
    assert not (tmp_path / "code-was-run").exists()
    assert not [path for method, path in hub.requests if path.endswith(".py") and method != "HEAD"]
    store = Store.open(tmp_path / "out")
    origins = {job.inputs["task"]: job.inputs["data"]["samples"]["revision"] for job in store.jobs()}
    store.close()
    assert origins == {task: hub_of(task).revision for task in tasks}


@pytest.mark.slow
def test_a_gated_data_set_is_one_clear_line(tmp_path: Path, model: Path, hub: FakeHub):
    for status in (401, 403):
        hub.refused["Idavidrein/gpqa"] = (status, "GatedRepo")
        done = evaluate(tmp_path, model, hub.endpoint, "gpqa_diamond")
        assert done.returncode != 0
        first, _, rest = done.stderr.strip().partition("\n")
        assert "gpqa_diamond: Idavidrein/gpqa is gated" in first
        assert "Traceback" not in done.stderr
        assert "HF_TOKEN" in rest
        assert "gpqa/gpqa_diamond.csv" in rest
        assert "--data" in rest


LOAD = """
import sys
from stillmark.errors import UserError
from stillmark.tasks.hub import Hub, load_hub
try:
    rows, revision = load_hub(Hub(repository="some/rows", split="test", revision=sys.argv[1]), "some", ("some.jsonl",))
    print([row["q"] for row in rows], revision[:1])
except UserError as error:
    print(str(error))
"""


@pytest.mark.slow
def test_a_copy_of_another_revision_is_not_taken_for_the_pinned_one(tmp_path: Path, hub: FakeHub):
    """`datasets` 5.2 takes whatever it has when the hub does not answer, and says so in its log alone."""
    home = tmp_path / "home"
    assert python(["-c", LOAD, A], home, hub.endpoint).stdout == "['of a'] a\n"
    assert python(["-c", LOAD, A], home, hub.endpoint, HF_HUB_OFFLINE="1").stdout == "['of a'] a\n"
    refused = python(["-c", LOAD, B], home, hub.endpoint, HF_HUB_OFFLINE="1").stdout
    assert refused.splitlines()[0] == (
        f"some: some/rows at revision {B[:12]} could not be had: the hub at {hub.endpoint} cannot be reached, and only a copy "
        f"of revision {A[:12]} is here"
    )
    assert refused.splitlines()[-1] == "hint: put some.jsonl into a folder and give --data FOLDER"
    assert python(["-c", LOAD, B], home, hub.endpoint).stdout == "['of b'] b\n"
    assert python(["-c", LOAD, "c" * 40], home, hub.endpoint).stdout.startswith(
        "some: some/rows at revision cccccccccccc could not be had"
    )


@pytest.mark.slow
def test_no_hub_is_one_clear_line(tmp_path: Path, model: Path):
    """A port where nobody listens, and the offline switch."""
    (tmp_path / "home").mkdir()
    for task, file in (("math_500", "math500/test.jsonl"), ("livecodebench:v1", "livecodebench/test*.jsonl")):
        done = evaluate(
            tmp_path, model, "http://127.0.0.1:9", task, HF_HUB_OFFLINE="1" if task == "math_500" else "0"
        )
        assert done.returncode != 0
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert "the hub at http://127.0.0.1:9 cannot be reached" in line
        assert file in done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr
