"""Reading a config.json strictly: a key that is missing is what transformers takes it to be, or an error."""

from collections.abc import Mapping
from typing import Any

from stillmark.errors import UserError


class ConfigReader:
    """A config with transformers' own defaults for the keys that a config.json may leave out.

    `defaults` holds what the configuration class of the model_type fills in; a test compares each with transformers.
    A size that is neither in the config nor in the defaults is an error.
    """

    def __init__(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self.config = config
        self.defaults = defaults
        self.model_type = str(config["model_type"])

    def get(self, *names: str) -> Any:
        """The value under the first of these names that the config has, else under the first in the defaults."""
        for source in (self.config, self.defaults):
            for name in names:
                if name in source:
                    return source[name]
        raise UserError(f"config of model_type `{self.model_type}` has no `{names[0]}`")

    def size(self, *names: str) -> int:
        """A whole number above zero."""
        value = self.get(*names)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(names[0], value, "a whole number, 1 or more")
        return value

    def size_or(self, fallback: int, *names: str) -> int:
        """A size, or `fallback` where the config says null or nothing."""
        try:
            value = self.get(*names)
        except UserError:
            return fallback
        return fallback if value is None else self.size(*names)

    def flag(self, *names: str) -> bool:
        """True or false."""
        value = self.get(*names)
        if not isinstance(value, bool):
            raise self.wrong(names[0], value, "true or false")
        return value

    def refuse(self, name: str, *, unless: tuple[Any, ...]) -> None:
        """Stop at a feature whose formula was not checked."""
        value = self.config.get(name, self.defaults.get(name))
        if value is not None and value not in unless:
            raise UserError(
                f"no FLOPs formula was checked for `{self.model_type}` with `{name}` = {value!r}",
                hint="count it on the meta device: `stillmark.models.count.count_flops(config, tokens=...)`",
            )

    def wrong(self, name: str, value: Any, wanted: str) -> UserError:
        return UserError(f"config of model_type `{self.model_type}`: `{name}` is {value!r}, not {wanted}")
