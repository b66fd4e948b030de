"""What a study refers to, found before it is planned: given models' configs and hashes, text files as tokens.

The resolved study is kept with the records, so that plan, report and verification need neither model nor file.
"""

from collections.abc import Mapping
from typing import Any

from stillmark.benchmark_plan import benchmarked_arms, label_of
from stillmark.distill.corpus import read_corpus
from stillmark.distill.objective_uld import compared_text
from stillmark.distill.trackers import require_trackers
from stillmark.distill.vocabulary import num_token_rows, vocabulary_sha256
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
from stillmark.sizes import Sizes
from stillmark.study.benchmarks import Benchmarks, FoundBenchmark, OtherModel, OtherReader
from stillmark.study.schema import ComparedText, GivenModel, PrunedModel, Study, Text


def resolve(study: Study) -> Study:
    """The study with what its models and files were found to be. What it pins must be found so."""
    if study.track:
        require_trackers(study.track)
    models = {name: resolved_model(name, spec) for name, spec in study.models.items()}
    found = study.model_copy(update={"models": models})
    if study.is_text:
        found = resolved_texts(found)
    require_buildable(found)
    return found


def resolved_texts(found: Study) -> Study:
    """A text study with what its tokenizers make of its files and benchmarks."""
    tokenizers = {
        name: given_tokenizer(spec.checkpoint, spec.revision)
        for name, spec in found.models.items()
        if isinstance(spec, GivenModel)
    }
    require_fit(found, tokenizers)
    found = with_vocabularies(found, tokenizers)
    require_kept(found, tokenizers)
    tasks = {}
    for name, spec in found.tasks.items():
        assert isinstance(spec, Text), name
        facts = resolved_text(found, name, spec, tokenizers)
        require_pinned(f"tasks.{name}", spec, facts)
        tasks[name] = spec.model_copy(update=facts)
    benchmarks = resolved_benchmarks(found, found.benchmarks, tokenizers) if found.benchmarks else None
    return found.model_copy(update={"tasks": tasks, "benchmarks": benchmarks})


def require_fit(study: Study, tokenizers: Mapping[str, Any]) -> None:
    """Refuses a tokenizer that its model cannot read from, and text that is longer than a model has positions."""
    context = max(spec.context_tokens for spec in study.tasks.values() if isinstance(spec, Text))
    for name, tokenizer in tokenizers.items():
        spec = study.models[name]
        assert isinstance(spec, GivenModel), name
        assert spec.config is not None, name
        if tokenizer.eos_token_id is None:
            raise UserError(f"models.{name}: its tokenizer has no end token, which every text ends with",
                            hint="name one as `eos_token` in its tokenizer_config.json")  # fmt: skip
        rows, highest = int(spec.config["vocab_size"]), num_token_rows(tokenizer) - 1
        if highest >= rows:
            raise UserError(f"models.{name}: its tokenizer has the id {highest:,}, but the model has {rows:,} rows",
                            hint="give it the tokenizer that it was trained with")  # fmt: skip
        positions = spec.config.get("max_position_embeddings") or spec.config.get("n_positions")
        if positions and context > positions:
            raise UserError(f"context_tokens: is {context:,}, but models.{name} has {positions:,} positions",
                            hint="lower it (`stillmark distill --context`)")  # fmt: skip


