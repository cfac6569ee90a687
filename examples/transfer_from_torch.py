"""Transfer learning from a PyTorch checkpoint: load, new classes, freeze the first layers, fine-tune.

    pip install torch    # or 'resnet-jax[torch]'
    python examples/transfer_from_torch.py [STEPS]

Trains a ResNet-8 in PyTorch to tell the digits 0 to 5 apart, saves it by `torch.save`, and fine-tunes
these weights in JAX to tell 6 to 9 apart. Prints the loss, the accuracy on images held out (below 0.5
before, above 0.95 after 40 steps), and that the frozen layers stayed as they were.
"""

import sys
import tempfile
from pathlib import Path

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

import jax
import numpy as np
import optax
import torch
from flax import nnx
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from resnet_jax import models
from resnet_jax.interop import load_weights


class Block(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.extra = stride, channels - in_channels

    def forward(self, x):
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        half = self.extra // 2
        skip = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return functional.relu(out + skip)


class TorchResNet(nn.Module):
    """The common CIFAR code: conv1, bn1, layer1.0.conv1, …, linear."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2))
        self.layer3 = nn.Sequential(Block(32, 64, 2))
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def write_checkpoint(path, images, labels, steps):
    """Train in PyTorch on float32[n, 8, 8, 1] and save the state dict."""
    torch.manual_seed(0)
    net, rng = TorchResNet(labels.max() + 1), np.random.default_rng(0)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(steps):
        batch = rng.choice(len(images), 64)
        x = torch.from_numpy(images[batch].transpose(0, 3, 1, 2))
        loss = functional.cross_entropy(net(x), torch.from_numpy(labels[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save({"state_dict": net.state_dict()}, path)
    print(f"PyTorch, digits 0 to 5: loss {loss.item():.3f}")


def fine_tune(model, images, labels, steps):
    """Train what is not frozen, and the model's arrays with it; returns the losses."""
    graphdef, params, stats, frozen = nnx.split(model, models.trainable, nnx.BatchStat, ...)
    params, stats, frozen = map(nnx.to_pure_dict, (params, stats, frozen))
    optimizer = optax.adam(2e-3)
    opt_state = optimizer.init(params)

    @jax.jit
    def train_step(params, stats, opt_state, images, labels):
        def loss_and_stats(params):
            model = nnx.merge(graphdef, params, stats, frozen)
            losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
            return losses.mean(), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        (loss, new), gradients = jax.value_and_grad(loss_and_stats, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), new, opt_state, loss

    rng, losses = np.random.default_rng(0), []
    for step in range(steps):
        batch = rng.choice(len(images), 64)
        arguments = params, stats, opt_state, images[batch], labels[batch]
        params, stats, opt_state, loss = train_step(*arguments)
        losses.append(float(loss))
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {losses[-1]:.3f}")
    nnx.update(model, params, stats)
    return losses


def accuracy(model, images, labels):
    """By the running statistics."""
    graphdef, arrays = nnx.split(models.evaluation_view(model))
    logits = jax.jit(lambda arrays: nnx.merge(graphdef, arrays)(images))(arrays)
    return float(np.mean(logits.argmax(-1) == labels))


def main(steps=40, torch_steps=60):
    """Fine-tune after training in PyTorch, for so many steps; returns the losses and the accuracy before and after."""
    digits = load_digits()
    images = ((digits.images - 4.9) / 6.0).astype(np.float32)[..., None]
    new = digits.target >= 6
    new_images, new_labels = images[new], digits.target[new] - 6
    train, test = slice(500), slice(500, None)

    model = models.initialise(
        lambda rngs: models.create("cifar_resnet8", num_classes=4, in_channels=1, rngs=rngs)
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "digits.pt"
        write_checkpoint(path, images[~new], digits.target[~new], torch_steps)
        print(load_weights(model, path))

    models.freeze(model, ["stem", "stage1"])
    frozen = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model.stem)))
    before = accuracy(model, new_images[test], new_labels[test])
    losses = fine_tune(model, new_images[train], new_labels[train], steps)
    after = accuracy(model, new_images[test], new_labels[test])
    print(f"accuracy before {before:.3f}, after {after:.3f}")
    same = jax.tree.map(np.array_equal, frozen, nnx.to_pure_dict(nnx.state(model.stem)))
    print(f"frozen layers unchanged: {all(jax.tree.leaves(same))}")
    return losses, before, after


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
