"""Amounts of memory as people write them."""

from stillmark.errors import UserError

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "KB": 1000, "MB": 10**6, "GB": 10**9}


def bytes_of(text: str) -> int:
    """`150M` is 150 MiB, `1.5GB` is 1.5 billion bytes, `1000000` is bytes."""
    number = text.strip().upper().removesuffix("IB")
    digits = number.rstrip("KMGB")
    try:
        return int(float(digits) * UNITS[number[len(digits) :]])
    except (ValueError, KeyError, OverflowError) as error:
        raise UserError(
            f"`{text}` is not an amount of memory", hint="for example 512M, 1.5G or 2GB"
        ) from error
