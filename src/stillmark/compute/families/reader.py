"""Reading a config.json strictly: a key that is missing is what transformers takes it to be, or an error."""

from collections.abc import Mapping
from typing import Any

from stillmark.errors import UserError

COUNT_INSTEAD = "count it on the meta device: `stillmark.models.count.count_flops(config, tokens=...)`"


class ConfigReader:
    """A config, with what transformers itself fills in for the keys that a config.json may leave out.

    `defaults` are those of the model_type's configuration class and `aliases` its other names for a key
    (`hidden_size` is `n_embd` in GPT-2); tests compare both with transformers. A size that is in neither the
    config nor the defaults is an error.
    """

    def __init__(
        self, config: Mapping[str, Any], defaults: Mapping[str, Any], aliases: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.defaults = defaults
        self.aliases = aliases or {}
        self.model_type = str(config["model_type"])

    def has(self, name: str) -> bool:
        """Whether the config itself gives this key."""
        return name in self.config or self.aliases.get(name, name) in self.config

    def get(self, name: str) -> Any:
        """The value in the config, else what transformers fills in."""
        keys = {name, self.aliases.get(name, name)} & set(self.config)
        values = [self.config[key] for key in sorted(keys)]
        if any(value != values[0] for value in values):
            raise UserError(
                f"config of model_type `{self.model_type}` has two values for one thing: "
                + ", ".join(f"`{key}` = {self.config[key]!r}" for key in sorted(keys))
            )
        if values:
            return values[0]
        if name in self.defaults:
            return self.defaults[name]
        raise UserError(f"config of model_type `{self.model_type}` has no `{self.aliases.get(name, name)}`")

    def size(self, name: str) -> int:
        """A whole number above zero."""
        return self.check_size(name, self.get(name))

    def size_or(self, fallback: int, name: str) -> int:
        """A size, or `fallback` where the config says null or nothing."""
        value = self.get(name) if self.has(name) else self.defaults.get(name)
        return fallback if value is None else self.check_size(name, value)

    def check_size(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(name, value, "a whole number, 1 or more")
        return value

    def flag(self, name: str) -> bool:
        """True or false; null is false, as in transformers."""
        value = self.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def allow(self, name: str, *checked: Any) -> None:
        """Stop at a feature whose formula was not checked: any value but these, or null, or nothing."""
        value = self.get(name) if self.has(name) else self.defaults.get(name)
        if value is not None and value not in checked:
            raise UserError(
                f"no FLOPs formula was checked for model_type `{self.model_type}` with `{name}` = {value!r}",
                hint=COUNT_INSTEAD,
            )

    def wrong(self, name: str, value: Any, wanted: str) -> UserError:
        return UserError(f"config of model_type `{self.model_type}`: `{name}` is {value!r}, not {wanted}")

    @property
    def hidden_size(self) -> int:
        return self.size("hidden_size")

    @property
    def num_layers(self) -> int:
        return self.size("num_hidden_layers")

    @property
    def num_heads(self) -> int:
        return self.size("num_attention_heads")

    @property
    def num_kv_heads(self) -> int:
        heads = self.size_or(self.num_heads, "num_key_value_heads")
        if self.num_heads % heads:
            raise self.wrong("num_key_value_heads", heads, f"a divisor of the {self.num_heads} heads")
        return heads

    @property
    def head_size(self) -> int:
        """`head_dim` where the config gives it, else the hidden size divided between the heads."""
        return self.size_or(self.hidden_size // self.num_heads, "head_dim")
