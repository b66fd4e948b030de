"""lm-evaluation-harness's tasks on our engine (extra `lm-eval`).

`StillmarkLM` is what lm-eval calls a model: its tasks, prompts, filters and metrics, our engine's answers. From
Python: `lm_eval.simple_evaluate(model=StillmarkLM(backend), tasks=["arc_easy"])`, or `run_lm_eval`. From
lm-eval's own side, after `import stillmark.backends.lm_eval_bridge`, it is the model named `stillmark`.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stillmark.backends.protocol import Loglikelihood, Reply, Sampling, StopReason
from stillmark.backends.tokens import TokenIds
from stillmark.backends.transformers import TransformersBackend, load_backend
from stillmark.errors import UserError

try:
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise UserError(
        f"lm-evaluation-harness could not be imported: {error}", "pip install 'stillmark[lm-eval]'"
    ) from error

DEFAULT_NEW_TOKENS = 256  # lm-eval's own, where a task names no limit
DEFAULT_WINDOW_TOKENS = 2048  # lm-eval's own, where a model names no window


@register_model("stillmark")
class StillmarkLM(LM):  # type: ignore[misc]
    """One loaded backend, in lm-eval's terms. Its settings for a task's generation are honoured or refused."""

    def __init__(
        self, backend: TransformersBackend | None = None, *, pretrained: str | None = None, **options: Any
    ) -> None:
        super().__init__()
        if backend is None:
            if pretrained is None:
                raise UserError("the model `stillmark` needs a model to load", "--model_args pretrained=PATH")
            # What lm-eval's command line passes to every model; our batches are made by tokens
            for name in ("batch_size", "max_batch_size"):
                options.pop(name, None)
            backend = load_backend(pretrained, **options)
        self.backend = backend
        self.num_truncated_prompts = 0
        self.answers: dict[str, Loglikelihood | Reply] = {}  # by request: what lm-eval does not keep of them

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        results = self.backend.loglikelihood([request.args for request in requests])
        self.answers |= {
            _name(request.args): result for request, result in zip(requests, results, strict=True)
        }
        answers = [(result.loglikelihood, result.is_greedy) for result in results]
        self._note("loglikelihood", requests, answers)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each whole text, in windows of which each token is predicted once."""
        pairs: list[tuple[TokenIds, TokenIds]] = []
        text_of_pair: list[int] = []
        [start_ids] = self.backend.codec.encode_prompts([""])
        for index, request in enumerate(requests):
            [ids] = self.backend.codec.encode([request.args[0]])
            windows = get_rolling_token_windows(
                token_list=list(ids),
                prefix_token=start_ids[0],
                max_seq_len=self._window_tokens,
                context_len=1,
            )
            for prompt, continuation in map(make_disjoint_window, windows):
                pairs.append((tuple(prompt), tuple(continuation)))
                text_of_pair.append(index)
        totals = [0.0] * len(requests)
        for index, result in zip(text_of_pair, self.backend.loglikelihood_of_tokens(pairs), strict=True):
            totals[index] += result.loglikelihood
        self._note("loglikelihood_rolling", requests, totals)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        groups: dict[str, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[json.dumps(request.args[1], sort_keys=True)].append(index)
        texts = [""] * len(requests)
        for indices in groups.values():
            prompts = [requests[index].args[0] for index in indices]
            for index, reply in zip(indices, self._write(prompts, requests[indices[0]].args[1]), strict=True):
                texts[index] = reply.text
                self.answers.setdefault(_name(requests[index].args), reply)
        self._note("generate_until", requests, texts)
        return texts

    @property
    def tokenizer_name(self) -> str:
        name: str = self.backend.tokenizer.name_or_path
        return name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that prompts are written by, for lm-eval's record."""
        if not chat_template:
            return None
        template: str = self.backend.tokenizer.get_chat_template(
            None if chat_template is True else chat_template
        )
        return template

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True, **kwargs: Any
    ) -> str:
        text: str = self.backend.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    @property
    def _window_tokens(self) -> int:
        return self.backend.window_tokens or DEFAULT_WINDOW_TOKENS

    def _write(self, prompts: Sequence[str], settings: dict[str, Any]) -> list[Reply]:
        """Replies to prompts with the same settings. A prompt that is asked n times (`repeats`) gets n samples."""
        sampling = _sampling_of(settings)
        # As lm-eval: a prompt that leaves no room for the new tokens loses its beginning
        room = self._window_tokens - sampling.max_new_tokens
        if room < 1:
            raise UserError(
                f"{sampling.max_new_tokens} new tokens do not fit the model's window of {self._window_tokens}",
                "set a smaller max_gen_toks",
            )
        whole = self.backend.codec.encode_prompts(prompts)
        self.num_truncated_prompts += sum(len(ids) > room for ids in whole)
        prompt_ids = [ids[-room:] for ids in whole]
        sample_of, times_asked = [], defaultdict[TokenIds, int](int)
        for ids in prompt_ids:
            sample_of.append(times_asked[ids])
            times_asked[ids] += 1
        unique = list(times_asked)
        num_samples = max(times_asked.values()) if sampling.temperature > 0 else 1
        sampling = Sampling(
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            num_samples=num_samples,
            stop=sampling.stop,
        )
        replies_of = dict(zip(unique, self.backend.generate_from_tokens(unique, sampling), strict=True))
        replies = [
            replies_of[ids][sample % num_samples] for ids, sample in zip(prompt_ids, sample_of, strict=True)
        ]
        for reply in replies:
            if reply.stop_reason == StopReason.ERROR:
                raise RuntimeError(reply.error)
        return replies

    def _note(self, kind: str, requests: Sequence[Any], answers: Sequence[Any]) -> None:
        """Hand answers to lm-eval's cache, where it is in use."""
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial(kind, request.args, answer)


