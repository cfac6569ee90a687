"""What evaluate, analyze and export make of an image is one thing."""

import json

import jax
import numpy as np
import pytest
from jax import export

from resnet_jax import cli
from resnet_jax.analysis import deepen, landscape, lesion
from resnet_jax.analysis.chain import split_chain
from resnet_jax.analysis.subject import open_runs

PROTOCOLS = {
    "as trained": {},
    "size and crop": {"image_size": 12, "crop_fraction": 0.7},
    "scales": {"scales": "(6, 11)"},
    "ten crops": {"image_size": 7, "crop_fraction": 0.8, "crops": 10},
}


def whole(chain):
    """No lesion at all."""
    blocks = np.arange(chain.num_blocks)[None]
    return lesion.Lesions(np.ones(blocks.shape, bool), blocks)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_evaluate_analyze_and_export_agree(small_run, protocol, tmp_path, capsys):
    fields = {f"evaluate.{name}": value for name, value in PROTOCOLS[protocol].items()}
    words = [f"--workdir={small_run}", *(f"--config.{f}={value}" for f, value in fields.items())]
    assert cli.main(["evaluate", *words, "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["accuracy"]

    (subject,) = open_runs([str(small_run)], fields)
    image = subject.evaluated_image
    images, labels, _ = subject.examples(None, None, 0, image=image)
    chain, _ = split_chain(subject.model)
    data = images, labels
    (error,) = lesion.error_after(subject.model, *data, whole(chain), views=image.views)
    assert 1 - error == pytest.approx(expected, abs=1e-9)
    logits, _ = deepen.run_network(subject.model, images, views=image.views)
    assert (logits.argmax(1) == labels).mean() == pytest.approx(expected, abs=1e-9)

    file = tmp_path / "network.stablehlo"
    assert cli.main(["export", *words, f"--out={file}"]) == 0
    network = export.deserialize(bytearray(file.read_bytes()))
    exported = network.call(images)
    np.testing.assert_allclose(exported, logits, rtol=1e-3, atol=1e-4)
    assert (exported.argmax(1) == labels).mean() == pytest.approx(expected, abs=1e-9)


def test_the_centre_of_a_loss_landscape_has_the_accuracy_of_ten_crops(small_run):
    """Of its views the logits are averaged, not the losses."""
    fields = {f"evaluate.{name}": value for name, value in PROTOCOLS["ten crops"].items()}
    (subject,) = open_runs([str(small_run)], fields)
    image = subject.evaluated_image
    images, labels, _ = subject.examples(None, 40, 0, image=image)
    directions = [jax.tree.map(np.zeros_like, landscape.pure_arrays(subject.model))]
    found = landscape.losses_at(
        subject.model, directions, np.zeros((1, 1)), images, labels, views=image.views
    )
    views = [subject.model(view) for view in image.views(images)]
    logits = jax.nn.log_softmax(np.mean(views, 0))
    assert found["accuracy"][0] == pytest.approx((logits.argmax(1) == labels).mean())
    loss = -np.mean(np.asarray(logits)[np.arange(len(labels)), labels])
    assert found["loss"][0] == pytest.approx(loss, rel=1e-4)
