"""The engines that can be timed: one file each, imported only when it is asked for."""

import importlib
from pathlib import Path
from typing import Any

from stillmark.errors import UserError, did_you_mean
from stillmark.profiling.workload import EngineSpec, ProfileEngine

MODULES = {
    "llamacpp": "stillmark.profiling.engines.llamacpp",
    "transformers": "stillmark.profiling.engines.transformers",
    "onnxruntime": "stillmark.profiling.engines.onnxruntime",
    "openvino": "stillmark.profiling.engines.openvino",
    "endpoint": "stillmark.profiling.engines.endpoint",
    "fake": "stillmark.profiling.engines.fake",
}


def prepare(spec: EngineSpec) -> Any:
    """Import what the engine needs and read the model's description: all that is not loading the model."""
    return importlib.import_module(MODULES[spec.engine]).prepare(spec)


def load_engine(spec: EngineSpec, prepared: Any) -> ProfileEngine:
    """Load the model into the engine, timed."""
    engine: ProfileEngine = importlib.import_module(MODULES[spec.engine]).load(spec, prepared)
    return engine


def checked_engine(name: str | None, model: str) -> str:
    """The engine asked for, or the one that fits the model: GGUF files go to llama.cpp, URLs to `endpoint`."""
    if name is None:
        if model.startswith(("http://", "https://")):
            return "endpoint"
        return "llamacpp" if Path(model).suffix == ".gguf" else "transformers"
    if name not in MODULES:
        raise UserError(
            f"unknown engine `{name}` (engines: {', '.join(MODULES)})", hint=did_you_mean(name, MODULES)
        )
    return name


def required(module: str, extra: str) -> Any:
    """An optional library, or a UserError that says how to have it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the engine needs {module}, which could not be imported: {error}",
            hint=f"pip install 'stillmark[{extra}]'",
        ) from error
