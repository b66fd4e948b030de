"""Every repetition in a file as soon as it is done, so that a killed profile goes on where it was.

One JSON line each, under a key of all that makes repetitions comparable: arm, limits, workload, processor and
versions. A line cut in half by a kill is left out when read.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillmark.compute.energy import EnergyPart, EnergyReading
from stillmark.profiling.workload import Batch, Timeline
from stillmark.provenance import provenance

if TYPE_CHECKING:
    from stillmark.profiling.session import Repetition, Setting


class Journal:
    """Appends to and reads from one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines: list[dict[str, Any]] = []
        if path.exists():
            whole = path.read_text(encoding="utf-8")
            self._lines = [line for line in map(_parsed, whole.splitlines()) if line is not None]
            if whole and not whole.endswith("\n"):
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n")

    def repetitions(self, setting: "Setting") -> "list[Repetition]":
        """What was timed before under the same key."""
        key = key_of(setting)
        return [_repetition(line["repetition"]) for line in self._lines if line["key"] == key]

    def add(self, setting: "Setting", repetition: "Repetition") -> None:
        line = {"key": key_of(setting), "arm": setting.arm.label, "workload": asdict(setting.workload),
                "repetition": asdict(repetition)}  # fmt: skip
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def key_of(setting: "Setting") -> str:
    """A hash of what must be the same for two repetitions to be one sample."""
    made = provenance()
    engine = setting.engine
    same = {
        "spec": asdict(setting.arm.spec),
        "constraints": setting.arm.constraints.as_dict(),
        "workload": asdict(setting.workload),
        "engine_version": engine.facts.engine_version if engine else None,
        "file_bytes": engine.facts.file_bytes if engine else None,
        "machine": [made["cpu"], made["cores"], made["memory_bytes"], made["system"]],
        "stillmark": made["stillmark"],
    }
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:32]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and "key" in value else None


def _repetition(value: dict[str, Any]) -> "Repetition":
    from stillmark.profiling.session import Repetition

    batch = Batch(
        timelines=tuple(
            Timeline(**{**line, "token_seconds": tuple(line["token_seconds"])})
            for line in value["batch"]["timelines"]
        ),
        cpu_seconds=value["batch"]["cpu_seconds"],
    )
    energy = EnergyReading(
        seconds=value["energy"]["seconds"],
        parts=tuple(EnergyPart(**part) for part in value["energy"]["parts"]),
        notes=tuple(value["energy"]["notes"]),
    )
    return Repetition(
        batch=batch, foreign_cores=value["foreign_cores"], energy=energy, began_at=value["began_at"]
    )
