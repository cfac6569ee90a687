"""Configs: the typed schema, the files and overrides that users write, and comparisons. No JAX.

A config file has a `get_config()` that starts from `default_config()` and sets literal values. All code
after loading takes a `Config`, which is checked, typed and frozen.
"""

from resnet_jax.config.differences import differences, respell, same_everywhere, spelled_once
from resnet_jax.config.durations import to_steps
from resnet_jax.config.fields import NEVER, Duration, Field, flatten
from resnet_jax.config.files import ConfigFile, base_config, load_config, open_config_file
from resnet_jax.config.names import OTHER_NAMES, field_meant, find_field
from resnet_jax.config.overrides import default_config, override, validate
from resnet_jax.config.rules import LARGEST_SIDE
from resnet_jax.config.schema import (
    FIELDS,
    Config,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
    describe_fields,
    with_fields,
)
from resnet_jax.config.values import canonical
