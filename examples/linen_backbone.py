"""A residual backbone inside a Linen model, through Flax's bridge.

    python examples/linen_backbone.py [STEPS]

Classifies scikit-learn's digits. Prints the loss, which falls from about 2.3 to below 0.1 in 60 steps,
and the accuracy on images held out, by the running statistics, above 0.9.
"""

import sys

import flax.linen as nn

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from resnet_jax import models


def pooled_features(backbone, images, train):
    """What the Linen model calls of the NNX one; the mode is set here, as the bridge has none."""
    view = models.training_view if train else models.evaluation_view
    return view(backbone)(images)


class Classifier(nn.Module):
    """A Linen model around a ResNet-8.

    Its variables are those of any Linen model: `params/backbone/stage1/…` and `batch_stats/backbone/…`.
    """

    num_classes: int

    @nn.compact
    def __call__(self, images, *, train):
        """float32[batch, height, width, 1] → logits float32[batch, num_classes]."""
        backbone = nnx.bridge.ToLinen(
            models.resnet,
            args=("cifar", 8),
            kwargs={"in_channels": 1, "num_classes": 0},
            name="backbone",
        )
        features = backbone(images, nnx_method=pooled_features, train=train)
        hidden = nn.relu(nn.Dense(64)(features))
        return nn.Dense(self.num_classes)(hidden)


def main(steps=60):
    """Train for so many steps; returns the losses."""
    digits = load_digits()
    images = ((digits.images - 4.9) / 6.0).astype(np.float32)[..., None]
    images, test_images = images[:1500], images[1500:]
    labels, test_labels = digits.target[:1500], digits.target[1500:]

    model = Classifier(num_classes=10)
    initialise = models.compile_for_initialisation(lambda k: model.init(k, images[:1], train=False))
    variables = initialise(jax.random.key(0))
    params, batch_stats = variables["params"], variables["batch_stats"]
    optimizer = optax.adam(2e-3)
    opt_state = optimizer.init(params)

    @jax.jit
    def train_step(params, batch_stats, opt_state, images, labels):
        def loss_and_stats(params):
            variables = {"params": params, "batch_stats": batch_stats}
            # Without `mutable` the running statistics would stay those of the start.
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), new["batch_stats"]

        (loss, new), gradients = jax.value_and_grad(loss_and_stats, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), new, opt_state, loss

    rng, losses = np.random.default_rng(0), []
    for step in range(steps):
        batch = rng.choice(len(images), 64, replace=False)
        params, batch_stats, opt_state, loss = train_step(
            params, batch_stats, opt_state, images[batch], labels[batch]
        )
        losses.append(float(loss))
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {losses[-1]:.3f}")

    logits = model.apply({"params": params, "batch_stats": batch_stats}, test_images, train=False)
    print(f"accuracy {np.mean(logits.argmax(-1) == test_labels):.3f}")
    return losses


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