def require_buildable(study: Study) -> None:
    """Refuses a model whose FLOPs no formula is known of, and sizes that an architecture cannot have."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    from stillmark.models.prune import require_known_kind

    sizes = Sizes(study)
    for name, arm in study.arms.items():
        config, spec = sizes.config(name), study.models[arm.model]
        try:
            sizes.shape(name)
        except UserError as error:
            given = f" ({spec.checkpoint})" if isinstance(spec, GivenModel) else ""
            reason = error.message.partition("\n")[0]
            raise UserError(f"models.{arm.model}{given}: {reason}",
                            "use a causal language model, such as a Llama, Qwen or Gemma") from error  # fmt: skip
        if isinstance(spec, GivenModel):
            continue
        try:
            transformers_config = AutoConfig.for_model(**config)
        except (StrictDataclassError, ValueError) as error:
            reason = str(error).split("ValueError: ")[-1].strip()
            raise UserError(f"models.{arm.model}: a {config['model_type']} cannot have these sizes: {reason}",
                            hint="choose a hidden_size that the attention heads divide") from error  # fmt: skip
        if isinstance(spec, PrunedModel):
            try:
                require_known_kind(transformers_config)
            except UserError as error:
                raise UserError(f"models.{arm.model}: {error.message}", error.hint) from error


def require_kept(study: Study, tokenizers: Mapping[str, Any]) -> None:
    """Refuses to keep more of a teacher's logits than there are tokens."""
    for name, arm in study.arms.items():
        cache = arm.recipe.logit_cache if arm.recipe else None
        num_tokens = len(tokenizers[study.reader_of(name)])
        if cache and cache.keep == "top_k" and cache.k > num_tokens:
            raise UserError(
                f"arms.{name}.recipe.logit_cache.k: is {cache.k:,}, but there are {num_tokens:,} tokens"
            )


def require_pinned(where: str, spec: Text, facts: Mapping[str, Any]) -> None:
    """Refuses files, or tokenizers, that are not those that a study pins."""
    if spec.resolved not in (None, facts["resolved"]):
        raise UserError(f"{where}: its files are not those that `resolved` pins",
                        hint="restore the files, or remove `resolved`")  # fmt: skip
    for part in ("resolved_by", "compared"):
        for key, pinned in getattr(spec, part).items():
            if facts[part].get(key, pinned) != pinned:
                raise UserError(f"{where}: the tokenizers of `{key}` do not read its files as `{part}` pins",
                                hint=f"restore files and tokenizers, or remove `{part}`")  # fmt: skip


def resolved_text(study: Study, task: str, spec: Text, tokenizers: Mapping[str, Any]) -> dict[str, Any]:
    """What the task's files are as tokens, of every tokenizer that an arm of the task reads with."""
    arms = [name for name in study.arms if study.task_of(name) == task]
    questions, first = questions_of(study.benchmarks), next(iter(tokenizers))
    taught = [name for name in arms if study.is_compared(name)]
    of_taught = {study.reader_of(name) for name in taught}
    corpora, counted = {}, {}
    for reader in dict.fromkeys([first, *map(study.reader_of, arms)]):
        corpora[reader] = read_corpus(
            spec, tokenizers[reader], questions,
            cut_by=None if reader == first else tokenizers[first], with_texts=reader in of_taught,
        )  # fmt: skip
        model = study.models[reader]
        assert isinstance(model, GivenModel), reader
        assert model.config is not None, reader
        counted[reader] = corpora[reader].resolved(int(model.config["vocab_size"]), tokenizers[reader])
    compared: dict[str, ComparedText] = {}
    for name in taught:
        teacher = study.arms[name].teacher
        assert teacher is not None, name
        if (readers := study.compared_readers(name)) not in compared:
            corpus = corpora[study.reader_of(name)]
            compared[readers] = compared_text(corpus, tokenizers[study.reader_of(teacher)])
    for name in arms:
        recipe = study.arms[name].recipe
        if recipe and recipe.on_policy and not counted[study.reader_of(name)].prompted_sequences:
            raise UserError(f"arms.{name}.recipe.on_policy: needs prompts to reply to, and no document of the training "
                            "text has one", hint="name the data's `prompt` and `response` fields")  # fmt: skip
    return {"resolved": counted.pop(first), "resolved_by": counted, "compared": compared}


