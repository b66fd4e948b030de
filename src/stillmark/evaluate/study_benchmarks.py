"""The benchmarks that a study asks its models: their rows, read once a process, and what a run finds them to be."""

from functools import cache
from pathlib import Path
from typing import Any

from stillmark.backends.api_journal import Journal
from stillmark.backends.tokens import TextCodec
from stillmark.errors import UserError
from stillmark.evaluate.engines import EndpointSettings, ModelRequest
from stillmark.evaluate.model import chat_of, sha256_text, tokenizer_hash, weights_hash
from stillmark.evaluate.prompt_lengths import Question, lengths_of, preview
from stillmark.evaluate.run_benchmark import (
    CHUNK_ITEMS,
    EvalSettings,
    chunks_of,
    continuations,
    is_put_as_chat,
)
from stillmark.models.given import given_tokenizer, source
from stillmark.study.benchmarks import Benchmarks, FoundBenchmark, OtherModel
from stillmark.tasks.benchmark import BenchmarkData, Mode
from stillmark.tasks.registry import find_benchmark


@cache
def rows_of(name: str, folder: str | None) -> tuple[BenchmarkData, Mode]:
    """A benchmark's rows and the mode that it is asked in. Raises UserError where they are not to be had."""
    benchmark, mode = find_benchmark(name)
    return BenchmarkData(benchmark, None if folder is None else Path(folder)), mode


def settings_of(asked: Benchmarks) -> EvalSettings:
    return EvalSettings(
        num_fewshot=asked.num_fewshot,
        shot_order=asked.shots,
        max_new_tokens=asked.max_new_tokens,
        chat=asked.chat,
    )


def questions_of(asked: Benchmarks | None) -> list[str]:
    """Every question, asked or not: none of them may be learned from."""
    if asked is None:
        return []
    return [row.question for name in asked.tasks for row in rows_of(name, asked.data)[0].rows]


def found_benchmarks(asked: Benchmarks, reader: str, tokenizer: Any) -> dict[str, FoundBenchmark]:
    """What each benchmark was found to be, as the tokenizer of the given model `reader` reads it."""
    if asked.chat == "always" and chat_of(tokenizer) is None:
        raise UserError(f"benchmarks.chat: `always`, but the tokenizer of models.{reader} has no chat template",
                        hint="leave `chat` out, or say `never`")  # fmt: skip
    return {name: found_benchmark(asked, name, tokenizer) for name in asked.tasks}


def found_benchmark(asked: Benchmarks, name: str, tokenizer: Any) -> FoundBenchmark:
    data, mode = rows_of(name, asked.data)
    settings, chat = settings_of(asked), chat_of(tokenizer)
    _, form = data.benchmark.form(mode)
    count, order = settings.shots_of(data.benchmark)
    if count:
        data.examples(0, count, order)  # reads the examples' file, so that `origin` names it
    is_chat = is_put_as_chat(settings, mode, has_template=chat is not None)
    chosen = data.chosen(asked.limit)

    def question(index: int) -> Question:
        prompt = data.prompt(index, mode, count, order, is_chat=is_chat)
        choices = continuations(form, data.rows[index], is_chat=is_chat) if mode == "loglikelihood" else ()
        return chat.apply(prompt) if chat and is_chat else prompt, choices

    chunks = preview([*chunks_of(chosen, CHUNK_ITEMS[mode])])
    lengths = lengths_of(TextCodec(tokenizer), ([question(index) for index in chunk] for chunk in chunks))
    return FoundBenchmark(
        task=data.benchmark.name,
        task_version=data.benchmark.version,
        task_settings=data.benchmark.settings,
        scorer=type(data.benchmark.scorer).__name__,
        mode=mode,
        likelihood_rule=form.rule if mode == "loglikelihood" else None,
        origin=dict(data.origin),
        num_items=len(chosen),
        chance=data.chance_of(chosen),
        prompt_tokens=lengths.prompt_tokens,
        read_tokens=lengths.read_tokens,
        new_tokens=settings.max_new_tokens or form.max_new_tokens
        if mode == "generation"
        else lengths.scored_tokens,
    )


def reading_sha256(tokenizer: Any) -> str:
    """Of a tokenizer with its chat template."""
    chat = chat_of(tokenizer)
    return sha256_text(tokenizer_hash(tokenizer) + (chat.template if chat else ""))


def other_sha256(other: OtherModel) -> str:
    """Of a local model that is no arm: its weights, tokenizer and chat template. A GGUF holds them all."""
    source(other.model, other.revision)  # says where there is none
    weights = weights_hash(other.model, other.revision)
    if other.engine == "llamacpp":
        if Path(other.model).suffix != ".gguf":
            raise UserError(f"{other.model}: the engine llamacpp reads a .gguf file")
        return weights
    return sha256_text(weights + reading_sha256(given_tokenizer(other.model, other.revision)))


def endpoint_request(other: OtherModel, journal: Journal | None = None) -> ModelRequest:
    """How an endpoint is opened; replies that are paid for go to `journal`."""
    endpoint = EndpointSettings(
        base_url=other.base_url,
        kind=other.kind,
        key_variable=other.key_variable,
        price_model=other.price_model,
    )
    return ModelRequest(model=other.model, engine="openai", endpoint=endpoint, journal=journal)
