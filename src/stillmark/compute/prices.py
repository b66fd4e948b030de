"""Prices of GPU hours and API tokens, each with the day it was read and its source; yours before ours.

    prices = load_prices()              # prices.yaml, with STILLMARK_PRICES on top where it is set
    prices.gpu_hour("h100-sxm")         # every offer known, cheapest first
    prices.api("gpt-4o-mini").answer_usd(input_tokens=500, output_tokens=800)

A price without its day is not a price: every amount that leaves here names the day that it was read.
"""

import datetime
import functools
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError

from stillmark.compute.hardware import devices
from stillmark.errors import UserError, did_you_mean
from stillmark.published.read import load_yaml, read_text

PRICES_VARIABLE = "STILLMARK_PRICES"
TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class GpuHourPrice:
    """One offer: US dollars for an hour of one device."""

    device: str
    provider: str
    offer: str
    usd: float
    read_on: datetime.date
    source: str

    def __str__(self) -> str:
        return f"${self.usd:,.2f} an hour ({self.provider}, {self.offer}; read {self.read_on})"


@dataclass(frozen=True, kw_only=True)
class ApiPrice:
    """US dollars for a million tokens, read and written. Hidden reasoning tokens are billed as output."""

    model: str
    vendor: str
    input_usd: float
    output_usd: float
    cached_input_usd: float | None
    read_on: datetime.date
    source: str
    note: str | None = None

    def answer_usd(self, *, input_tokens: float, output_tokens: float) -> float:
        """Price of one answer without cache hits."""
        return (input_tokens * self.input_usd + output_tokens * self.output_usd) / TOKENS_PER_PRICE

    def __str__(self) -> str:
        return (
            f"${self.input_usd:g} in, ${self.output_usd:g} out a million tokens ({self.vendor} {self.model}; "
            f"read {self.read_on})"
        )


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Every price known, the user's own in place of the shipped ones for the same device or model."""

    gpu_hours: tuple[GpuHourPrice, ...]
    api_tokens: tuple[ApiPrice, ...]
    electricity_usd_per_kilowatt_hour: float | None = None

    def gpu_hour(self, device: str, provider: str | None = None) -> tuple[GpuHourPrice, ...]:
        """Offers for a device, cheapest first; empty where none is known."""
        offers = [price for price in self.gpu_hours if price.device == device]
        if provider is not None:
            providers = sorted({price.provider for price in offers})
            offers = [price for price in offers if price.provider.lower() == provider.lower()]
            if not offers:
                raise UserError(
                    f"no price of {provider} is known for `{device}` "
                    f"(known: {', '.join(providers) or 'none'})",
                    hint=did_you_mean(provider, providers) or f"add it to a file named in {PRICES_VARIABLE}",
                )
        return tuple(sorted(offers, key=lambda price: price.usd))

    def middle_gpu_hour(self, device: str, provider: str | None = None) -> GpuHourPrice | None:
        """The middle offer (the cheaper of two), which somebody does ask; None where no price is known."""
        offers = self.gpu_hour(device, provider)
        return offers[(len(offers) - 1) // 2] if offers else None

    def api(self, model: str) -> ApiPrice:
        """The price of a model by its vendor's name; a UserError where it is not known."""
        for price in self.api_tokens:
            if price.model == model.lower():
                return price
        names = [price.model for price in self.api_tokens]
        raise UserError(
            f"no API price is known for `{model}`\n       models: {', '.join(names)}",
            hint=did_you_mean(model.lower(), names) or f"add it to a file named in {PRICES_VARIABLE}",
        )


class _SourceEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str
    seen: str


class _GpuHourEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    device: str
    provider: str
    offer: str = "on demand"
    usd: PositiveFloat
    read_on: datetime.date
    source: str


class _ApiEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str
    vendor: str
    input: PositiveFloat
    output: PositiveFloat
    cached_input: PositiveFloat | None = None
    read_on: datetime.date
    source: str
    note: str | None = None


class _PricesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    sources: dict[str, _SourceEntry] = {}
    gpu_hours: list[_GpuHourEntry] = []
    api_tokens: list[_ApiEntry] = []
    electricity_usd_per_kilowatt_hour: PositiveFloat | None = None


def load_prices(path: str | Path | None = None) -> Prices:
    """The shipped prices, under those of the user's file: `path`, else STILLMARK_PRICES, else none."""
    given = path or os.environ.get(PRICES_VARIABLE)
    if not given:
        return shipped_prices()
    ours, yours = shipped_prices(), _prices(_read(Path(given)), str(given))
    your_devices = {price.device for price in yours.gpu_hours}
    your_models = {price.model for price in yours.api_tokens}
    return Prices(
        gpu_hours=yours.gpu_hours + tuple(p for p in ours.gpu_hours if p.device not in your_devices),
        api_tokens=yours.api_tokens + tuple(p for p in ours.api_tokens if p.model not in your_models),
        electricity_usd_per_kilowatt_hour=(
            yours.electricity_usd_per_kilowatt_hour or ours.electricity_usd_per_kilowatt_hour
        ),
    )


@functools.cache
def shipped_prices() -> Prices:
    """What prices.yaml says."""
    text = resources.files("stillmark.compute").joinpath("prices.yaml").read_text(encoding="utf-8")
    return _prices(_PricesFile.model_validate(load_yaml(text, "prices.yaml")), "prices.yaml")


def _read(path: Path) -> _PricesFile:
    if not path.is_file():
        raise UserError(f"no price file at {path}", hint=f"it is named by `--prices` or {PRICES_VARIABLE}")
    data = load_yaml(read_text(path), str(path))
    try:
        return _PricesFile.model_validate(data or {})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UserError(
            f"{path}: {wrong}",
            hint="each price needs `read_on: YYYY-MM-DD` and `source`; see compute/prices.yaml for the form",
        ) from error


def _prices(file: _PricesFile, where: str) -> Prices:
    def source(key: str) -> str:
        """A key of `sources`, or free text in a user's file (`our contract`)."""
        entry = file.sources.get(key)
        return f"{entry.url} ({entry.seen})" if entry else key

    for entry in file.gpu_hours:
        if entry.device not in devices():
            raise UserError(
                f"{where}: gpu_hours: unknown device `{entry.device}`",
                hint=did_you_mean(entry.device, devices()),
            )
    return Prices(
        gpu_hours=tuple(
            GpuHourPrice(**entry.model_dump(exclude={"source"}), source=source(entry.source))
            for entry in file.gpu_hours
        ),
        api_tokens=tuple(
            ApiPrice(
                model=entry.model.lower(),
                vendor=entry.vendor,
                input_usd=entry.input,
                output_usd=entry.output,
                cached_input_usd=entry.cached_input,
                read_on=entry.read_on,
                source=source(entry.source),
                note=entry.note,
            )
            for entry in file.api_tokens
        ),
        electricity_usd_per_kilowatt_hour=file.electricity_usd_per_kilowatt_hour,
    )
