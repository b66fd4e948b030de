"""`stillmark eval` with the engines llamacpp and openai from the command line, on a real llama.cpp and its real server.

The model is a tiny random one in GGUF, which llama.cpp and transformers both read, so each can be held to the other.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xllamacpp", reason="needs the extra `llamacpp`: pip install 'stillmark[llamacpp]'")
pytest.importorskip("gguf", reason="needs the extra `llamacpp`")
pytest.importorskip("openai", reason="needs the extra `api`: pip install 'stillmark[api]'")

from tests.backends import llama_server as faults
from tests.backends.llama_server import Proxied, Proxy, proxy
from tests.backends.test_llamacpp import write_tiny_gguf
from tests.backends.tiny import char_tokenizer, tiny_model
from tests.conftest import ENVIRONMENT, stillmark

from stillmark import cli
from stillmark.backends.transformers import TransformersBackend, load_backend
from stillmark.records import Store

pytestmark = pytest.mark.filterwarnings("ignore")
KEY = "sk-test-0123456789"
PRICES = """api_tokens:
  - {model: tiny, vendor: nobody, input: 3.0, output: 7.0, read_on: 2026-11-26, source: this test}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines")
    write_tiny_gguf(path / "tiny.gguf")
    rows = [{"q": f"{a} + {a}", "options": [str(a), str(2 * a), "no"], "right": 1} for a in range(3, 13)]
    (path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (path / "task.yaml").write_text(
        "name: twice\nfile: rows.jsonl\nquestion: '{q}'\nchoices: options\nanswer: '{right}'\nanswer_is: index\n"
        "likelihood: texts\nmax_new_tokens: 6\nnum_fewshot: 0\n"
    )
    (path / "prices.yaml").write_text(PRICES)
    return path


def run(monkeypatch: pytest.MonkeyPatch, capsys: Any, *options: str) -> tuple[int, str, str]:
    """The command as the shell runs it: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["stillmark", "eval", *options])
    try:
        cli.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture
def evaluate(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    def call(*options: str) -> dict[str, Any]:
        code, out, err = run(monkeypatch, capsys, "--json", *options)
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)  # stdout holds the JSON and nothing else
        return found

    return call


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Proxy]:
    """llama.cpp's own server behind a proxy that counts, and can break things."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(folder / "tiny.gguf")
    parameters.n_ctx, parameters.n_parallel = 1024, 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity, parameters.warmup = 0, False
    running = xllamacpp.Server(parameters)
    with proxy(running.listening_address) as before:
        yield before


@pytest.fixture(autouse=True)
def quiet(server: Proxy, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.reset()
    server.memory.clear()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("STILLMARK_PRICES", str(folder / "prices.yaml"))


def at(server: Proxy, *more: str) -> list[str]:
    address = ["--engine", "openai", "--base-url", server.url, "--key-variable", "OPENAI_API_KEY"]
    return ["--model", "tiny", *address, "--extra-body", '{"cache_prompt": false}', *more]


def test_llamacpp_answers_as_transformers_does(folder: Path, tmp_path: Path, evaluate: Any):
    task, gguf = str(folder / "task.yaml"), str(folder / "tiny.gguf")
    tasks = ["--tasks", f"{task},{task}@generation", "--chat", "never", "--model", gguf]
    ours = evaluate(*tasks, "--engine", "llamacpp", "--out", str(tmp_path / "a"))
    both = evaluate(*tasks, "--out", str(tmp_path / "b"), "--against", str(tmp_path / "a"))
    assert [(r["mode"], r["num_items"]) for r in ours["results"]] == [
        ("loglikelihood", 10),
        ("generation", 10),
    ]
    stores = Store.open(tmp_path / "a"), Store.open(tmp_path / "b")
    one, other = ours["results"][0], both["results"][0]
    assert (one["outcomes"], one["mean_flops"]) == (other["outcomes"], other["mean_flops"])
    details = [
        store.details(run["results"][0]["job_key"]) for store, run in zip(stores, (ours, both), strict=True)
    ]
    for key, detail in details[0].items():
        # llama.cpp keeps keys and values in float16: three digits
        assert json.loads(detail.nats) == pytest.approx(json.loads(details[1][key].nats), rel=2e-3)
    texts = [
        [sample.response for sample in store.samples(run["results"][1]["job_key"])]
        for store, run in zip(stores, (ours, both), strict=True)
    ]
    assert sum(a == b for a, b in zip(*texts, strict=True)) >= 7  # the rest are near ties of a random model
    scored, written = both["comparison"]["tasks"].values()
    assert (scored["num_items"], scored["difference"]["value"], scored["p_value"]) == (10, 0, 1)
    assert written["num_items"] == 10
    assert [
        text
        for text in both["comparison"]["beware"]
        if "engine differs: transformers against llamacpp" in text
    ]
    again = evaluate(*tasks, "--engine", "llamacpp", "--out", str(tmp_path / "a"))
    assert again["results"] == ours["results"]


def test_an_endpoint_is_paid_by_its_own_counts_and_the_key_is_nowhere(
    server: Proxy, folder: Path, tmp_path: Path, evaluate: Any
):
    asked = at(server, "--tasks", f"{folder / 'task.yaml'}@generation", "--price-model", "tiny")
    said = evaluate(*asked, "--out", str(tmp_path))
    (result,) = said["results"]
    usages = [json.loads(data)["usage"] for data in server.memory.values()]
    assert len(usages) == server.num_requests == result["num_items"] == 10
    paid = sum(usage["prompt_tokens"] * 3e-6 + usage["completion_tokens"] * 7e-6 for usage in usages)
    assert result["mean_price_usd"] * 10 == pytest.approx(paid, rel=1e-12)
    assert "this test" in result["price"]
    assert result["served_models"] == [str(folder / "tiny.gguf")]  # it answers to any name: that is told
    assert result["mean_flops"] is None
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    again = evaluate(*asked, "--out", str(tmp_path))
    assert (again["results"], server.num_requests) == (said["results"], 10)


def test_killed_and_gone_on_nothing_that_has_arrived_is_paid_again(
    server: Proxy, folder: Path, tmp_path: Path
):
    def slow(request: Proxied) -> bool:
        time.sleep(0.3)
        return False

    server.always = slow
    options = at(server, "--tasks", f"{folder / 'task.yaml'}@generation", "--concurrency", "2", "--json")
    command = stillmark("eval", *options, "--price-model", "tiny", "--out", tmp_path)
    environment = {**os.environ, **ENVIRONMENT, "OPENAI_API_KEY": KEY}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    journal = tmp_path / "api_journal.jsonl"
    while first.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"\n") >= 6):
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    arrived = journal.read_bytes().count(b"\n")
    sent = [json.dumps(body["messages"]) for body in server.bodies]
    server.always = None
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    (result,) = json.loads(second.stdout)["results"]
    assert (result["num_samples"], result["outcomes"]["error"]) == (10, 0)
    later = [json.dumps(body["messages"]) for body in server.bodies[len(sent) :]]
    assert len(later) == len(set(later)) == 10 - arrived
    assert len(set(sent) & set(later)) <= 2  # what was under way when it was killed, at most
    lines = journal.read_text().splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == len(lines) == 10


