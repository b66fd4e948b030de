"""The command line: arguments only. Each command imports what it needs when it is called."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillmark.cli.choose import CHOOSE_EPILOG, choose_command
from stillmark.cli.disclose import DISCLOSE_EPILOG, VERIFY_EPILOG, disclose_command, verify_command
from stillmark.cli.distill import DISTILL_EPILOG, distill_command
from stillmark.cli.evaluate import EVAL_EPILOG, RESCORE_EPILOG, evaluate_command, rescore_command
from stillmark.cli.export import EXPORT_EPILOG, export_command
from stillmark.cli.flops import FLOPS_EPILOG, flops_command
from stillmark.cli.plan import PLAN_EPILOG, plan_command
from stillmark.cli.predict import PREDICT_EPILOG, predict_command
from stillmark.cli.profile import PROFILE_EPILOG, profile_command
from stillmark.cli.published import app as published_app
from stillmark.cli.quantise import QUANTISE_EPILOG, quantise_command
from stillmark.errors import GOES_ON, KEPT, UserError, fault_of_machine
from stillmark.startup import start_process

if TYPE_CHECKING:
    from stillmark.study import PublishedStudy

app = typer.Typer(
    name="stillmark",
    help="Is a distilled small language model worth it? Make it, measure it, account for it, conclude.",
    epilog="Start with: stillmark run studies/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyPath = Annotated[Path, typer.Argument(help="The study file.", metavar="STUDY", show_default=False)]
Folder = Annotated[
    Path, typer.Argument(help="The study's folder, such as runs/quickstart.", metavar="FOLDER")
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the records; runs/NAME if not given.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Put a value over the file's, such as models.teacher.checkpoint=DIR; again for more."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@app.command(epilog="Example: stillmark check studies/quickstart.yaml --json | jq .predicted_flops")
def check(study: StudyPath, settings: Settings = None, as_json: AsJson = False) -> None:
    """Check a study file whole and print what it would run, with predicted FLOPs and time. Runs nothing."""
    from stillmark.report.preview import preview_of, print_preview
    from stillmark.study import PublishedStudy, load_study

    checked = load_study(study, settings or [])
    if isinstance(checked, PublishedStudy):
        print(f"{study} is sound: a study of published figures, which trains nothing", file=sys.stderr)
        return
    if checked.is_text:
        from stillmark.resolve import resolve

        checked = resolve(checked)
    preview = preview_of(checked)
    write_json(preview) if as_json else print_preview(preview)


@app.command(epilog="Example: stillmark run studies/quickstart.yaml --out runs/quickstart")
def run(
    study: StudyPath,
    out: Out = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs at once; all cores are used if not given.")
    ] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Run what is not yet recorded of a study, then write its report. Stopped at any moment, it goes on."""
    from stillmark.study import PublishedStudy, load_study

    checked = load_study(study, settings or [])
    folder = out or Path("runs") / checked.name
    if isinstance(checked, PublishedStudy):
        run_published(checked, folder, as_json)
        return
    from stillmark.report.write import conclude, print_conclusion
    from stillmark.runner import run_study

    text = study.read_text(encoding="utf-8") + "".join(f"\n# --set {setting}" for setting in settings or [])
    with resumable():
        num_jobs = run_study(checked, text, folder, workers=workers)
    if not is_first_process():
        return
    if num_jobs == 0:
        print(f"everything in {folder} is up to date: nothing to run", file=sys.stderr)
    conclusion = conclude(folder, is_changed=num_jobs > 0)
    write_json(conclusion) if as_json else print_conclusion(conclusion)


def run_published(study: "PublishedStudy", folder: Path, as_json: bool) -> None:
    """A study of published figures: tables and a page, in seconds."""
    from stillmark.report.paper import paper_as_dict, paper_study, print_paper, write_paper_report

    result = paper_study(study.published)
    page = write_paper_report(result, folder)
    write_json(paper_as_dict(result)) if as_json else print_paper(result)
    print(f"report: {page}", file=sys.stderr)


@app.command(epilog="Example: stillmark report runs/quickstart")
def report(folder: Folder, as_json: AsJson = False) -> None:
    """Write report.html and its tables and figures again, from the records alone. Needs no torch."""
    from stillmark.report.write import conclude, print_conclusion

    conclusion = conclude(folder, is_changed=True)
    write_json(conclusion) if as_json else print_conclusion(conclusion)


@app.command(epilog="Example: stillmark show runs/quickstart")
def show(folder: Folder, as_json: AsJson = False) -> None:
    """Print what a study's records say, as a table in the terminal."""
    from stillmark.report.write import conclusion_of, print_conclusion

    conclusion = conclusion_of(folder)
    write_json(conclusion) if as_json else print_conclusion(conclusion)


app.command("distill", epilog=DISTILL_EPILOG)(distill_command)
app.command("choose", epilog=CHOOSE_EPILOG)(choose_command)
app.command("disclose", epilog=DISCLOSE_EPILOG)(disclose_command)
app.command("export", epilog=EXPORT_EPILOG)(export_command)
app.command("verify", epilog=VERIFY_EPILOG)(verify_command)
app.command("plan", epilog=PLAN_EPILOG)(plan_command)
app.command("flops", epilog=FLOPS_EPILOG)(flops_command)
app.command("eval", epilog=EVAL_EPILOG)(evaluate_command)
app.command("rescore", epilog=RESCORE_EPILOG)(rescore_command)
app.command("profile", epilog=PROFILE_EPILOG)(profile_command)
app.command("predict", epilog=PREDICT_EPILOG)(predict_command)
app.command("quantise", epilog=QUANTISE_EPILOG)(quantise_command)
app.add_typer(published_app, name="published")


@app.callback(invoke_without_command=True)
def version(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        from stillmark import __version__

        print(__version__)
        raise typer.Exit


def write_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    print()


def main() -> None:
    """The entry point: a fault of the user's, or of the machine's files, is one clear message; Ctrl-C ends cleanly."""
    start_process()
    try:
        app()
    except Exception as error:
        fault = error if isinstance(error, UserError) else fault_of_machine(error)
        if fault is None:
            raise
        who = "" if is_first_process() else f"process {os.environ['RANK']}: "
        print(f"{who}error: {fault}", file=sys.stderr)
        sys.exit(2)


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes, among those of `accelerate launch` or `torchrun`."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C, or a file or disk that fails, in the block ends the program with a word on how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"stopped; {KEPT}: {GOES_ON}", file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        fault = fault_of_machine(error)
        if fault is None:
            raise
        raise UserError(fault.message, f"{KEPT}: {fault.hint or GOES_ON}") from error
