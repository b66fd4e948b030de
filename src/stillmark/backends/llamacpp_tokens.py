"""A GGUF file's own tokenizer, through llama.cpp's server, with the few methods that `TextCodec` asks for."""

import json
import urllib.request
from typing import Any


class GgufTokenizer:
    """Looks like a Hugging Face tokenizer as far as `TextCodec` looks. `address` is llama.cpp's on loopback."""

    def __init__(self, address: str) -> None:
        self._address = address
        properties = self._get("/props")
        self.chat_template: str | None = properties.get("chat_template") or None
        self.window_tokens = int(properties["default_generation_settings"]["n_ctx"])  # of one slot
        self.bos_token_id = self._special_id(properties.get("bos_token"))
        self.eos_token_id = self._special_id(properties.get("eos_token"))
        self.all_special_tokens: list[str] = [
            text for text in (properties.get("bos_token"), properties.get("eos_token")) if text
        ]

    def __call__(self, texts: list[str], *, add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
        return {"input_ids": [self._encode(text, add_special_tokens) for text in texts]}

    def apply_chat_template(self, prompt: str) -> str:
        """The prompt as the user's one turn, and the header of the reply, by the template in the file."""
        messages = [{"role": "user", "content": prompt}]
        text: str = self._post("/apply-template", {"messages": messages})["prompt"]
        return text

    def decode(self, ids: list[int], **_: Any) -> str:
        text: str = self._post("/detokenize", {"tokens": ids})["content"]
        return text

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        body = {"content": text, "add_special": add_special_tokens, "parse_special": True}
        ids: list[int] = self._post("/tokenize", body)["tokens"]
        return ids

    def _special_id(self, text: str | None) -> int | None:
        ids = self._encode(text, False) if text else []
        return ids[0] if len(ids) == 1 else None

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        return _json(urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"}))

    def _get(self, path: str) -> Any:
        return _json(urllib.request.Request(self._address + path))


def _json(request: urllib.request.Request) -> Any:
    """Without proxies: the server is this process."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=600) as response:
        return json.load(response)
