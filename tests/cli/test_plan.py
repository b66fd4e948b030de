"""`stillmark plan` from the outside: tables, JSON, and errors that say what was possible."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stillmark.cli.plan import PLAN_EPILOG, plan_command
from stillmark.errors import UserError

APP = typer.Typer(rich_markup_mode=None)
APP.command("plan", epilog=PLAN_EPILOG)(plan_command)
SOURCE = Path(__file__).parents[2] / "src"
RUN = CliRunner(env={"COLUMNS": "160", "TERM": "dumb"})
R1 = (
    "--student 8.03b --teacher 671b-a37b --samples 804745 --prompt-tokens 0 --answer-tokens 5355.3 --epochs 2"
)


def run(arguments):
    return RUN.invoke(APP, arguments.split(), catch_exceptions=True)


def test_json_reproduces_the_paper_notes_ratio():
    done = run(f"{R1} --pretrain-tokens 15e12 --device h100-sxm --json")
    assert done.exit_code == 0, done.output
    choices = {choice["name"]: choice for choice in json.loads(done.stdout)["choices"]}
    ratio = choices["pretrain"]["fixed"]["flops"] / choices["distil"]["fixed"]["flops"]
    assert round(ratio) == 984


def test_tables_name_assumptions_and_days_of_prices():
    done = run(f"{R1} --device h100-sxm --api deepseek-reasoner --queries 1e6 --region FRA --devices 8")
    assert done.exit_code == 0, done.output
    for part in (
        "teacher traces",
        "student training",
        "MFU 40.0%",
        "read 2026-",
        "costs less than",
        "boundary",
    ):
        assert part in done.stdout, done.stdout


def test_unknown_hardware_shows_unknown():
    done = run("--student 135m --pretrain-tokens 1e9 --device raspberry-pi-5")
    assert done.exit_code == 0, done.output
    assert "unknown" in done.stdout
    assert "peak of raspberry-pi-5 is not known" in done.stdout


def test_this_machine_with_a_peak_of_ones_own():
    done = run("--student 135m --pretrain-tokens 1e9 --device this --peak 1.6e11 --usd-per-kwh 0.3 --json")
    assert done.exit_code == 0, done.output
    hours = json.loads(done.stdout)["choices"][0]["fixed"]["device_hours"]
    assert hours == pytest.approx(6 * 135e6 * 1e9 / (1.6e11 * 0.4 * 3600))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ("--student 8b --samples 10 --device h100-sxm", "needs a teacher"),
        ("--student 8b --device h100 --pretrain-tokens 1e9", "several devices"),
        ("--student 8b --device h100-sxm --api gpt-99", "no API price"),
        ("--student 8b --device h100-sxm --mfu 40 --pretrain-tokens 1e9", "did you mean"),
        ("--student 8b --device h100-sxm --region Atlantis --pretrain-tokens 1e9", "no grid intensity"),
        ("--student 8b --device t4 --pretrain-tokens 1e9", "in bf16 is not known"),
        ("--student 8b --device h100-sxm", "nothing to plan"),
        ("--student 8b --teacher 70b --samples 9 --device h200 --method sequnce", "did you mean `sequence`"),
        ("--student 8b --device h200 --pretrain-tokens 1e9 --sharding zero3", "sharding: none, optimizer"),
        (
            "--student 8b --teacher 70b --samples 9 --method live-logits --teacher-api gpt-5 --device h200",
            "hands over text",
        ),
    ],
)
def test_mistakes_are_user_errors(arguments, match):
    done = run(arguments)
    assert isinstance(done.exception, UserError), done.output
    assert match in str(done.exception)


def test_help_shows_examples_that_run():
    done = run("--help")
    examples = [
        line.strip() for line in PLAN_EPILOG.splitlines() if line.strip().startswith("stillmark plan")
    ]
    assert len(examples) > 2
    for example in examples:
        assert example in done.output
        if "config.json" not in example:
            planned = run(example.removeprefix("stillmark plan "))
            assert planned.exit_code == 0, planned.exception


def test_the_command_loads_nothing_until_it_is_called():
    code = (
        "import sys; import stillmark.cli.plan; "
        "assert not {m for m in sys.modules if m.startswith(('stillmark.compute', 'yaml', 'rich.table'))}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SOURCE)})
