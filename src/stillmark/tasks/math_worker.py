"""The process that runs math-verify: reads JSON lines, writes JSON lines, and is killed when it hangs.

math-verify limits itself by SIGALRM: wall seconds, in a main thread only, and without effect on a long computation
in C. Its parser evaluates expressions from model output. So it has a process of its own, with a limit in CPU
seconds, so that a busy machine grades as a quiet one does. This file is run by its path, imports nothing of
Stillmark, and keeps stdout for the protocol.
"""

import json
import os
import signal
import sys
import warnings
from types import FrameType

LIMIT_CPU_SECONDS = 10.0


class OutOfTimeError(BaseException):
    """Not an Exception: math-verify catches those."""


def stop(number: int, frame: FrameType | None) -> None:
    raise OutOfTimeError


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    warnings.simplefilter("ignore")
    import math_verify

    math_verify.verify(math_verify.parse("$1$", parsing_timeout=None), [], timeout_seconds=None)
    signal.signal(signal.SIGPROF, stop)
    out.write(json.dumps({"ready": True}) + "\n")
    out.flush()
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, object] = {"value": None, "is_right": None}
        try:
            signal.setitimer(signal.ITIMER_PROF, LIMIT_CPU_SECONDS)
            found = math_verify.parse(request["answer"], parsing_timeout=None)
            wanted = math_verify.parse(request["target"], parsing_timeout=None)
            if not wanted:
                reply["error"] = f"math-verify cannot read the target {request['target'][:80]!r}"
            elif found:
                reply["value"] = str(found[-1])[:500]
                reply["is_right"] = bool(
                    math_verify.verify(wanted, found, timeout_seconds=None, raise_on_error=True)
                )
        except OutOfTimeError:
            reply["error"] = f"math-verify ran out of {LIMIT_CPU_SECONDS:.0f} CPU seconds"
        except Exception as error:  # a parser of arbitrary text fails in ways of its own: told, never fatal
            reply["error"] = f"{type(error).__name__}: {error}"[:300]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