def echo_server(model: TransformersBackend) -> faults.Fault:
    """vLLM's completions with `echo`, from a model of our own, a token a character."""

    lock = threading.Lock()

    def answer(request: Proxied) -> bool:
        body = json.loads(request.body)
        text = body["prompt"]
        [ids] = model.codec.encode([text])
        with lock:  # the engine is one thread's
            scores = model.loglikelihood_of_tokens(
                [(ids[:end], ids[end : end + 1]) for end in range(1, len(ids))]
            )
        values = [None, *(score.loglikelihood for score in scores)]
        best = [None, *({"best": s.loglikelihood if s.is_greedy else s.loglikelihood + 1} for s in scores)]
        logprobs = {"tokens": list(text), "token_logprobs": values, "text_offset": list(range(len(text)))}
        choice = {"text": text, "logprobs": {**logprobs, "top_logprobs": best}}
        usage = {"prompt_tokens": len(text), "completion_tokens": 1}
        request.reply(200, json.dumps({"choices": [choice], "usage": usage, "model": "tiny"}).encode())
        return True

    return answer


def test_likelihoods_of_an_endpoint_are_the_models_and_each_choice_pays_the_prompt(
    server: Proxy, folder: Path, tmp_path: Path, evaluate: Any
):
    tiny_model("llama").save_pretrained(folder / "hf")
    char_tokenizer().save_pretrained(folder / "hf")
    local = evaluate(
        "--model", str(folder / "hf"), "--tasks", str(folder / "task.yaml"), "--out", str(tmp_path / "a")
    )
    server.always = echo_server(load_backend(str(folder / "hf")))
    asked = at(server, "--tasks", str(folder / "task.yaml"), "--price-model", "tiny", "--out")
    said = evaluate(*asked, str(tmp_path / "b"))
    stores = Store.open(tmp_path / "a"), Store.open(tmp_path / "b")
    details = [
        store.details(r["results"][0]["job_key"]) for store, r in zip(stores, (local, said), strict=True)
    ]
    total = 0.0
    for key, detail in details[0].items():
        assert json.loads(details[1][key].nats) == pytest.approx(json.loads(detail.nats), abs=2e-3)
        prompt = stores[0].prompt(detail.prompt_sha256)
        options = json.loads(stores[0].items()[key[0]].target)["choices"]
        price = sum(3e-6 * len(f"{prompt} {text}") + 7e-6 for text in options)  # a prompt for each choice
        assert details[1][key].price_usd == pytest.approx(price, rel=1e-9)
        total += price
    assert said["results"][0]["outcomes"] == local["results"][0]["outcomes"]
    assert said["results"][0]["mean_price_usd"] * 10 == pytest.approx(total, rel=1e-9)
    assert server.num_requests == 30
    (
        tmp_path / "b" / "records.sqlite"
    ).unlink()  # killed before the chunk was written: the journal has the scores
    again = evaluate(*asked, str(tmp_path / "b"))
    assert server.num_requests == 30
    assert again["results"][0]["mean_price_usd"] == said["results"][0]["mean_price_usd"]


