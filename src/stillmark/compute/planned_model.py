"""A model from what a user has at hand: a config, the name of a published model, or just its size.

planned_model("path/to/config.json")     # exact, by shape
planned_model("llama-3.1-8b")            # the published parameter count
planned_model("8.03b"), planned_model("671b-a37b")
"""

import json
import re
from pathlib import Path

from stillmark.compute.shapes import shape_from_config
from stillmark.compute.workloads import PlannedModel
from stillmark.errors import UserError
from stillmark.published.registry import Model, load_registry

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_SIZE = re.compile(r"([\d.]+(?:e\d+)?)([kmbt]?)(?:-a([\d.]+(?:e\d+)?)([kmbt]?))?")


def planned_model(given: str) -> PlannedModel:
    """The model that is meant by a path, a published id or a size; a UserError where it is none of them."""
    size = _SIZE.fullmatch(given.lower())
    if size:
        return _by_size(given, size)
    path = Path(given)
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        return _by_config(path)
    if path.suffix == ".json" or "/" in given:
        raise UserError(
            f"no config.json at {given}",
            hint="give a path, a published model (`stillmark published list`), or a size: 8b, 671b-a37b",
        )
    return _by_registry(given)


def _by_size(given: str, size: re.Match[str]) -> PlannedModel:
    number, unit, active, active_unit = size.groups()
    params = float(number) * _UNITS[unit]
    active_params = float(active) * _UNITS[active_unit or ""] if active else params
    if not 0 < active_params <= params:
        raise UserError(f"`{given}`: {active_params:g} active of {params:g} parameters is not possible")
    return PlannedModel(name=given, params=params, active_params=active_params, basis="as given")


def _by_config(path: Path) -> PlannedModel:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} could not be read as JSON: {error}") from error
    shape = shape_from_config(config)
    return PlannedModel(
        name=path.parent.name or str(path),
        params=shape.params,
        active_params=shape.active_params,
        shape=shape,
        basis=f"counted from {path}",
    )


def _by_registry(given: str) -> PlannedModel:
    registry = load_registry()
    model = registry.model(given)
    base = registry.find(model.base.model_id) if model.base else None
    counted = model if model.figure("params_total") else base
    params = counted.figure("params_total") if counted else None
    if counted is None or params is None or params.value is None:
        raise UserError(
            f"nobody published how many parameters `{given}` has, so its compute cannot be planned",
            hint="give a size (8b, 671b-a37b) or a config.json instead",
        )
    active = counted.figure("params_active")
    where = params.source.url if params.source else "derived"
    return PlannedModel(
        name=model.id,
        params=params.value,
        active_params=active.value if active and active.value else params.value,
        basis=f"published: {where}" + _of_base(model, counted),
    )


def _of_base(model: Model, counted: Model) -> str:
    return "" if counted is model else f" (of its base {counted.id})"
