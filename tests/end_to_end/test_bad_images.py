"""A folder with every kind of bad image, through the command line: each gets its right outcome."""

import json

import numpy as np
import pytest
from commands import ROOT
from image_files import encoded, frames, scene, with_orientation, write_folder
from PIL import Image

from resnet_jax.cli import main

SCENE = scene()
JPEG = encoded(SCENE)
STRANGE = {
    "train/cat/1x1.png": encoded(SCENE[:1, :1], "PNG"),
    "train/cat/16_bits.png": encoded(SCENE[..., 0].astype(np.uint16) * 257, "PNG"),
    "train/cat/cmyk.jpg": encoded(Image.fromarray(SCENE).convert("CMYK")),
    "train/cat/grey.jpg": encoded(SCENE[..., 0]),
    "train/dog/animated.png": frames("PNG", SCENE),
    "train/dog/animated.webp": frames("WEBP", SCENE),
    "train/dog/ribbon.png": encoded(np.zeros((10, 20_000, 3), np.uint8), "PNG"),
    "train/dog/turned.jpg": with_orientation(SCENE, 6),
    "train/dog/transparent.png": encoded(Image.fromarray(SCENE).convert("RGBA"), "PNG"),
    "train/dog/png_in_truth.jpg": encoded(SCENE, "PNG"),
    "val/cat/1.jpg": JPEG,
    "val/dog/2.jpg": JPEG,
    "val/dog/3.jpg": JPEG,
}
DAMAGED = {
    "train/cat/truncated.jpg": JPEG[: len(JPEG) // 2],
    "train/dog/text.jpg": b"This is no image.",
    "val/dog/cut.jpg": JPEG[: len(JPEG) // 3],
}


def train(folder, workdir, **fields):
    fields = {
        "model.depth": 8,
        "data.name": f"folder:{folder}",
        "data.image_size": 16,
        "data.crop_fraction": 0.8,
        "data.random_resized_crop": True,
        "data.placement": "stream",
        "data.pad": 0,
        "train.batch_size": 12,
        "train.duration": "2 steps",
        "schedule.warmup": 0,
        "parallel.num_devices": 1,
        **{name.replace("__", "."): value for name, value in fields.items()},
    }
    options = [f"--config.{name}={value}" for name, value in fields.items()]
    return main(["train", f"--config={ROOT}/configs/digits.py", f"--workdir={workdir}", *options])


def lines(workdir, event):
    every = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in every if line["event"] == event]


def test_within_the_limit_each_damaged_image_is_named_and_the_run_goes_on(tmp_path, capsys):
    folder = write_folder(tmp_path / "pets", STRANGE | DAMAGED)
    run = tmp_path / "run"
    assert train(folder, run, data__max_bad_examples=3) == 0
    named = {line["example"]: line for line in lines(run, "bad_example")}
    assert set(named) == {str(folder / path) for path in DAMAGED}
    assert (
        named[f"{folder}/train/dog/text.jpg"]["problem"]
        == "is no image file of a format that is read"
    )
    assert named[f"{folder}/train/cat/truncated.jpg"]["step"] == 1
    assert named[f"{folder}/val/dog/cut.jpg"]["step"] == 2
    output = capsys.readouterr().out
    assert all(f"warning: unreadable image: {name}" in output for name in named)
    (evaluation,) = lines(run, "eval")
    assert evaluation["examples"] == 3
    assert all(line["input_wait"] >= 0 for line in lines(run, "train"))

    options = ["--config.evaluate.crops=10", "--json"]
    assert main(["evaluate", f"--workdir={run}", *options]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["examples"] == 3
    assert "cut.jpg" in captured.err
    refused = ["--config.data.max_bad_examples=0"]
    assert main(["evaluate", f"--workdir={run}", *refused]) == 2
    assert "1 unreadable image; the last: " in capsys.readouterr().err


def test_past_the_limit_the_run_stops_and_names_the_last_files(tmp_path, capsys):
    folder = write_folder(tmp_path / "pets", STRANGE | DAMAGED)
    run = tmp_path / "run"
    assert train(folder, run, data__max_bad_examples=1) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: data.max_bad_examples = 1: 2 unreadable images; the last: ")
    assert "truncated.jpg" in message
    assert "text.jpg (is no image file of a format that is read)" in message
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "failed"
    assert "2 unreadable images" in status["error"]
    assert len(lines(run, "bad_example")) == 2
    assert not lines(run, "train")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"train/bird": None}, "train/bird holds no image"),
        ({"val/bird/1.jpg": JPEG}, "val/bird is not in train"),
        (DAMAGED, "max_bad_examples = 0"),
    ],
)
def test_decoded_for_the_device_and_directories_not_in_order(tmp_path, capsys, files, words):
    """All of this is found before anything is written."""
    folder = write_folder(tmp_path / "pets", STRANGE | files)
    fields = {"data.placement": "device", "data.random_resized_crop": False}
    assert train(folder, tmp_path / "run", **fields) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert words in message
    assert not (tmp_path / "run").exists()
