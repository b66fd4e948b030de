"""`stillmark eval` and `stillmark rescore` from the command line, on a tiny random model."""

import json
from pathlib import Path

import pytest
from tests.backends.tiny import char_tokenizer, tiny_model
from typer.testing import CliRunner

from stillmark.cli import app
from stillmark.errors import UserError

RUN = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's directory, a task that is asked both ways, and a text."""
    path = tmp_path_factory.mktemp("evaluate")
    tiny_model("llama").save_pretrained(path / "model")
    tokenizer = char_tokenizer()
    tokenizer.save_pretrained(path / "model")
    rows = [{"q": f"{a} + 1", "options": [str(a), str(a + 1)], "right": 1} for a in range(12)]
    (path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (path / "task.yaml").write_text(
        "name: plus\nfile: rows.jsonl\nquestion: '{q}'\nchoices: options\nanswer: '{right}'\nanswer_is: index\n"
        "max_new_tokens: 24\n"
    )
    (path / "text.txt").write_text("The sun is up. " * 20)
    return path


def evaluate(folder: Path, *more: str) -> dict:
    options = ["eval", "--model", str(folder / "model"), "--data", str(folder), "--json", *more]
    done = RUN.invoke(app, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_both_modes_text_resumption_and_rescoring(folder: Path, tmp_path: Path):
    task, out = str(folder / "task.yaml"), str(tmp_path / "out")
    tasks = f"{task},{task}@generation,text:text.txt*120"
    first = evaluate(folder, "--tasks", tasks, "--out", out, "--limit", "5", "--num-fewshot", "1")
    whole = evaluate(folder, "--tasks", tasks, "--out", out, "--num-fewshot", "1")
    assert [result["num_items"] for result in first["results"]] == [5, 5]
    assert [(result["num_items"], result["mode"]) for result in whole["results"]] == [
        (12, "loglikelihood"),
        (12, "generation"),
    ]
    for result in whole["results"]:
        assert sum(result["outcomes"].values()) == 12
        assert result["mean_flops"] > 0
        assert result["mean_seconds"] > 0
    # A random model writes 24 random characters: no answer, and never a wrong one made up for it
    assert whole["results"][1]["outcomes"]["truncated"] + whole["results"][1]["outcomes"]["unparsed"] >= 10
    # log2 of 75 tokens is 6.2: a random model with large weights is worse than uniform
    assert whole["texts"][0]["num_bytes"] == 120
    assert whole["texts"][0]["num_tokens"] in (119, 120)
    done = RUN.invoke(app, ["rescore", out, "--json"], catch_exceptions=False)
    assert [job["changes"] for job in json.loads(done.stdout)["changes"]] == [[], []]


def test_against_itself_is_no_difference(folder: Path, tmp_path: Path):
    task = str(folder / "task.yaml")
    evaluate(folder, "--tasks", task, "--out", str(tmp_path / "a"))
    both = evaluate(folder, "--tasks", task, "--out", str(tmp_path / "b"), "--against", str(tmp_path / "a"))
    (result,) = both["comparison"]["tasks"].values()
    assert (result["num_items"], result["difference"]["value"], result["p_value"]) == (12, 0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "gsm9k"], "unknown task"),
        (["--tasks", "TASK", "--engine", "abacus"], "engines: transformers"),
        (["--tasks", "TASK", "--samples", "4"], "--temperature"),
        (["--tasks", "TASK", "--chat", "always"], "no chat template"),
        (["--tasks", "TASK", "--shots", "some"], "by_item"),
        (["--tasks", "TASK", "--num-fewshot", "50"], "50 examples asked for, there are 11"),
        (["--tasks", "TASK", "--think-tags", "<t>"], "give both marks"),
        (["--tasks", "TASK", "--against", "nowhere#x"], "holds no records"),
    ],
)
def test_mistakes_are_one_clear_message(folder: Path, tmp_path: Path, options: list[str], message: str):
    told = [option.replace("TASK", str(folder / "task.yaml")) for option in options]
    with pytest.raises(UserError) as error:
        evaluate(folder, *told, "--out", str(tmp_path))
    assert message in str(error.value)
