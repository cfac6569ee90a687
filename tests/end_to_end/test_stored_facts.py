"""Facts of a training are stored with the run: whatever reads it later takes them from there."""

import json
import shutil

import numpy as np
import pytest
from image_files import encoded
from safetensors.numpy import load_file

from resnet_jax.cli import main

COLOURS = {"cat": (200, 40, 40), "dog": (40, 40, 200)}
SMALL = {
    "model.depth": 8,
    "data.pad": 0,
    "train.duration": "12 steps",
    "train.batch_size": 16,
    "schedule.warmup": 0,
    "schedule.name": "constant",
    "optimizer.learning_rate": 0.05,
    "evaluate.every": "12 steps",
    "checkpoint.every": "6 steps",
    "parallel.num_devices": 1,
    "data.image_size": 8,
}


def pets(root, names=("cat", "dog"), shift=0, seed=0):
    """A folder of noisy squares of two colours, whose classes are called `names`."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", 20), ("val", 10)):
        for name, colour in zip(names, COLOURS.values(), strict=True):
            directory = root / split / name
            directory.mkdir(parents=True)
            for index in range(count):
                noisy = np.array(colour) + rng.normal(0, 60, (8, 8, 3)) + shift
                image = noisy.clip(0, 255).astype(np.uint8)
                (directory / f"{index}.png").write_bytes(encoded(image, "PNG"))


def words(command, workdir, **options):
    fields = SMALL if command == "train" else {}
    fields = fields | options
    first = ["--config=configs/digits.py"] if command == "train" else []
    return [
        command,
        *first,
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on `folder:pets` of the directory `A`; `B` is brighter, `C` has its classes renamed."""
    root = tmp_path_factory.mktemp("pets")
    pets(root / "A" / "pets")
    pets(root / "B" / "pets", shift=40, seed=1)
    pets(root / "C" / "pets", names=("zcat", "dog"))
    data = {"data.name": "folder:pets", "data.data_dir": root / "A"}
    assert main(words("train", root / "run", **data)) == 0
    return root


def result(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments]) == 0
    return json.loads(capsys.readouterr().out)


