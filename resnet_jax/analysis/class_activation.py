"""Which pixels speak for a class: Grad-CAM (Selvaraju et al. 2017, eq. 1 and 2)."""

import jax
import jax.numpy as jnp
import numpy as np

from resnet_jax.models import ResNet


def grad_cam(
    model: ResNet, images: np.ndarray, classes: np.ndarray | None = None
) -> tuple[list[np.ndarray], np.ndarray]:
    """Class activation maps of every stage.

    The map of a stage is ReLU(Σ_c α_c A_c): A_c are the channels that it puts out, and α_c is the mean
    over the pixels of the gradient of the logit of the class. Behind global average pooling and a
    linear layer α_c is the weight of the channel (CAM, Zhou et al. 2016) over the number of pixels.

    Args:
        model: in eval mode.
        images: float32[images, height, width, channels].
        classes: int[images]; None: those that the network finds likeliest.

    Returns:
        For each stage float32[images, h, w]; and logits float32[images, classes].
    """
    return jax.tree.map(np.asarray, _grad_cam(model, images, classes))


@jax.jit
def _grad_cam(
    model: ResNet, images: jax.Array, classes: jax.Array | None
) -> tuple[list[jax.Array], jax.Array]:
    outputs = [jnp.zeros_like(x) for name, x in model.features(images).items() if name != "stem"]

    def run(added: list[jax.Array]) -> tuple[list[jax.Array], jax.Array]:
        x, found = model.stem(images), []
        for stage, change in zip(model.stages(), added, strict=True):
            x = stage(x) + change
            found.append(x)
        return found, model.classify(x)

    def score(added: list[jax.Array], chosen: jax.Array) -> jax.Array:
        # Of all images: in eval mode none sees another.
        return jnp.take_along_axis(run(added)[1], chosen[:, None], 1).sum()

    activations, logits = run(outputs)
    chosen = logits.argmax(1) if classes is None else classes
    gradients = jax.grad(score)(outputs, chosen)
    maps = [
        jax.nn.relu((a * g.mean((1, 2), keepdims=True)).sum(3))
        for a, g in zip(activations, gradients, strict=True)
    ]
    return [m.astype(jnp.float32) for m in maps], logits
