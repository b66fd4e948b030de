"""How soon a report's page opens: wall seconds in headless Chromium, of `benchmarks.report`."""

import tempfile
import time
from pathlib import Path


def opening_seconds(page: Path, num_times: int = 5) -> list[float | None]:
    """Wall seconds until headless Chromium, each time anew, has loaded the page, run its script and painted."""
    from tests.report.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        return [None]
    found: list[float | None] = []
    for _ in range(num_times):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = Browser(Path(profile))
            started = time.perf_counter()
            browser.open(page)
            painted = "new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(drawn.places.length))))"
            assert browser.run(painted) > 0, "the chart is empty"
            found.append(time.perf_counter() - started)
            assert browser.errors == [], browser.errors
            browser.close()
    return found


def stated(seconds: list[float | None]) -> str:
    known = sorted(value for value in seconds if value is not None)
    return (
        f"{known[len(known) // 2]:.2f} ({known[0]:.2f} to {known[-1]:.2f})" if known else "no Chromium here"
    )