def error(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_brighter_images_are_normalised_as_in_training(trained, capsys, tmp_path):
    """`evaluate` agrees with the exported program, which has the constants in it."""
    from jax import export

    brighter = {"data.data_dir": trained / "B"}
    found = result(capsys, *words("evaluate", trained / "run", **brighter), "--json")
    file = tmp_path / "network.stablehlo"
    assert main([*words("export", trained / "run"), f"--out={file}", "--raw"]) == 0
    from PIL import Image

    right = 0
    network = export.deserialize(bytearray(file.read_bytes()))
    for label, name in enumerate(COLOURS):
        files = sorted((trained / "B" / "pets" / "val" / name).iterdir())
        images = np.stack([np.asarray(Image.open(path)) for path in files])
        right += int((network.call(images).argmax(1) == label).sum())
    assert found["accuracy"] == pytest.approx(right / 20)
    own = json.loads((trained / "run" / "data.json").read_text())
    assert own["mean"] == own["measured"]["mean"]


def test_other_classes_are_refused_everywhere(trained, capsys, tmp_path):
    other = {"data.data_dir": trained / "C"}
    expected = "classes: 'cat' is not there, 'zcat' is new"
    assert expected in error(capsys, *words("evaluate", trained / "run", **other))
    lesion = ["analyze", "lesion", *words("evaluate", trained / "run", **other)[1:]]
    assert expected in error(capsys, *lesion, f"--out={tmp_path / 'lesion'}")
    ensembles = ["analyze", "ensembles", *lesion[2:], f"--out={tmp_path / 'ensembles'}"]
    assert expected in error(capsys, *ensembles)
    resumed = tmp_path / "resumed"
    shutil.copytree(trained / "run", resumed)
    data = {"data.name": "folder:pets", **other}
    assert expected in error(capsys, *words("train", resumed, **data))


def test_evaluation_needs_no_training_images(trained, capsys):
    own = result(capsys, *words("evaluate", trained / "run"), "--json")
    for path in (trained / "A" / "pets" / "train").rglob("*.png"):
        path.rename(path.with_suffix(".hidden"))
        if path.stem == "0":
            path.with_suffix(".hidden").rename(path)
    try:
        assert result(capsys, *words("evaluate", trained / "run"), "--json") == own
    finally:
        for path in (trained / "A" / "pets" / "train").rglob("*.hidden"):
            path.rename(path.with_suffix(".png"))


def test_a_run_that_starts_from_another_takes_its_constants(trained, capsys, tmp_path):
    data = {"data.name": "folder:pets", "data.data_dir": trained / "B"}
    start = {"model.init_from": trained / "run", "train.duration": 1, "checkpoint.every": 1}
    assert main(words("train", tmp_path / "tuned", **data, **start)) == 0
    assert "normalised by" in capsys.readouterr().out
    own, tuned = (
        json.loads((run / "data.json").read_text()) for run in (trained / "run", tmp_path / "tuned")
    )
    assert (tuned["mean"], tuned["std"]) == (own["mean"], own["std"])
    assert tuned["measured"]["mean"][0] > own["mean"][0] + 0.1
    # At the start, the weights are those of the other run.
    for run, step, name in (("run", "latest", "own"), ("tuned", "init", "tuned")):
        path = trained / run if run == "run" else tmp_path / run
        out = tmp_path / f"{name}.safetensors"
        assert main([*words("export", path), f"--out={out}", f"--step={step}"]) == 0
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("own", "tuned"))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_classifier_of_other_classes_stays_fresh(trained, capsys, tmp_path):
    data = {"data.name": "folder:pets", "data.data_dir": trained / "C"}
    start = {"model.init_from": trained / "run", "train.duration": 1, "checkpoint.every": 1}
    assert main(words("train", tmp_path / "tuned", **data, **start)) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "without its classifier (classes: 'cat' is not there" in shown
    out = [tmp_path / f"{name}.safetensors" for name in ("own", "tuned")]
    assert main([*words("export", trained / "run"), f"--out={out[0]}"]) == 0
    assert main([*words("export", tmp_path / "tuned"), f"--out={out[1]}", "--step=init"]) == 0
    first, second = map(load_file, out)
    differ = {name for name in first if not np.array_equal(first[name], second[name])}
    assert differ == {"fc.weight", "fc.bias"}


def test_constants_of_the_config(trained, capsys, tmp_path):
    data = {"data.name": "folder:pets", "data.data_dir": trained / "A"}
    given = {"data.mean": "0.5, 0.25, 0", "data.std": "(0.5, 0.25, 1)", "train.duration": 1}
    assert main(words("train", tmp_path / "run", **data, **given)) == 0
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (facts["mean"], facts["std"]) == ([0.5, 0.25, 0.0], [0.5, 0.25, 1.0])
    assert facts["measured"]["mean"] != facts["mean"]
    for fields, problem in (
        ({"data.mean": "0.5, 0.5, 0.5"}, "data.std = None: data.mean and data.std go together"),
        ({"data.mean": "0.5", "data.std": "0.5"}, "the images have 3 channels"),
        ({"data.mean": "120, 3, 4", "data.std": "1, 1, 1"}, "must be from 0 to 1"),
        ({"data.interpolation": "cubic"}, "data.interpolation = 'cubic'"),
    ):
        assert problem in error(capsys, *words("train", tmp_path / "new", **data, **fields))
    assert not (tmp_path / "new").exists()


def test_a_log_has_one_protocol(trained, capsys):
    """`evaluate` may use another, `train` may not, and the run's own result stays."""
    data = {"data.name": "folder:pets", "data.data_dir": trained / "A"}
    before = (trained / "run" / "metrics.jsonl").read_text()
    changed = {"evaluate.scales": "5"}
    problem = error(capsys, *words("train", trained / "run", **data, **changed))
    assert "evaluate.scales: () → (5,)" in problem.replace("[]", "()").replace("[5]", "(5,)")
    found = result(capsys, *words("evaluate", trained / "run", **changed), "--json")
    assert found["evaluate.scales"] == [5]
    assert (trained / "run" / "metrics.jsonl").read_text() == before