def test_a_score_that_cannot_be_had_is_an_error_and_asked_again(
    server: Proxy, folder: Path, tmp_path: Path, evaluate: Any
):
    tiny_model("llama").save_pretrained(folder / "hf")
    char_tokenizer().save_pretrained(folder / "hf")
    echo = echo_server(load_backend(str(folder / "hf")))
    server.always = echo
    server.faults = {4: faults.status(400, error={"message": "too long"})}
    asked = at(server, "--tasks", str(folder / "task.yaml"), "--concurrency", "1", "--out", str(tmp_path))
    (result,) = evaluate(*asked)["results"]
    assert (result["outcomes"]["error"], result["num_samples"], server.num_requests) == (1, 10, 30)
    (result,) = evaluate(*asked)["results"]
    assert (result["outcomes"]["error"], result["num_samples"], server.num_requests) == (0, 10, 31)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--base-url", "http://127.0.0.1:9/v1"], "nothing answers at http://127.0.0.1:9/v1"),
        (["--base-url", "127.0.0.1:9"], "does not begin with http://"),
        (["--base-url", "SERVER", "--key-variable", "NO_SUCH_KEY"], "NO_SUCH_KEY is not set"),
        ([], "OPENAI_API_KEY is not set"),
        (["--base-url", "SERVER", "--endpoint-kind", "stream"], "give chat or completions"),
        (["--base-url", "SERVER", "--extra-body", "{"], "--extra-body is not JSON"),
        (["--base-url", "SERVER", "--price-model", "no-such"], "no API price is known for `no-such`"),
        (["--base-url", "SERVER", "--tasks", "TASK"], "does not give the log-likelihood of a prompt"),
    ],
)
def test_what_an_endpoint_lacks_is_one_message_and_exit_code_2(
    server: Proxy,
    folder: Path,
    tmp_path: Path,
    monkeypatch: Any,
    capsys: Any,
    options: list[str],
    message: str,
):
    monkeypatch.delenv("OPENAI_API_KEY")
    task = str(folder / "task.yaml")
    told = [{"SERVER": server.url, "TASK": task}.get(option, option) for option in options]
    tasks = [] if "--tasks" in told else ["--tasks", f"{task}@generation"]
    code, out, err = run(
        monkeypatch, capsys, "--engine", "openai", "--model", "m", *tasks, "--out", str(tmp_path), *told
    )
    assert (code, out) == (2, "")
    assert f"error: {message}" in err or message in err.partition("error: ")[2].splitlines()[0] + err
    assert "Traceback" not in err


def test_a_model_that_the_endpoint_does_not_have(
    server: Proxy, folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    server.always = faults.status(
        404, error={"message": "The model `tiny` does not exist", "code": "model_not_found"}
    )
    options = at(server, "--tasks", f"{folder / 'task.yaml'}@generation", "--out", str(tmp_path))
    code, _, err = run(monkeypatch, capsys, *options)
    assert code == 2
    assert "error: the endpoint refused: HTTP 404" in err
    assert "The model `tiny` does not exist" in err
    assert KEY not in err


@pytest.mark.parametrize(
    ("engine", "package", "message"),
    [
        ("llamacpp", "xllamacpp", "xllamacpp is not installed"),
        ("openai", "openai", "the openai package is not installed"),
    ],
)
def test_an_engine_that_is_not_installed(
    folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, engine: str, package: str, message: str
):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    options = [
        "--engine",
        engine,
        "--model",
        str(folder / "tiny.gguf"),
        "--base-url",
        "http://127.0.0.1:9/v1",
    ]
    code, _, err = run(
        monkeypatch, capsys, *options, "--tasks", str(folder / "task.yaml"), "--out", str(tmp_path)
    )
    assert code == 2
    assert f"error: {message}" in err
    assert f"stillmark[{'api' if engine == 'openai' else engine}]" in err


@pytest.mark.parametrize("content", [None, b"hello"])
def test_a_file_that_is_no_model(
    folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, content: bytes | None
):
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    for engine in ("llamacpp", "transformers"):
        options = ["--engine", engine, "--model", str(path), "--tasks", str(folder / "task.yaml")]
        code, _, err = run(monkeypatch, capsys, *options, "--out", str(tmp_path / "out"))
        assert (code, "Traceback" in err) == (2, False), err
        assert "bad.gguf" in err


def test_two_models_of_one_endpoint(server: Proxy, folder: Path, tmp_path: Path, evaluate: Any):
    options = at(
        server, "--tasks", f"{folder / 'task.yaml'}@generation", "--against", "other", "--out", str(tmp_path)
    )
    both = evaluate(*options)
    assert (both["comparison"]["first"], both["comparison"]["second"]) == ("tiny", "other")
    (compared,) = both["comparison"]["tasks"].values()
    assert (compared["num_items"], compared["difference"]["value"]) == (10, 0)
    assert server.num_requests == 20
