"""The engines by name: each opens a model and says what its replies depend on."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

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


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A model as it is asked for; each engine reads what concerns it."""

    model: str
    engine: str = "transformers"
    device: str = "cpu"
    dtype: str = "float32"
    revision: str | None = None
    base_url: str | None = None
    key_variable: str | None = None
    journal: Path | None = None  # of a remote engine: replies that are paid for are kept there
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
    backend = module.LlamaCppBackend(path, num_threads=request.threads)
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
        shape=gguf_shape(path),
        chat=chat,
        device="cpu",
    )


def gguf_shape(path: Path) -> ModelShape | None:
    """The shape in a GGUF's header, as transformers reads it; None where it does not."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
        return shape_from_config(config.to_dict())
    except (UserError, ValueError, OSError, KeyError, ImportError):
        return None


def open_endpoint(request: ModelRequest) -> LoadedModel:
    """A model behind an OpenAI-compatible endpoint. Its weights are not known: its name and address stand for them."""
    from stillmark.backends.api_journal import FileJournal
    from stillmark.backends.api_request import OPENAI_URL, Endpoint
    from stillmark.backends.openai import OpenAIBackend

    endpoint = Endpoint(
        model=request.model, base_url=request.base_url or OPENAI_URL, key_variable=request.key_variable
    )
    journal = None if request.journal is None else FileJournal(request.journal)
    return LoadedModel(
        label=request.model,
        backend=OpenAIBackend(endpoint, journal=journal),
        identity={
            "model": endpoint.model,
            "base_url": endpoint.base_url,
            "kind": endpoint.kind,
            "engine": "openai",
            "versions": {"stillmark": package_version("stillmark")},
        },
        chat=Chat(template="applied by the endpoint", apply=lambda prompt: prompt),
        device="remote",
    )


ENGINES: dict[str, Callable[[ModelRequest], LoadedModel]] = {
    "transformers": open_transformers,
    "llamacpp": open_llamacpp,
    "openai": open_endpoint,
}