def run_lm_eval(backend: TransformersBackend, task_names: Sequence[str], **settings: Any) -> dict[str, Any]:
    """lm-eval's results for these of its tasks; `settings` go to `lm_eval.simple_evaluate` (limit, num_fewshot)."""
    model = StillmarkLM(backend)
    results: dict[str, Any] = lm_eval.simple_evaluate(model=model, tasks=list(task_names), **settings)
    for samples in results.get("samples", {}).values():
        for sample in samples:  # tokens, seconds and how a reply ended, of each of its requests
            answers = [model.answers.get(_name(arguments)) for arguments in sample["arguments"]]
            sample["answers"] = [asdict(answer) for answer in answers if answer is not None]
    return results


def _name(arguments: Any) -> str:
    return json.dumps(list(arguments), sort_keys=True, default=str)


def _sampling_of(settings: dict[str, Any]) -> Sampling:
    """A task's `generation_kwargs` as our settings. One that would change the text and is not ours is refused."""
    known = normalize_gen_kwargs(settings, DEFAULT_NEW_TOKENS)
    is_sampled = bool(known.pop("do_sample", False))
    until = known.pop("until", None) or []
    sampling = Sampling(
        max_new_tokens=int(known.pop("max_gen_toks")),
        temperature=float(known.pop("temperature", None) or 1.0) if is_sampled else 0.0,
        top_p=float(known.pop("top_p", None) or 1.0) if is_sampled else 1.0,
        stop=tuple([until] if isinstance(until, str) else until),
    )
    for name in ("temperature", "top_p"):
        known.pop(name, None)
    unknown = {name: value for name, value in known.items() if not _has_no_effect(name, value, is_sampled)}
    if unknown:
        raise UserError(
            f"the task sets {unknown} for generation, which this engine does not do",
            "it knows until, max_gen_toks, do_sample, temperature and top_p",
        )
    return sampling


def _has_no_effect(name: str, value: Any, is_sampled: bool) -> bool:
    only_sampling = name in ("top_k", "min_p", "typical_p") and not is_sampled
    neutral = {"num_beams": 1, "repetition_penalty": 1.0, "top_k": 0, "min_p": 0.0, "num_return_sequences": 1}
    return value is None or only_sampling or name == "use_cache" or neutral.get(name, object()) == value
