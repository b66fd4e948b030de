"""Carbon of electricity: joules times the grid's mean intensity, by country or US state.

    carbon_kilograms(3.6e6, "FRA")      # one kWh generated in France: 0.056 kg CO2e (2023)

The intensities are yearly means of what was generated in a region (`grid_intensity.yaml`, each with year and
source). They are not the intensity of the hour, nor what a data centre's contract buys.
"""

import functools
from dataclasses import dataclass
from importlib import resources

from pydantic import BaseModel, ConfigDict

from stillmark.compute.energy import JOULES_PER_KILOWATT_HOUR
from stillmark.errors import UserError, did_you_mean
from stillmark.published.read import load_yaml


class _SourceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str
    note: str


class _RegionEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    kilograms_per_kilowatt_hour: float
    year: int
    source: str


class _GridFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    sources: dict[str, _SourceEntry]
    regions: dict[str, _RegionEntry]


@dataclass(frozen=True, kw_only=True)
class GridIntensity:
    """kg CO2e for each kWh generated in a region, in one year."""

    region: str
    name: str
    kilograms_per_kilowatt_hour: float
    year: int
    source: str


@functools.cache
def grid_intensities() -> dict[str, GridIntensity]:
    """Every known region, by its code: ISO 3166 alpha-3 (`FRA`), `US-CA` for a state, `WORLD`."""
    text = resources.files("stillmark.compute").joinpath("grid_intensity.yaml").read_text(encoding="utf-8")
    file = _GridFile.model_validate(load_yaml(text, "grid_intensity.yaml"))
    return {
        code: GridIntensity(
            region=code,
            name=entry.name,
            kilograms_per_kilowatt_hour=entry.kilograms_per_kilowatt_hour,
            year=entry.year,
            source=f"{file.sources[entry.source].url} ({file.sources[entry.source].note})",
        )
        for code, entry in file.regions.items()
    }


def grid_intensity(region: str) -> GridIntensity:
    """By code or by name, whatever the case; a UserError where the region is not known."""
    known = grid_intensities()
    by_name = {entry.name.lower(): code for code, entry in known.items()}
    code = region.upper() if region.upper() in known else by_name.get(region.lower())
    if code is None:
        raise UserError(
            f"no grid intensity is known for `{region}`: regions are ISO 3166 alpha-3 codes (`FRA`), "
            "US states (`US-CA`), their English names, and `WORLD`",
            hint=did_you_mean(region.upper(), known) or did_you_mean(region.lower(), by_name),
        )
    return known[code]


def carbon_kilograms(joules: float | None, region: str) -> float | None:
    """kg CO2e of the electricity; None where the energy is not known."""
    intensity = grid_intensity(region)
    if joules is None:
        return None
    return joules / JOULES_PER_KILOWATT_HOUR * intensity.kilograms_per_kilowatt_hour
