"""The residual network: stem, stages of blocks, head."""

import math
from collections.abc import Callable, Sequence
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
from resnet_jax.models.stage import SCAN_FROM, Stage
from resnet_jax.models.stem import STEMS
from resnet_jax.models.stochastic import draws, drawn_key, example_keys, fold


class ResNet(nnx.Module):
    """A residual network (He et al. 2015, "Deep Residual Learning for Image Recognition").

    Args:
        num_classes: size of the logits; 0: no classifier, the network returns the pooled features.
        stage_sizes: blocks per stage; every stage after the first halves the resolution.
        widths: filters per stage (a bottleneck block puts out four times as many).
        block: `basic` or `bottleneck`.
        activation_order: where blocks normalise and activate, a key of `branch.ORDERS`.
        shortcut: kind of skip path, a key of `shortcuts.SHORTCUTS`.
        gate_bias, shortcut_scale, branch_scale, shortcut_dropout: of the shortcuts that have them;
            None takes the paper's.
        branch_init: how branches start: `he`, `zero_gamma`, `fixup`, `skipinit`, `rezero` or
            `layerscale` (`branch.BranchInit`).
        initial_scale: start of the learned scale of `skipinit` and `layerscale`.
        stem: `cifar`, `imagenet`, `bit`, `deep` or `patchify` (`stem.py`).
        in_channels: channels of the images.
        width_factor: multiplies `widths`, not the stem (Zagoruyko & Komodakis 2016, Table 1).
        groups, bottleneck_width, stride_in_1x1: of bottleneck blocks (`blocks.ResidualBlock`).
        squeeze_reduction: r of squeeze-and-excitation; None: there is none.
        dropout: rate in the branch, before its last convolution.
        survival_probability: p_L of stochastic depth, that of the last block; block l of L survives
            with 1 − l/L (1 − p_L) (Huang et al. 2016, eq. 4). 1: no stochastic depth.
        stochastic_depth_scaling: `test` or `train`, see `stochastic.StochasticDepth`.
        antialias: low-pass filters before strides.
        norm: `batch`, `frozen_batch`, `group`, `layer` or `none` (`normalization.norm_factory`).
        norm_momentum, norm_epsilon, norm_groups: of the norms.
        norm_axis_name: mapped axis over which batch statistics are averaged.
        weight_standardization: convolve with standardised filters.
        convolution: implementation, a name in `convolution.IMPLEMENTATIONS`.
        scan_blocks: run the identical blocks of a stage as one loop; parameters are then stacked
            (`stage.py`). None: where every stage has `stage.SCAN_FROM` blocks or more.
        remat: `none`, `block` or `stage`: what is computed again in the backward pass.
        dtype: compute type; parameters, statistics and logits stay float32.
        rngs: the stream `params` initialises the weights.

    Attributes:
        stem, stage1, stage2, …, norm, head: the parts, by name. `norm` is that behind the last stage
            and None unless the order needs it; `head` is None without classes.
        feature_channels, feature_strides: channels of each output of `features`, and its stride in
            pixels of the image, by name.

    Raises:
        IllegalChoiceError: an argument has no such value, or contradicts another.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        stage_sizes: Sequence[int],
        widths: Sequence[int],
        block: str = "basic",
        activation_order: str = "original",
        shortcut: str = "B",
        gate_bias: float | None = None,
        shortcut_scale: float | None = None,
        branch_scale: float | None = None,
        shortcut_dropout: float | None = None,
        branch_init: str = "he",
        initial_scale: float | None = None,
        stem: str = "imagenet",
        in_channels: int = 3,
        width_factor: int = 1,
        groups: int = 1,
        bottleneck_width: int = 1,
        stride_in_1x1: bool = False,
        squeeze_reduction: int | None = None,
        dropout: float = 0.0,
        survival_probability: float = 1.0,
        stochastic_depth_scaling: str = "test",
        antialias: bool = False,
        norm: str = "batch",
        norm_momentum: float = 0.9,
        norm_epsilon: float = 1e-5,
        norm_groups: int | None = None,
        norm_axis_name: str | None = None,
        weight_standardization: bool = False,
        convolution: str = "native",
        scan_blocks: bool | None = False,
        remat: str = "none",
        dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        keys: Any = KeyStream(rngs.params())
        make_block = pick("block", block, BLOCKS)
        order = pick("activation_order", activation_order, ORDERS)
        if len(stage_sizes) != len(widths):
            raise IllegalChoiceError("widths", tuple(widths), f"one a stage, so {len(stage_sizes)}")
        if survival_probability < 1 and shortcut == "none":
            allowed = "1, for shortcut 'none': nothing is left of a plain block that is dropped"
            raise IllegalChoiceError("survival_probability", survival_probability, allowed)
        init = BranchInit(branch_init, sum(stage_sizes), initial_scale)
        init.check(activation_order, shortcut, norm, weight_standardization)
        conv = partial(
            make_convolution,
            weight_standardization=weight_standardization,
            implementation=convolution,
            dtype=dtype,
        )
        make_norm = norm_factory(
            norm,
            momentum=norm_momentum,
            epsilon=norm_epsilon,
            axis_name=norm_axis_name,
            num_groups=norm_groups,
            dtype=dtype,
        )
        if branch_init == "fixup":
            make_norm = ScalarBias
        layers: dict[str, Any] = {"conv": conv, "norm": make_norm}
        options: dict[str, Any] = {
            "activation_order": activation_order,
            "shortcut": shortcut,
            "shortcut_options": {
                "gate_bias": gate_bias,
                "shortcut_scale": shortcut_scale,
                "branch_scale": branch_scale,
                "shortcut_dropout": shortcut_dropout,
            },
            "init": init,
            "stochastic_depth_scaling": stochastic_depth_scaling,
            "groups": groups,
            "bottleneck_width": bottleneck_width,
            "stride_in_1x1": stride_in_1x1,
            "squeeze_reduction": squeeze_reduction,
            "dropout": dropout,
            "antialias": antialias,
        }

        self.in_channels = in_channels
        self.stem = pick("stem", stem, STEMS)(
            in_channels, widths[0], order, antialias=antialias, rngs=keys, **layers
        )
        self.num_stages = len(stage_sizes)
        if scan_blocks is None:
            scan_blocks = min(stage_sizes) >= SCAN_FROM
        survival = _linear_decay(stage_sizes, survival_probability)
        channels = widths[0]
        feature_channels = {"stem": channels}
        for number, width in enumerate(widths, 1):
            filters = width * width_factor
            stage = Stage(
                partial(_make_block, make_block, channels=filters, **options, **layers),
                channels,
                stride=1 if number == 1 else 2,
                first=number == 1,
                survival=survival[number - 1],
                scan=scan_blocks,
                remat=remat,
                rngs=keys,
            )
            setattr(self, f"stage{number}", stage)
            channels = feature_channels[f"stage{number}"] = stage.out_channels
        self.feature_channels = nnx.static(feature_channels)
        ends_with_norm = order.norm == "pre" or branch_init == "fixup"
        self.norm = nnx.data(make_norm(channels, rngs=keys) if ends_with_norm else None)
        self.activates_end = order.activation == "pre"
        self.head = nnx.data(nnx.Linear(channels, num_classes, rngs=keys) if num_classes else None)
        if branch_init == "fixup" and self.head is not None:
            self.head.kernel.set_value(jnp.zeros((channels, num_classes)))

    def stages(self) -> list[Stage]:
        """The stages, in order."""
        return self._stages()

    # `nnx.tabulate` compiles every public method that a call goes through: those return arrays.
    def _stages(self) -> list[Stage]:
        return [getattr(self, f"stage{n}") for n in range(1, self.num_stages + 1)]

    def set_survival(self, last: float | jax.Array) -> None:
        """Replace the survival probabilities of a network that was built with stochastic depth.

        Args:
            last: p_L, of the last block. It may be traced: put into a network that was merged within a
                compiled function, networks of several share the program.
        """
        stages = self._stages()
        if stages[0].blocks[0].drop_path is None:
            raise ValueError("the network was built without stochastic depth, so it draws no survivors")
        survival = _linear_decay([len(stage.survival) for stage in stages], last)
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
        self,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        rngs: Any = None,
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
        keys = example_keys(drawn_key(key, rngs), x.shape[0])
        outputs = {"stem": self.stem(x)}
        x = outputs["stem"]
        for number, stage in enumerate(self._stages(), 1):
            x = outputs[f"stage{number}"] = stage(x, fold(keys, number))
        return outputs

    def dense_logits(
        self,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        rngs: Any = None,
    ) -> jax.Array:
        """Classify every position of the last stage: the fully convolutional form (He 2015, §3.4).

        Args:
            x, key, rngs: as of `features`.

        Returns:
            logits: float32[batch, h, w, num_classes].
        """
        return self._classify(self._end(self._last(x, key, rngs)))

    def __call__(
        self,
        x: jax.Array,
        key: jax.Array | None = None,
        *,
        rngs: Any = None,
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
        """Logits of the output of the last stage: what comes behind the blocks.

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


def _make_block(
    make: Callable[..., Any], in_channels: int, survival: float, **options: Any
) -> nnx.Module:
    return make(in_channels, survival_probability=survival, **options)


def _linear_decay(stage_sizes: Sequence[int], last: Any) -> list[tuple[Any, ...]]:
    """Survival probability of every block by stage (Huang et al. 2016, eq. 4)."""
    num_blocks = sum(stage_sizes)
    starts = [sum(stage_sizes[:index]) for index in range(len(stage_sizes))]
    return [
        tuple(1 - (start + block + 1) / num_blocks * (1 - last) for block in range(size))
        for start, size in zip(starts, stage_sizes, strict=True)
    ]
