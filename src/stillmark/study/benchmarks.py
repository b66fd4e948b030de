"""The `benchmarks:` section of a study: public benchmarks that a text study's models answer when they are trained."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from stillmark.errors import did_you_mean
from stillmark.study.base import Count, Name, Strict


class FoundBenchmark(Strict):
    """What a run found a benchmark to be: how it is asked and graded, where its rows came from, how large they are.

    With it a plan, a report and a verification need neither its files nor, of a user's task, its YAML.
    """

    task: str
    task_version: Count
    task_settings: dict[str, Any]
    scorer: str
    mode: Literal["generation", "loglikelihood"]
    likelihood_rule: Literal["sum", "per_character"] | None  # None: answers are written
    origin: dict[str, Any]
    num_items: Count  # that are asked
    chance: Annotated[float, Field(gt=0, le=1)] | None  # accuracy of a guess; None: answers are open
    prompt_tokens: Count  # of a question as it is sent: the mean of some, as those below
    new_tokens: Count  # of an answer at most; by likelihood, of all choices: their first ones count as one
    read_tokens: Count | None = None
    """Positions that our engine reads for a question and its choices, where it reads once what those that are asked
    together begin with. None: not known, as in a run of an earlier version."""

    def without_lengths(self) -> dict[str, Any]:
        """What it is, without what predicts its cost."""
        return self.model_dump(exclude={"prompt_tokens", "new_tokens", "read_tokens"})


class OtherModel(Strict):
    """A model that is no arm and answers the same items: of another family, or a proprietary one behind an endpoint.

    What is said of an endpoint is as in `stillmark eval`; its key is read from the environment and never kept.
    """

    model: str  # a directory, hub id or .gguf; of the engine openai the name that the endpoint knows
    engine: Literal["transformers", "llamacpp", "openai"] = "transformers"
    revision: str | None = None  # of a hub id
    base_url: str | None = None  # of the engine openai; None: OpenAI's
    kind: Literal["chat", "completions"] = "chat"
    key_variable: str | None = None
    price_model: str | None = None  # its name in the price list; None: `model`, at OpenAI's own address
    # Filled in when a run begins: of weights, tokenizer and chat template, an endpoint's are not known; and what an
    # endpoint asks, with the day that it was read and its source
    sha256: str | None = None
    price: str | None = None


class OtherReader(Strict):
    """What benchmarks were found to be as another tokenizer reads them than the first asked arm's."""

    resolved: dict[str, FoundBenchmark]
    tokenizer_sha256: str


class Benchmarks(Strict):
    """What arms are asked, greedily, as `stillmark eval` asks it. None: as the benchmark does it.

    `checkpoints`: `all` gives accuracy over compute and the compute ratio at equal accuracy.

    Filled in when a run begins: `resolved`, what the files were, by the name under `tasks`, as the first asked arm's
    tokenizer reads them; and where asked arms have several vocabularies `other_readers`, by the given model whose
    tokenizer it is.
    """

    tasks: Annotated[list[str], Field(min_length=1)]  # as `stillmark eval --tasks` takes them
    data: str | None = None  # folder with the benchmarks' files; None: the hub
    arms: list[str] = Field(default=[])  # with their controls and quantised variants; none named: all
    checkpoints: Literal["last", "all"] = "last"
    others: dict[Name, OtherModel] = Field(default={})
    limit: Count | None = None  # items of each, picked by their ids
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    shots: Literal["by_item", "fixed"] | None = None
    chat: Literal["auto", "always", "never"] = (
        "auto"  # auto: the chat template for generation, where there is one
    )
    max_new_tokens: Count | None = None
    resolved: dict[str, FoundBenchmark] | None = None
    tokenizer_sha256: str | None = None  # with its chat template
    other_readers: dict[Name, OtherReader] = Field(default={})

    def read_by(self, model: str) -> "Benchmarks":
        """The same, as the tokenizer of this given model reads it."""
        other = self.other_readers.get(model)
        return self if other is None else self.model_copy(update=dict(other))


def benchmark_faults(raw: Mapping[str, Any], arms: Mapping[str, Any], *, is_text: bool) -> Iterator[str]:
    """What the schema alone cannot see, one line each. `raw` is the section as it stands in the file."""
    if not is_text:
        yield ("benchmarks: goes with text tasks: the models of a question task know that task's words alone; "
               "`stillmark eval` asks any model")  # fmt: skip
    others = raw.get("others")
    for name in others if isinstance(others, Mapping) else ():
        if name in arms:
            yield f"benchmarks.others.{name}: an arm has this name; give the model another"
    for key, possible in (("arms", arms), ("tasks", None)):
        named = raw.get(key)
        names = [str(name) for name in named] if isinstance(named, list) else []
        for index, name in enumerate(names):
            if possible is not None and name not in possible:
                near = did_you_mean(name, possible) or "arms: " + ", ".join(map(str, possible))
                yield f"benchmarks.{key}[{index}]: there is no arm `{name}`; {near}"
        if len(set(names)) < len(names):
            yield f"benchmarks.{key}: the same one is named twice"
