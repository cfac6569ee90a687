"""The residual network: stem, stages of blocks, head."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax.models.activation import choosing_relu
from resnet_jax.models.blocks import BLOCKS
from resnet_jax.models.branch import ORDERS, BranchInit
from resnet_jax.models.choices import IllegalChoiceError, pick
from resnet_jax.models.compilation import kept_apart
from resnet_jax.models.convolution import convolution as make_convolution
from resnet_jax.models.key_stream import KeyStream
from resnet_jax.models.normalization import ScalarBias, norm_factory
from resnet_jax.models.spec import NetworkSpec
from resnet_jax.models.stage import SCAN_FROM, Stage
from resnet_jax.models.stem import STEMS
from resnet_jax.models.stochastic import draws, example_keys, fold, linear_decay


class ResNet(nnx.Module):
    """A residual network (He et al. 2015, "Deep Residual Learning for Image Recognition").

    Args:
        rngs: the stream `params` initialises the weights.
        **fields: of `spec.NetworkSpec`, which says what they mean and has their defaults.

    Attributes:
        stem, stage1, stage2, …, norm, head: the parts, by name. `norm` follows the last stage and is
            None unless the order needs it; `head` is None without classes.
        feature_channels, feature_strides: channels of each output of `features`, and its stride in
            pixels of the image, by name.

    Raises:
        IllegalChoiceError: an argument has no such value, or contradicts another.
    """

    def __init__(self, *, rngs: nnx.Rngs, **fields: Any) -> None:
        spec = NetworkSpec(**fields)
        _check(spec)
        keys: Any = KeyStream(rngs.params())
        order, layers = ORDERS[spec.activation_order], _layers(spec)
        self.in_channels = spec.in_channels
        self.stem = pick("stem", spec.stem, STEMS)(
            spec.in_channels, spec.widths[0], order, antialias=spec.antialias, rngs=keys, **layers
        )
        self.num_stages = len(spec.stage_sizes)
        scan = spec.scan_blocks
        survival = linear_decay(spec.stage_sizes, spec.survival_probability)
        channels = spec.widths[0]
        feature_channels = {"stem": channels}
        for number, width in enumerate(spec.widths, 1):
            stage = Stage(
                partial(_make_block, spec, width * spec.width_factor, layers),
                channels,
                stride=1 if number == 1 else 2,
                first=number == 1,
                survival=survival[number - 1],
                scan=min(spec.stage_sizes) >= SCAN_FROM if scan is None else scan,
                remat=spec.remat,
                rngs=keys,
            )
            setattr(self, f"stage{number}", stage)
            channels = feature_channels[f"stage{number}"] = stage.out_channels
        self.feature_channels = nnx.static(feature_channels)
        ends_with_norm = order.norm == "pre" or spec.branch_init == "fixup"
        self.norm = nnx.data(layers["norm"](channels, rngs=keys) if ends_with_norm else None)
        self.activates_end = order.activation == "pre"
        classes = spec.num_classes
        self.head = nnx.data(nnx.Linear(channels, classes, rngs=keys) if classes else None)
        if spec.branch_init == "fixup" and self.head is not None:
            self.head.kernel.set_value(jnp.zeros((channels, classes)))

    def stages(self) -> list[Stage]:
        """The stages, in order."""
        return [getattr(self, f"stage{n}") for n in range(1, self.num_stages + 1)]

    def set_survival(self, last: float | jax.Array) -> None:
        """Replace the survival probabilities of a network that was built with stochastic depth.

        Args:
            last: p_L, of the last block. It may be traced: put into a network that was merged within a
                compiled function, networks of several share the program.
        """
        stages = self.stages()
        if stages[0].blocks[0].drop_path is None:
            raise ValueError(
                "the network was built without stochastic depth, so it draws no survivors"
            )
        survival = linear_decay([len(stage.survival) for stage in stages], last)
        for stage, probabilities in zip(stages, survival, strict=True):
            stage.set_survival(probabilities)

    @property
    def feature_strides(self) -> dict[str, int]:
        """Pixels of the image from one position to the next, of each output of `features`."""
        strides, stride = {}, 1
        for name in self.feature_channels:
            stride *= math.prod(step for _, step in getattr(self, name).windows())
            strides[name] = stride
        return strides

    def features(
        self, x: jax.Array, key: jax.Array | None = None, *, rngs: Any = None
    ) -> dict[str, jax.Array]:
        """The output of the stem and of every stage, for use as a backbone.

        Args:
            x: float[batch, height, width, in_channels].
            key: of dropout and stochastic depth, scalar or [batch]; needed in train mode where the
                network has any.
            rngs: instead of `key`, as of `nnx.Dropout`: an `nnx.Rngs` with a stream `dropout`, or one
                stream; drawn from in train mode where the network has dropout or stochastic depth.

        Returns:
            `stem`, `stage1`, `stage2`, …: dtype[batch, h, w, channels], in this order.

        Raises:
            ValueError: `x` has other axes or channels, or is not of a float type.
        """
        self._check_images(x)
        if rngs is not None and not draws(self):
            rngs = None
        keys = example_keys(key, x.shape[0], rngs)
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for number in range(1, self.num_stages + 1):
            # Not by `stages()`: `nnx.tabulate` compiles what a public method returns.
            stage = getattr(self, f"stage{number}")
            x = outputs[f"stage{number}"] = stage(x, fold(keys, number))
        return outputs

    def dense_logits(
        self, x: jax.Array, key: jax.Array | None = None, *, rngs: Any = None
    ) -> jax.Array:
        """Classify every position of the last stage: the fully convolutional form (He 2015, §3.4).

        Args:
            x, key, rngs: as of `features`.

        Returns:
            logits: float32[batch, h, w, num_classes].
        """
        return self._classify(self._end(self._last(x, key, rngs)))

    def __call__(
        self, x: jax.Array, key: jax.Array | None = None, *, rngs: Any = None
    ) -> jax.Array:
        """Classify images.

        Args:
            x: float[batch, height, width, in_channels], normalised.
            key, rngs: as of `features`.

        Returns:
            logits: float32[batch, num_classes]; without classes, the features that they would be of.

        Raises:
            ValueError: as `features`.
        """
        return self.classify(self._last(x, key, rngs))

    def classify(self, last: jax.Array) -> jax.Array:
        """Logits of the output of the last stage.

        Args:
            last: float[batch, h, w, channels].

        Returns:
            As a call.
        """
        return self._classify(kept_apart(self._end(last).mean((1, 2))))

    def _check_images(self, x: jax.Array) -> None:
        """By shape and type alone, so it costs nothing in a compiled program."""
        expected = f"float[batch, height, width, {self.in_channels}]"
        problem = ""
        if x.ndim != 4:
            problem = "; a single image needs a batch axis: x[None]" if x.ndim == 3 else ""
        elif x.shape[-1] == self.in_channels:
            if jnp.issubdtype(x.dtype, jnp.floating):
                return
            problem = "; normalise pixels first: (x / 255 - mean) / std"
        elif x.shape[1] == self.in_channels:
            problem = ": channels come last (NHWC), not first (NCHW): x.transpose(0, 2, 3, 1)"
        raise ValueError(f"images must be {expected}, not {x.dtype}{list(x.shape)}{problem}")

    def _classify(self, features: jax.Array) -> jax.Array:
        return features if self.head is None else self.head(features)

    def _last(self, x: jax.Array, key: Any, rngs: Any) -> jax.Array:
        return self.features(x, key, rngs=rngs)[f"stage{self.num_stages}"]

    def _end(self, last: jax.Array) -> jax.Array:
        if self.norm is not None:
            last = self.norm(last)
        if self.activates_end:
            last = choosing_relu(last)
        return last.astype(jnp.promote_types(jnp.float32, last.dtype))


def _check(spec: NetworkSpec) -> None:
    """Refuse fields that contradict each other, before anything is made."""
    pick("block", spec.block, BLOCKS)
    pick("activation_order", spec.activation_order, ORDERS)
    if len(spec.stage_sizes) != len(spec.widths):
        allowed = f"one a stage, so {len(spec.stage_sizes)}"
        raise IllegalChoiceError("widths", tuple(spec.widths), allowed)
    if spec.survival_probability < 1 and spec.shortcut == "none":
        allowed = "1, for shortcut 'none': nothing is left of a plain block that is dropped"
        raise IllegalChoiceError("survival_probability", spec.survival_probability, allowed)
    BranchInit(spec.branch_init, sum(spec.stage_sizes), spec.initial_scale).check(spec)


def _layers(spec: NetworkSpec) -> dict[str, Callable[..., Any]]:
    """How the convolutions and the norms of a network are made."""
    conv = partial(
        make_convolution,
        weight_standardization=spec.weight_standardization,
        implementation=spec.convolution,
        dtype=spec.dtype,
    )
    norm = norm_factory(
        spec.norm,
        momentum=spec.norm_momentum,
        epsilon=spec.norm_epsilon,
        axis_name=spec.norm_axis_name,
        num_groups=spec.norm_groups,
        dtype=spec.dtype,
    )
    return {"conv": conv, "norm": ScalarBias if spec.branch_init == "fixup" else norm}


def _make_block(
    spec: NetworkSpec,
    filters: int,
    layers: dict[str, Any],
    in_channels: int,
    survival: float,
    **options: Any,
) -> nnx.Module:
    """A block of a network; `survival` is its own probability, and not p_L."""
    own, num_blocks = replace(spec, survival_probability=survival), sum(spec.stage_sizes)
    make = BLOCKS[spec.block]
    return make(in_channels, filters, own, num_blocks=num_blocks, **layers, **options)
