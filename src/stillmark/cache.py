"""Where a machine keeps what later runs may use again: hashes of large files, the paces of its profiles."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """STILLMARK_CACHE, else `stillmark` in the user's cache folder. Raises RuntimeError where there is no home."""
    if os.environ.get("STILLMARK_CACHE"):
        return Path(os.environ["STILLMARK_CACHE"])
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "stillmark"
