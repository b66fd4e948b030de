"""When to ask an endpoint again, and how long to wait before.

| what came | what is done |
|---|---|
| 429 | all requests wait as long as Retry-After says, else with backoff; the account's quota: the run stops |
| 408, 409, 5xx, timeouts, lost connections, broken replies | asked again with backoff, `max_attempts` in all |
| 401, 403, 404 | the run stops with a UserError: no request can succeed |
| no connection, and none was ever made | the run stops with a UserError after `max_first_attempts` |
| other 4xx | this sample is an error, with the endpoint's message |
"""

import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from stillmark.backends.api_request import BrokenReplyError
from stillmark.errors import UserError

T = TypeVar("T")
TRANSPORT_MODULES = ("httpx", "httpx2", "httpcore", "httpcore2", "h11", "ssl")
HOPELESS_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    max_attempts: int = 6  # for one sample; waiting for a rate limit is not counted
    max_first_attempts: int = 3  # where no connection to the endpoint was ever made
    backoff_seconds: float = 0.5  # doubled with each attempt, and a random share of it is taken
    max_backoff_seconds: float = 30.0
    rate_limit_seconds: float = 900.0  # how long one sample waits for a rate limit in all
    timeout_seconds: float = 120.0  # without a byte
    requests_per_minute: float | None = None


class SampleFailedError(Exception):
    """This sample cannot be had; others may be."""

    def __init__(self, message: str, num_attempts: int) -> None:
        super().__init__(message)
        self.num_attempts = num_attempts


class Pace:
    """The gate that all requests pass: evenly spaced, and closed while the endpoint wants a pause. When a run
    is given up, `stopped` lets nothing more through.
    """

    def __init__(self, requests_per_minute: float | None) -> None:
        self._gap_seconds = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0
        self.stopped = threading.Event()

    def wait(self) -> None:
        while True:
            if self.stopped.is_set():
                raise SampleFailedError("the run was stopped", 0)
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._gap_seconds
                    return
                patience = self._next - now
            self.stopped.wait(patience)

    def pause(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def retry_after_seconds(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """What `retry-after-ms` or `Retry-After` (seconds or a date, RFC 9110 10.2.3) asks for, or None."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        moment = email.utils.parsedate_to_datetime(value).timestamp()
        return max(0.0, moment - (time.time() if now is None else now))
    except (ValueError, TypeError):
        return None


class Attempts:
    """Asks until it has an answer or a reason why not. `redact` takes the key out of what is shown."""

    def __init__(
        self, policy: RetryPolicy, pace: Pace, redact: Callable[[str], str], address: str = "the endpoint"
    ) -> None:
        self.policy = policy
        self.pace = pace
        self.redact = redact
        self.address = address
        self.has_connected = False

    def run(self, ask: Callable[[], T]) -> tuple[T, int]:
        """The answer and how many attempts it took."""
        num_attempts, num_failed, waited_seconds = 0, 0, 0.0
        while True:
            self.pace.wait()
            num_attempts += 1
            try:
                answer = ask()
                self.has_connected = True
                return answer, num_attempts
            except Exception as error:
                self.has_connected = self.has_connected or not _is_unconnected(error)
                if _is_rate_limit(error):
                    delay = retry_after_seconds(_headers(error))
                    delay = self._backoff(num_attempts) if delay is None else delay
                    waited_seconds += delay
                    if waited_seconds > self.policy.rate_limit_seconds:
                        reason = f"rate limited for {waited_seconds:.0f} s: {self._text(error)}"
                        raise SampleFailedError(reason, num_attempts) from None
                    self.pace.pause(delay)
                    continue
                if not self._is_worth_another(error, num_attempts):
                    raise
                num_failed += 1
                if not self.has_connected and num_failed >= self.policy.max_first_attempts:
                    raise UserError(
                        f"nothing answers at {self.address} ({num_failed} attempts): {self._text(error)}",
                        "check the address (--base-url), and that the server runs",
                    ) from None
                if num_failed >= self.policy.max_attempts:
                    reason = f"{num_failed} attempts failed, the last with {self._text(error)}"
                    raise SampleFailedError(reason, num_attempts) from None
                self.pace.stopped.wait(self._backoff(num_failed))

    def _is_worth_another(self, error: Exception, num_attempts: int) -> bool:
        """True for what may pass; False for what is no failure of the endpoint; raises where it is final."""
        if isinstance(error, BrokenReplyError) or _is_transport(error):
            return True
        status = getattr(error, "status_code", None)
        if status is None:
            return False
        if status in (401, 403, 404) or _code(error) in HOPELESS_CODES:
            raise UserError(
                f"the endpoint refused: {self._text(error)}",
                "check the key's variable, the address, the model's name and the account",
            ) from None
        if status in (408, 409) or status >= 500:
            return True
        raise SampleFailedError(self._text(error), num_attempts) from None

    def _backoff(self, num_failed: int) -> float:
        longest = min(self.policy.max_backoff_seconds, self.policy.backoff_seconds * 2 ** (num_failed - 1))
        return random.uniform(longest / 2, longest)

    def _text(self, error: Exception) -> str:
        status = getattr(error, "status_code", None)
        head = f"HTTP {status}: " if status is not None else f"{type(error).__name__}: "
        return self.redact(f"{head}{error}")[:500]


def _is_rate_limit(error: Exception) -> bool:
    return getattr(error, "status_code", None) == 429 and _code(error) not in HOPELESS_CODES


def _code(error: Exception) -> Any:
    return getattr(error, "code", None) or getattr(error, "type", None)


def _headers(error: Exception) -> Mapping[str, str]:
    return getattr(getattr(error, "response", None), "headers", {})


def _is_unconnected(error: BaseException | None) -> bool:
    """Refused, or a name that nobody knows: the HTTP library's ConnectError, under the SDK's own error."""
    while error is not None:
        if type(error).__name__ == "ConnectError" or isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_transport(error: Exception) -> bool:
    """Timeouts and lost connections, from the SDK or from the HTTP library below it."""
    if type(error).__name__ in ("APIConnectionError", "APITimeoutError"):
        return True
    return type(error).__module__.partition(".")[0] in TRANSPORT_MODULES or isinstance(error, ConnectionError)