def resolved_benchmarks(study: Study, asked: Benchmarks, tokenizers: Mapping[str, Any]) -> Benchmarks:
    """What is asked, and of whom: mistakes are found before anything is trained."""
    first, *other_readers = dict.fromkeys(map(study.reader_of, benchmarked_arms(study, asked)))
    read = read_benchmarks(asked, first, tokenizers[first], asked)
    others = {name: resolved_other(name, other, read.resolved) for name, other in asked.others.items()}
    found = asked.model_copy(
        update={
            **dict(read),
            "others": others,
            "other_readers": {
                name: read_benchmarks(asked, name, tokenizers[name], asked.other_readers.get(name))
                for name in other_readers
            },
        }
    )
    labels = [label_of(found, name) for name in found.tasks]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"benchmarks.tasks: two of them are called `{label}`",
                            hint="give one of the YAML files another `name`")  # fmt: skip
    return found


def read_benchmarks(
    asked: Benchmarks, reader: str, tokenizer: Any, pinned: Benchmarks | OtherReader | None
) -> OtherReader:
    """What benchmarks are to one tokenizer. Raises UserError where they are not what is `pinned`."""
    found = OtherReader(
        resolved=found_benchmarks(asked, reader, tokenizer), tokenizer_sha256=reading_sha256(tokenizer)
    )
    said = (contents(pinned.resolved), pinned.tokenizer_sha256) if pinned else (None, None)
    if said[0] not in (None, contents(found.resolved)) or said[1] not in (None, found.tokenizer_sha256):
        raise UserError(f"benchmarks: their files, or the tokenizer of models.{reader}, are not those that are pinned",
                        hint="restore them, or remove `resolved` and `other_readers`")  # fmt: skip
    return found


def contents(resolved: Mapping[str, FoundBenchmark] | None) -> dict[str, dict[str, Any]] | None:
    """What benchmarks are, whatever lengths a version predicts their cost by."""
    return None if resolved is None else {name: found.without_lengths() for name, found in resolved.items()}


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


def with_vocabularies(study: Study, tokenizers: Mapping[str, Any]) -> Study:
    """The study with its given models' vocabularies. Raises UserError where two that differ would be taken for one."""
    hashes = {name: vocabulary_sha256(tokenizer) for name, tokenizer in tokenizers.items()}
    first, models = next(iter(hashes)), dict(study.models)
    for name, sha256 in hashes.items():
        spec = study.models[name]
        assert isinstance(spec, GivenModel), name
        if spec.vocabulary_sha256 not in (None, sha256):
            raise UserError(f"models.{name}: {spec.checkpoint} has not the vocabulary that `vocabulary_sha256` pins",
                            hint="point `checkpoint` to that model, or remove the pin")  # fmt: skip
        own = None if sha256 == hashes[first] else sha256
        models[name] = spec.model_copy(update={"vocabulary_sha256": own})
    found = study.model_copy(update={"models": models})
    for name, arm in found.arms.items():
        recipe = arm.recipe
        if arm.teacher and recipe and recipe.needs_logits and recipe.loss != "uld":
            reader, teacher = found.reader_of(name), found.reader_of(arm.teacher)
            compares = "hidden_states" if recipe.loss == "cross_entropy" else recipe.loss
            if reader != teacher:
                raise UserError(
                    f"arms.{name}: its teacher reads with the tokenizer of `{teacher}`, which has another vocabulary "
                    f"than that of `{reader}`, and `{compares}` compares token by token",
                    hint="give it `loss: uld` (`stillmark distill --method uld`), which compares across tokenizers",
                )
    return found


def resolved_model(name: str, spec: object) -> object:
    if not isinstance(spec, GivenModel):
        return spec
    config = given_config(spec.checkpoint, spec.revision)
    sha256 = weights_hash(spec.checkpoint, spec.revision)
    if spec.weights_sha256 not in (None, sha256):
        raise UserError(f"models.{name}: {spec.checkpoint} is not the model that `weights_sha256` pins",
                        hint="point `checkpoint` to that model, or remove the pin")  # fmt: skip
    return spec.model_copy(update={"config": config, "weights_sha256": sha256})
