"""Where the shared notes and data lie, for tests that read them."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SHARED = Path(os.environ.get("STILLMARK_SHARED", ROOT.parent / "shared"))
SHARED: Path | None = _SHARED if _SHARED.is_dir() else None
