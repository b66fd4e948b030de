"""Engines with times that are written down, and a server that is slow on purpose."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stillmark.profiling.machine import MachineState
from stillmark.profiling.remote import PeakMemory
from stillmark.profiling.session import Noise
from stillmark.profiling.workload import Batch, ModelFacts, Timeline, Workload

QUIET = Noise(
    state=MachineState(load_average=0.0, clock_hertz=None, governor=None, temperature_celsius=None,
                       available_memory_bytes=None, is_on_battery=None),
    foreign_cores=0.0,
    spin_interference=0.0,
)  # fmt: skip


def steady_timeline(workload: Workload, ttft: float, tpot: float) -> Timeline:
    seconds = tuple(ttft + tpot * i for i in range(workload.new_tokens))
    return Timeline(prompt_tokens=workload.prompt_tokens, token_seconds=seconds, end_seconds=seconds[-1])


class ScriptedEngine:
    """Answers with the TPOTs given, one a run, the last one for ever; no time passes."""

    def __init__(self, tpots: list[float], log: list[str] | None = None, name: str = "scripted") -> None:
        self.facts = ModelFacts(name=name, engine="scripted")
        self.memory = PeakMemory()
        self.load_seconds = 0.0
        self.variants: list[int] = []
        self._tpots = tpots
        self._log = log if log is not None else []

    def run(self, workload: Workload, variant: int) -> Batch:
        tpot = self._tpots[min(len(self.variants), len(self._tpots) - 1)]
        self.variants.append(variant)
        self._log.append(self.facts.name)
        return Batch(timelines=(steady_timeline(workload, 0.5, tpot),), cpu_seconds=0.0)

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        return steady_timeline(Workload(prompt_tokens=len(prompt), new_tokens=max_new_tokens), 0.5, 0.1)

    def close(self) -> None:
        self._log.append(f"close {self.facts.name}")


@contextmanager
def slow_server(delay_seconds: float, gap_seconds: float = 0.0) -> Iterator[tuple[str, list[list[float]]]]:
    """An OpenAI-compatible stream; yields its URL and, for each request, when each token was sent."""
    sent: list[list[float]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            times: list[float] = []
            sent.append(times)
            time.sleep(delay_seconds)
            for index in range(asked["max_tokens"]):
                if index:
                    time.sleep(gap_seconds)
                times.append(time.perf_counter())
                self._send({"choices": [{"text": "x"}]})
            usage = {"completion_tokens": asked["max_tokens"], "prompt_tokens": len(asked["prompt"].split())}
            self._send({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")

        def _send(self, chunk: dict) -> None:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", sent
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
