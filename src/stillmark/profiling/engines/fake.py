"""An engine with known times, for tests and for measuring what the harness itself costs.

`model` holds the times in seconds: `prefill=0.02,token=0.005`. It waits or, with `spin=1`, computes.
"""

import time

from stillmark.profiling.workload import Batch, EngineSpec, ModelFacts, Timeline, Workload


def prepare(spec: EngineSpec) -> None:
    pass


def load(spec: EngineSpec, prepared: None = None) -> "FakeEngine":
    return FakeEngine(spec)


class FakeEngine:
    """Each token takes exactly as long as was asked, apart from the clock's own grain."""

    def __init__(self, spec: EngineSpec) -> None:
        times = dict(part.split("=") for part in spec.model.split(",") if "=" in part)
        self._prefill_seconds = float(times.get("prefill", 0))
        self._token_seconds = float(times.get("token", 0))
        self._is_spinning = times.get("spin") == "1"
        self._allocated = bytearray(int(float(times.get("memory", 0))))
        self._allocated[::4096] = b"x" * len(self._allocated[::4096])  # touched, so that it is resident
        self.load_seconds = 0.0
        self.facts = ModelFacts(name="fake", engine="fake", vocab_size=1000)

    def run(self, workload: Workload, variant: int) -> Batch:
        workload.prompts(1000, variant)
        scheduled = time.perf_counter()
        self._pass(scheduled + self._prefill_seconds)
        arrivals = [time.perf_counter() - scheduled]
        for step in range(1, workload.new_tokens):
            self._pass(scheduled + self._prefill_seconds + step * self._token_seconds)
            arrivals.append(time.perf_counter() - scheduled)
        one = Timeline(
            prompt_tokens=workload.prompt_tokens, token_seconds=tuple(arrivals), end_seconds=arrivals[-1]
        )
        return Batch(timelines=(one,) * workload.batch)

    def answer(self, prompt: str, max_new_tokens: int) -> Timeline:
        length = min(len(prompt) or 1, max_new_tokens)  # answers as long as the prompt's letters
        return self.run(Workload(prompt_tokens=len(prompt) or 1, new_tokens=length), 0).timelines[0]

    def close(self) -> None:
        pass

    def _pass(self, until: float) -> None:
        if self._is_spinning:
            while time.perf_counter() < until:
                pass
        else:
            time.sleep(max(0.0, until - time.perf_counter()))
