"""A Hugging Face hub on loopback: the few answers that `datasets` and `huggingface_hub` ask for, and a log of requests."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeHub:
    """`repositories`: name -> revision -> path -> bytes. `refused`: name -> (status, error code of the hub)."""

    def __init__(
        self,
        repositories: Mapping[str, Mapping[str, Mapping[str, bytes]]],
        refused: Mapping[str, tuple[int, str]] | None = None,
    ) -> None:
        self.repositories, self.refused = repositories, refused or {}
        self.requests: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                hub.requests.append((self.command, self.path))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers, body = hub.reply(self.path.partition("?")[0])
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = answer

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reply(self, path: str) -> tuple[int, dict[str, str], bytes]:
        for name, revisions in self.repositories.items():
            if path.startswith((f"/api/datasets/{name}", f"/datasets/{name}/")):
                if name in self.refused:
                    status, code = self.refused[name]
                    return status, {"X-Error-Code": code, "X-Error-Message": "Access is restricted."}, b"{}"
                return self.reply_of(path, name, revisions)
        return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def reply_of(
        self, path: str, name: str, revisions: Mapping[str, Mapping[str, bytes]]
    ) -> tuple[int, dict[str, str], bytes]:
        found = re.search(r"/(?:revision|tree|resolve|paths-info)/([^/]+)(?:/(.*))?", path)
        asked = found[1] if found and found[1] != "main" else next(iter(revisions))
        if asked not in revisions:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        files, inner = revisions[asked], (found[2] or "") if found else ""
        kind = {"Content-Type": "application/json"}
        if f"/datasets/{name}/resolve/" in path and inner in files:
            digest = hashlib.sha1(asked.encode() + files[inner]).hexdigest()
            return 200, {"ETag": f'"{digest}"', "X-Repo-Commit": asked}, files[inner]
        if "/tree/" in path and any(one.startswith(inner) for one in files):
            below = [one for one in files if not inner or one.startswith(inner + "/")]
            names = {one[len(inner) :].lstrip("/").partition("/")[0]: one for one in below}
            entries = [
                {"type": "file", "oid": "0" * 40, "size": len(files[one]), "path": one}
                if one.rpartition("/")[0] == inner
                else {"type": "directory", "oid": "0" * 40, "size": 0, "path": f"{inner}/{name}".lstrip("/")}
                for name, one in names.items()
            ]
            if entries:
                return 200, kind, json.dumps(entries).encode()
        if path.endswith(name) or "/revision/" in path:
            info = {"id": name, "sha": asked, "private": False, "gated": False, "disabled": False, "tags": [],
                    "downloads": 0, "likes": 0, "siblings": [{"rfilename": one} for one in files]}  # fmt: skip
            return 200, kind, json.dumps(info).encode()
        return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
