"""What a study refers to, found before it is planned: given models' configs and hashes, text files as tokens.

The resolved study is kept with the records, so that plan, report and verification need neither model nor file.
"""

from stillmark.distill.corpus import read_corpus
from stillmark.errors import UserError
from stillmark.evaluate.model import weights_hash
from stillmark.models.given import given_config, given_tokenizer
from stillmark.study.schema import GivenModel, Study, Text


def resolve(study: Study) -> Study:
    """The study with what its models and files were found to be. What it pins must be found so."""
    models = {name: resolved_model(name, spec) for name, spec in study.models.items()}
    found = study.model_copy(update={"models": models})
    if not study.is_text:
        return found
    given = found.first_given
    tokenizer = given_tokenizer(given.checkpoint, given.revision)
    tasks = {}
    for name, spec in study.tasks.items():
        assert isinstance(spec, Text), name
        assert given.config is not None, name
        plain = spec.model_copy(update={"resolved": None})
        facts = read_corpus(plain, tokenizer).resolved(int(given.config["vocab_size"]))
        if spec.resolved is not None and spec.resolved != facts:
            raise UserError(f"tasks.{name}: its files are not those that `resolved` pins",
                            hint="restore the files, or remove `resolved`")  # fmt: skip
        tasks[name] = spec.model_copy(update={"resolved": facts})
    return found.model_copy(update={"tasks": tasks})


def resolved_model(name: str, spec: object) -> object:
    if not isinstance(spec, GivenModel):
        return spec
    config = given_config(spec.checkpoint, spec.revision)
    sha256 = weights_hash(spec.checkpoint, spec.revision)
    if spec.weights_sha256 not in (None, sha256):
        raise UserError(f"models.{name}: {spec.checkpoint} is not the model that `weights_sha256` pins",
                        hint="point `checkpoint` to that model, or remove the pin")  # fmt: skip
    return spec.model_copy(update={"config": config, "weights_sha256": sha256})
