"""The process that one engine runs in: `python -m stillmark.profiling.worker`, JSON lines in and out.

A process of its own gives an arm its limits (affinity, memory cap), its own peak memory, a true load time, and
an end that the harness survives. What the engine prints goes to stderr; replies go out on the first stdout.
"""

import json
import os
import sys
import traceback
from dataclasses import asdict
from typing import IO, Any

from stillmark.errors import UserError
from stillmark.profiling.constraints import (
    Constraints,
    apply_cores,
    apply_memory_cap,
    lift_memory_cap,
    memory_status,
)
from stillmark.profiling.engines import load_engine, prepare
from stillmark.profiling.workload import EngineSpec, ProfileEngine, Workload


class Worker:
    """Answers one request after another; the first one is `load`."""

    def __init__(self) -> None:
        self._engine: ProfileEngine | None = None

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "load":
            return self._load(EngineSpec(**request["spec"]), Constraints.from_dict(request["constraints"]))
        assert self._engine is not None, "load comes first"
        began = cpu_seconds()
        if request["do"] == "run":
            batch = self._engine.run(Workload(**request["workload"]), request["variant"])
            timelines = [asdict(timeline) for timeline in batch.timelines]
        else:
            timelines = [asdict(self._engine.answer(request["prompt"], request["max_new_tokens"]))]
        return {"timelines": timelines, "cpu_seconds": cpu_seconds() - began, "memory": memory_or_none()}

    def _load(self, spec: EngineSpec, constraints: Constraints) -> dict[str, Any]:
        apply_cores(constraints)
        prepared = prepare(spec)
        before = memory_or_none()
        apply_memory_cap(constraints)
        self._engine = load_engine(spec, prepared)
        return {
            "facts": asdict(self._engine.facts),
            "load_seconds": self._engine.load_seconds,
            "memory_before": before,
            "memory": memory_or_none(),
        }


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def memory_or_none() -> dict[str, int] | None:
    try:
        return memory_status()
    except OSError:
        return None


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Until the input ends. An error is a reply: the harness decides what it means."""
    worker = Worker()
    for line in requests:
        try:
            reply = worker.reply(json.loads(line))
        except MemoryError:
            lift_memory_cap()  # to be able to say so
            reply = {"error": "out of memory", "is_memory": True}
        except UserError as error:
            reply = {"error": error.message, "hint": error.hint, "is_user_error": True}
        except Exception as error:
            lift_memory_cap()
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # an engine that prints must not break the replies
    sys.stdout = sys.stderr
    serve(sys.stdin, replies)
    replies.flush()
    os._exit(0)  # engines' threads may not end by themselves


if __name__ == "__main__":
    main()
