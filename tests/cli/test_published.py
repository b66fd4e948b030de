"""`stillmark published`: data on stdout, JSON on demand, one clear line for a fault."""

import json

import pytest
from typer.testing import CliRunner

from stillmark.cli.published import app
from stillmark.errors import UserError


def run(*arguments):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_list_has_every_model():
    models = json.loads(run("list", "--json").stdout)
    assert len(models) == 77
    assert (sum(model["figures"] for model in models), sum(model["scores"] for model in models)) == (239, 620)
    assert "deepseek-r1-distill-llama-8b" in run("list", "--kind", "distilled").stdout


def test_list_of_nothing_says_what_is_possible():
    with pytest.raises(UserError, match="families: bespoke-stratos"):
        run("list", "--family", "qwen")


def test_show_has_every_figure_with_its_source():
    shown = json.loads(run("show", "deepseek-r1-distill-llama-8b", "--json").stdout)
    assert {score["value"] for score in shown["scores"] if score["benchmark"] == "aime_2024"} >= {
        50.4,
        43.9,
        43.3,
    }
    assert all(score["source"]["url"].startswith("http") for score in shown["scores"])
    text = run("show", "DeepSeek-R1-Distill-Llama-8B").stdout
    for expected in (
        "2 to 3",
        "804,745",
        "8.03B",
        "r1_v2, Supp. Table 5",
        "https://arxiv.org/abs/2501.12948v2",
    ):
        assert expected in text


def test_compare_gives_both_sources_and_what_differs():
    compared = json.loads(run("compare", "deepseek-r1-distill-llama-8b", "qwen2.5-72b", "--json").stdout)
    pair = next(pair for pair in compared["pairs"] if pair["benchmark"] == "ifeval")
    assert (pair["a"], pair["b"], pair["verdict"]) == (59.0, 84.1, "B higher")
    assert pair["source_a"]["url"] == "https://arxiv.org/abs/2505.09388"
    assert "what differs" in run("compare", "deepseek-r1-distill-llama-8b", "qwen2.5-72b").stdout


def test_a_model_that_is_not_there_gets_a_hint():
    with pytest.raises(UserError) as error:
        run("show", "deepseek-r1-distill-lama-8b")
    assert error.value.hint == "did you mean `deepseek-r1-distill-llama-8b`?"


def test_check_of_a_good_and_a_bad_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("schema: 1\nmodels:\n  - {id: mine, name: Mine, kind: vanilla, family: mine}\n")
    assert json.loads(run("check", str(path), "--json").stdout)["models"][0]["id"] == "mine"
    assert "no fault" in run("check", str(path)).stdout
    path.write_text("schema: 1\nmodels:\n  - {id: mine, name: Mine, kind: vanila, family: mine}\n")
    with pytest.raises(UserError, match="wrong `kind`"):
        run("check", str(path))


@pytest.mark.parametrize("command", ["list", "show", "compare", "check"])
def test_help_has_an_example(command):
    assert f"Example: stillmark published {command}" in run(command, "--help").stdout
