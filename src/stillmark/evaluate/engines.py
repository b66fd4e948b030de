"""The engines by name: each opens a model and says what its replies depend on."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

from stillmark.backends.api_journal import Journal
from stillmark.compute.gguf_file import GgufFile, read_gguf
from stillmark.compute.model_shape import ModelShape
from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError
from stillmark.evaluate.model import (
    Chat,
    LoadedModel,
    file_hash,
    sha256_text,
    short_label,
    transformers_model,
    weights_hash,
)
from stillmark.provenance import package_version

WINDOW_TOKENS = 4096  # of each of llama.cpp's sequences, at most
EndpointKind = Literal["chat", "completions"]


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """How the engine `openai` asks; what is said of each field in `backends.api_request.Endpoint` holds."""

    base_url: str | None = None
    key_variable: str | None = None
    kind: EndpointKind = "chat"
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    omitted_fields: tuple[str, ...] = ()
    price_model: str | None = None
    max_concurrency: int = 8
    requests_per_minute: float | None = None


def endpoint_settings(
    *, kind: str = "chat", extra_body: str | None = None, omitted_fields: str | None = None, **others: Any
) -> EndpointSettings:
    """Settings from what stands on the command line: JSON for `extra_body`, commas between omitted fields."""
    if kind not in ("chat", "completions"):
        raise UserError(f"--endpoint-kind `{kind}`", hint="give chat or completions")
    try:
        fields = json.loads(extra_body or "{}")
    except ValueError as error:
        raise UserError(f"--extra-body is not JSON: {error}", hint="--extra-body '{\"top_k\": 0}'") from error
    if not isinstance(fields, dict):
        raise UserError("--extra-body is not a JSON object", hint="--extra-body '{\"top_k\": 0}'")
    omitted = tuple(name.strip() for name in (omitted_fields or "").split(",") if name.strip())
    return EndpointSettings(
        kind=cast("EndpointKind", kind), extra_body=fields, omitted_fields=omitted, **others
    )


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A model as it is asked for; each engine reads what concerns it."""

    model: str
    engine: str = "transformers"
    device: str = "cpu"
    dtype: str = "float32"
    revision: str | None = None
    endpoint: "EndpointSettings" = field(default_factory=lambda: EndpointSettings())
    journal: Journal | None = None  # of a remote engine: replies that are paid for are kept there
    threads: int = 1

    @property
    def label(self) -> str:
        return short_label(self.model)


def open_model(request: ModelRequest) -> LoadedModel:
    """Loads a model with the engine that was asked for."""
    if request.engine not in ENGINES:
        raise UserError(f"unknown engine `{request.engine}`", hint=f"engines: {', '.join(ENGINES)}")
    return ENGINES[request.engine](request)


def open_transformers(request: ModelRequest) -> LoadedModel:
    from stillmark.backends.transformers import load_backend

    backend = load_backend(
        request.model, device=request.device, dtype=request.dtype, revision=request.revision
    )
    return transformers_model(
        backend,
        label=request.label,
        weights=weights_hash(request.model, request.revision),
        device=request.device,
        dtype=request.dtype,
    )


def open_llamacpp(request: ModelRequest) -> LoadedModel:
    """A GGUF file in llama.cpp, with its own quantisation."""
    path = Path(request.model)
    if path.suffix != ".gguf" or not path.is_file():
        raise UserError(f"{request.model}: the engine llamacpp reads a .gguf file")
    try:
        module = import_module("stillmark.backends.llamacpp")
    except ImportError as error:
        raise UserError(f"the engine llamacpp cannot start: {error}", hint="pip install xllamacpp") from error
    header = gguf_header(path)
    trained = None if header is None else header.metadata.get(f"{header.architecture}.context_length")
    # llama.cpp takes any window; beyond the one that a model was trained with it writes nonsense without a word
    window_tokens = min(WINDOW_TOKENS, int(trained)) if trained else WINDOW_TOKENS
    backend = module.LlamaCppBackend(path, num_threads=request.threads, window_tokens=window_tokens)
    template = backend.tokenizer.chat_template
    chat = None if template is None else Chat(template=template, apply=backend.tokenizer.apply_chat_template)
    weights = file_hash(path)
    return LoadedModel(
        label=request.label,
        backend=backend,
        identity={
            "weights": weights,
            "tokenizer": weights,  # it is in the file
            "template": None if template is None else sha256_text(template),
            "engine": "llamacpp",
            "versions": {name: package_version(name) for name in ("stillmark", "xllamacpp")},
            "num_parallel": backend.num_parallel,
            "window_tokens": backend.window_tokens,
        },
        shape=gguf_shape(path, header),
        chat=chat,
        device="cpu",
    )


def gguf_header(path: Path) -> GgufFile | None:
    """What the file says of itself; None where it cannot be read."""
    try:
        return read_gguf(path)
    except (UserError, ValueError, KeyError):
        return None


def gguf_shape(path: Path, header: GgufFile | None) -> ModelShape | None:
    """The shape in a GGUF's header: as we read it, else as transformers does (which takes seconds); or None."""
    try:
        config = None if header is None else header.config
        if config is not None:
            return shape_from_config(config)
        from transformers import AutoConfig

        theirs = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        return shape_from_config(theirs.to_dict())
    except (UserError, ValueError, OSError, KeyError, ImportError):
        return None


CHAT_OF_ENDPOINT = Chat(template="applied by the endpoint", apply=lambda prompt: prompt)


def open_endpoint(request: ModelRequest) -> LoadedModel:
    """A model behind an OpenAI-compatible endpoint. Its weights are not known: its name and address stand for them."""
    from stillmark.backends.api_request import OPENAI_URL, Endpoint
    from stillmark.backends.api_retry import RetryPolicy
    from stillmark.backends.openai import OpenAIBackend

    settings = request.endpoint
    endpoint = Endpoint(
        model=request.model,
        base_url=settings.base_url or OPENAI_URL,
        key_variable=settings.key_variable,
        kind=settings.kind,
        extra_body=settings.extra_body,
        omitted_fields=settings.omitted_fields,
        price_model=settings.price_model,
    )
    backend = OpenAIBackend(
        endpoint,
        max_concurrency=settings.max_concurrency,
        retry=RetryPolicy(requests_per_minute=settings.requests_per_minute),
        journal=request.journal,
    )
    price = backend.price
    return LoadedModel(
        label=request.model,
        backend=backend,
        identity={
            "model": endpoint.model,
            "base_url": endpoint.base_url,
            "kind": endpoint.kind,
            "extra_body": dict(endpoint.extra_body),
            "omitted_fields": list(endpoint.omitted_fields),
            "engine": "openai",
            "versions": {"stillmark": package_version("stillmark")},
        },
        chat=CHAT_OF_ENDPOINT if endpoint.kind == "chat" else None,
        device="remote",
        close=backend.close,
        price=None if price is None else f"{price}; {price.source}",
    )


ENGINES: dict[str, Callable[[ModelRequest], LoadedModel]] = {
    "transformers": open_transformers,
    "llamacpp": open_llamacpp,
    "openai": open_endpoint,
}
