"""`stillmark disclose` and `stillmark verify`: hand a study over whole, and work one out again."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stillmark.report.checks import Check

DISCLOSE_EPILOG = "Example: stillmark disclose runs/quickstart --out quickstart.zip"
VERIFY_EPILOG = "Example: stillmark verify quickstart.zip --digest 3b5d..."


def disclose_command(
    folder: Annotated[
        Path, typer.Argument(help="The study's folder, such as runs/quickstart.", metavar="FOLDER")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The archive; FOLDER/NAME-disclosure.zip if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Write one archive with study, records, report, versions, checks and the hash of each file."""
    from stillmark.report.disclosure import disclose

    made = disclose(folder, out)
    if as_json:
        write_json(
            {"path": str(made.path), "digest": made.digest, "checks": [asdict(c) for c in made.checks]}
        )
    else:
        print_checks(made.checks)
        print(f"digest: {made.digest}")
    print(f"archive: {made.path}", file=sys.stderr)


def verify_command(
    archive: Annotated[Path, typer.Argument(help="What `stillmark disclose` wrote.", metavar="ARCHIVE")],
    digest: Annotated[
        str | None, typer.Option("--digest", help="The digest that was published with it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Work out every number of an archive again, from its records: exit status 1 if one differs. Needs no torch."""
    from stillmark.report.verify import verify

    checks = verify(archive, digest)
    write_json([asdict(check) for check in checks]) if as_json else print_checks(checks)
    if any(check.outcome != "agrees" and not check.is_expected for check in checks):
        print("not everything agrees", file=sys.stderr)
        raise typer.Exit(1)
    print("everything that can be worked out again agrees", file=sys.stderr)


def print_checks(checks: "Sequence[Check]") -> None:
    """One line a check, and where it came out otherwise."""
    for check in checks:
        word = check.outcome if check.outcome == "agrees" else check.outcome.upper()
        print(f"{word:12} {check.name} ({check.num_checked:,})")
        for detail in check.details:
            print(f"{'':12} - {detail}")


def write_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    print()
