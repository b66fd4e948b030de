"""An engine whose replies are written down beforehand, small enough to read."""

from collections.abc import Callable, Sequence

from stillmark.backends.protocol import Loglikelihood, Reply, Sampling, StopReason
from stillmark.evaluate.model import Chat, LoadedModel


class FakeBackend:
    """Replies by a function of the prompt; one token a character. `fail_after`: prompts until it breaks."""

    def __init__(self, answer: Callable[[str], str], fail_after: int | None = None) -> None:
        self.answer, self.fail_after = answer, fail_after
        self.prompts: list[str] = []
        self.work = None

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        replies = []
        for prompt in prompts:
            if self.fail_after is not None and len(self.prompts) >= self.fail_after:
                raise KeyboardInterrupt
            self.prompts.append(prompt)
            text = self.answer(prompt)
            cut = text[: sampling.max_new_tokens]
            reply = Reply(
                text=cut,
                stop_reason=StopReason.LENGTH if len(text) >= sampling.max_new_tokens else StopReason.STOP,
                prompt_tokens=len(prompt),
                generated_tokens=len(cut) + (len(text) < sampling.max_new_tokens),
                prefill_seconds=0.1,
                decode_seconds=0.2,
            )
            replies.append([reply] * sampling.num_samples)
        return replies

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        self.prompts += [prompt for prompt, _ in requests]
        return [
            Loglikelihood(
                loglikelihood=-float(len(text)),
                is_greedy=False,
                prompt_tokens=len(prompt),
                continuation_tokens=len(text),
                seconds=0.1,
            )
            for prompt, text in requests
        ]


def fake_model(backend: FakeBackend, name: str = "fake", chat: Chat | None = None) -> LoadedModel:
    return LoadedModel(
        label=name,
        backend=backend,
        identity={"weights": name, "engine": "fake"},
        chat=chat,
        token_ends=lambda text: list(range(1, len(text) + 1)),
    )
