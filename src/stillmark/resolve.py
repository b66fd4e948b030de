"""What a study refers to, found before it is planned: given models' configs and hashes, text files as tokens.

The resolved study is kept with the records, so that plan, report and verification need neither model nor file.
"""

from collections.abc import Mapping
from typing import Any

from stillmark.benchmark_plan import label_of
from stillmark.distill.corpus import read_corpus
from stillmark.distill.vocabulary import vocabulary_sha256
from stillmark.errors import UserError
from stillmark.evaluate.engines import open_model
from stillmark.evaluate.model import weights_hash
from stillmark.evaluate.study_benchmarks import (
    endpoint_request,
    found_benchmarks,
    other_sha256,
    questions_of,
    reading_sha256,
)
from stillmark.models.given import given_config, given_tokenizer
from stillmark.study.benchmarks import Benchmarks, FoundBenchmark, OtherModel
from stillmark.study.schema import GivenModel, Study, Text


def resolve(study: Study) -> Study:
    """The study with what its models and files were found to be. What it pins must be found so."""
    models = {name: resolved_model(name, spec) for name, spec in study.models.items()}
    found = study.model_copy(update={"models": models})
    if not study.is_text:
        return found
    given = found.first_given
    tokenizer = given_tokenizer(given.checkpoint, given.revision)
    require_one_tokenizer(found, tokenizer)
    tasks = {}
    for name, spec in study.tasks.items():
        assert isinstance(spec, Text), name
        assert given.config is not None, name
        plain = spec.model_copy(update={"resolved": None})
        corpus = read_corpus(plain, tokenizer, questions_of(study.benchmarks))
        facts = corpus.resolved(int(given.config["vocab_size"]))
        if spec.resolved is not None and spec.resolved != facts:
            raise UserError(f"tasks.{name}: its files are not those that `resolved` pins",
                            hint="restore the files, or remove `resolved`")  # fmt: skip
        tasks[name] = spec.model_copy(update={"resolved": facts})
    benchmarks = resolved_benchmarks(study.benchmarks, tokenizer) if study.benchmarks else None
    return found.model_copy(update={"tasks": tasks, "benchmarks": benchmarks})


def resolved_benchmarks(asked: Benchmarks, tokenizer: Any) -> Benchmarks:
    """What is asked, and of whom: mistakes are found before anything is trained."""
    facts, sha256 = found_benchmarks(asked, tokenizer), reading_sha256(tokenizer)
    if asked.resolved not in (None, facts) or asked.tokenizer_sha256 not in (None, sha256):
        raise UserError("benchmarks: the files are not those that `resolved` pins",
                        hint="restore the files, or remove `resolved`")  # fmt: skip
    others = {name: resolved_other(name, other, facts) for name, other in asked.others.items()}
    found = asked.model_copy(update={"resolved": facts, "others": others, "tokenizer_sha256": sha256})
    labels = [label_of(found, name) for name in found.tasks]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"benchmarks.tasks: two of them are called `{label}`",
                            hint="give one of the YAML files another `name`")  # fmt: skip
    return found


def resolved_other(name: str, other: OtherModel, found: Mapping[str, FoundBenchmark]) -> OtherModel:
    """A model that is no arm, by its files; an endpoint has none to show, and may have no likelihoods."""
    if other.engine == "openai":
        scored = [task for task, facts in found.items() if facts.mode == "loglikelihood"]
        if other.kind == "chat" and scored:
            raise UserError(
                f"benchmarks.others.{name}: a chat endpoint gives no likelihoods, which `{scored[0]}` asks for",
                hint=f"name the benchmark `{scored[0].partition('@')[0]}@generation`",
            )
        model = open_model(endpoint_request(other))  # says where a key or a package is missing
        model.close()
        return other.model_copy(update={"price": model.price})
    sha256 = other_sha256(other)
    if other.sha256 not in (None, sha256):
        raise UserError(f"benchmarks.others.{name}: {other.model} is not the model that `sha256` pins",
                        hint="point `model` to that model, or remove the pin")  # fmt: skip
    return other.model_copy(update={"sha256": sha256})


def require_one_tokenizer(study: Study, tokenizer: Any) -> None:
    """A text study is read with one tokenizer: a model with another would be given tokens that are not its own."""
    expected = vocabulary_sha256(tokenizer)
    for name, spec in study.models.items():
        if not isinstance(spec, GivenModel) or spec is study.first_given:
            continue
        if vocabulary_sha256(given_tokenizer(spec.checkpoint, spec.revision)) != expected:
            raise UserError(
                f"models.{name}: {spec.checkpoint} has another vocabulary than {study.first_given.checkpoint}",
                hint="a text study's models share a tokenizer; across tokenizers there is `loss: uld` in the library",
            )


def resolved_model(name: str, spec: object) -> object:
    if not isinstance(spec, GivenModel):
        return spec
    config = given_config(spec.checkpoint, spec.revision)
    sha256 = weights_hash(spec.checkpoint, spec.revision)
    if spec.weights_sha256 not in (None, sha256):
        raise UserError(f"models.{name}: {spec.checkpoint} is not the model that `weights_sha256` pins",
                        hint="point `checkpoint` to that model, or remove the pin")  # fmt: skip
    return spec.model_copy(update={"config": config, "weights_sha256": sha256})
