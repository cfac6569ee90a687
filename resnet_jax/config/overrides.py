"""Configs that users state, and the checked `Config` made of one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from resnet_jax.config.fields import flatten
from resnet_jax.config.names import find_field
from resnet_jax.config.schema import FIELDS, Config, with_fields
from resnet_jax.config.values import canonical
from resnet_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Nested values, in any of these forms.
Stated: TypeAlias = "Config | ConfigDict | Mapping[str, Any]"


def default_config() -> "ConfigDict":
    """A config with every field at its default; a field that does not exist cannot be set."""
    return editable(Config())


def editable(config: Config) -> "ConfigDict":
    """A config whose fields can be set, as in `get_config()`."""
    # Slow to import, and only config files need it.
    from ml_collections import ConfigDict

    # `validate` checks types: ConfigDict's own check would refuse `3` for `"10 epochs"`.
    return ConfigDict(config.to_dict(), type_safe=False).lock()


def validate(stated: Stated) -> Config:
    """Check that a config has exactly the fields of the schema, of the right kind and range.

    Returns:
        The config, in which every value has its one spelling (`canonical`).

    Raises:
        UserError: names the first field that is wrong, what is allowed and how to fix it.
    """
    return override(stated, {})


def override(stated: Stated, overrides: Mapping[str, Any]) -> Config:
    """A config with dotted fields replaced, checked and in canonical spelling.

    Args:
        stated: a complete config.
        overrides: dotted field → value, or its text.

    Raises:
        UserError: no such field, or a value of the wrong kind.
    """
    values = flatten(stated if isinstance(stated, Mapping) else stated.to_dict()) | dict(overrides)
    for name in (*overrides, *values):
        find_field(name)
    checked = {}
    for name in FIELDS:
        if name not in values:
            raise UserError("--config", name, "is missing", "start from default_config()")
        checked[name] = canonical(name, values[name])
    return with_fields(Config(), checked)
