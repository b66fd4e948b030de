"""An OpenAI-compatible chat endpoint of this process, whose replies are a function of the prompt."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def chat_endpoint(reply: Callable[[str], str | None]) -> Iterator[tuple[str, list[str]]]:
    """(its base URL, the prompts it was sent). A reply of None is an error that the client is not to try again."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            asked.append(prompt)
            text = reply(prompt)
            if text is None:
                self.answer(400, {"error": {"message": "refused"}})
                return
            usage = {
                "prompt_tokens": len(prompt.split()),
                "completion_tokens": 3,
                "total_tokens": len(prompt.split()) + 3,
            }
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer(200, {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                              "choices": [choice], "usage": usage})  # fmt: skip

        def answer(self, status: int, value: dict) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
