"""Files that claim more than they hold, or are none: each does what its docstring says, and returns what came of it."""

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from commands import ROOT, command_line, run
from faulty_runs import Outcome, copy_of_undisturbed, refused, short, undisturbed
from image_files import encoded, scene, write_folder

SCENE = scene()
# MiB; what a process may take beside what it has.
MEMORY = 500


def images_that_claim_too_many_pixels(directory):
    """A JPEG of some hundred bytes that claims 65,500 × 65,500 pixels, a PNG of 22 kB that has 13,376 × 13,376, a TIFF with such a tile"""
    bombs = {
        "train/cat/a.jpg": _jpeg_claiming(65_500),
        "train/cat/b.png": _png_of_zeros(13_376),
        "train/cat/c.tif": _tiff_with_tile(16_384),
    }
    return _left_out(directory, bombs, "has more than the 67,108,864 pixels that are read")


def images_that_are_no_files(directory):
    """A pipe, a link to an endless device, one to itself, and a sparse file of 1 TB among the images"""
    folder = _folder(directory, {})
    cat = folder / "train" / "cat"
    os.mkfifo(cat / "a.png")
    (cat / "b.jpg").symlink_to("/dev/zero")
    (cat / "c.jpg").symlink_to(cat / "c.jpg")
    with (cat / "d.jpg").open("wb") as file:
        file.truncate(2**40)
    problems = ("is not a regular file", "is not a regular file", "Too many levels", "its 1,099,")
    return _train(
        directory, folder, dict(zip(("a.png", "b.jpg", "c.jpg", "d.jpg"), problems, strict=True))
    )


def zip_bomb_as_weights(directory):
    """A .pth file of 1 MB that unpacks to 1 GB"""
    import torch

    content = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(2**18)}, content)
    path = directory / "bomb.pth"
    with (
        zipfile.ZipFile(content) as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in archive.namelist():
            with bomb.open(name, "w") as file:
                is_storage = name.endswith("data/0")
                file.write(archive.read(name) * (2**10 if is_storage else 1))
    option = f"--config.model.init_from={path}"
    before = _peak()
    message = refused(
        _run("train", directory / "run", option), "model.init_from", "it unpacks to 1,073,"
    )
    assert _peak() - before < MEMORY
    assert not (directory / "run").exists()
    return Outcome(f"`{short(message)}`", [2])


def odd_run_in_a_report(directory):
    """A report on four runs: one is good; of the others status.json is `[1]`, a pipe, and a million brackets"""
    for name in ("a", "b", "c", "good"):
        copy_of_undisturbed(directory / "runs", name)
    runs = directory / "runs"
    (runs / "a" / "status.json").write_text("[1]")
    (runs / "b" / "status.json").unlink()
    os.mkfifo(runs / "b" / "status.json")
    (runs / "c" / "status.json").write_text("[" * 10**6)
    done = command_line().run("report", str(runs))
    assert done.returncode == 0, done.stderr
    text = (runs / "report" / "report.md").read_text()
    assert "3 unreadable" in text
    for reason in ("it holds no JSON object", "is neither a file nor", "nested too deeply"):
        assert reason in text
    return Outcome("the report has the good run, and why the others cannot be read", [0])


def truncated_log(directory):
    """The last two train lines of a run that is done removed; the newest checkpoint too, then trained again"""
    workdir = copy_of_undisturbed(directory)
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    steps = [json.loads(line)["step"] for line in lines if json.loads(line)["event"] == "train"]
    path.write_text(
        "".join(line for line in lines if json.loads(line)["step"] not in steps[1:2] + steps[-2:])
    )
    reported = command_line().run("report", str(workdir))
    assert reported.returncode == 0, reported.stderr
    words = f"metrics.jsonl ends at step {steps[-3]} of 10"
    assert words in (workdir / "report" / "report.md").read_text()
    shutil.rmtree(workdir / "report")
    shutil.rmtree(workdir / "checkpoints" / "10")
    done = run("train", workdir)
    assert done.returncode == 0, done.stderr
    gap = f"metrics.jsonl ends at step {steps[0]} of 5"
    assert gap in " ".join(done.stdout.split()), done.stdout
    return Outcome(f"the report and the next start say so: `{words}`, `{gap}`", [0, 0], 5)


def _jpeg_claiming(side):
    content = bytearray(encoded(SCENE[:16, :16]))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", side, side)
    return bytes(content)


def _png_of_zeros(side):
    """One bit a pixel."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    packed = zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _tiff_with_tile(side):
    """16 × 16 grey pixels in a tile of `side`² that is packed."""
    packed = zlib.compress(bytes(side * side // 64), 9)
    tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags += [(324, start), (325, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed


def _folder(directory, more):
    good = {
        f"{split}/{name}/{i}.jpg": encoded(SCENE)
        for split in ("train", "val")
        for name in ("cat", "dog")
        for i in (1, 2)
    }
    return write_folder(directory / "pets", good | more)


def _left_out(directory, bombs, problem):
    folder = _folder(directory, bombs)
    return _train(directory, folder, {Path(name).name: problem for name in bombs})


def _train(directory, folder, problems):
    """Train with as many bad images as there are, and with one less: each is named, and memory is bounded."""
    before = _peak()
    options = [
        f"--config.data.name=folder:{folder}", "--config.data.image_size=8", "--config.data.placement=stream",
        "--config.train.batch_size=8", "--config.train.duration=2 steps", "--config.schedule.warmup=0",
        "--config.data.pad=0", "--config.model.depth=8",
    ]  # fmt: skip
    limit = "--config.data.max_bad_examples"
    done = _run("train", directory / "run", *options, f"{limit}={len(problems)}")
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    for name, problem in problems.items():
        assert name in told, told
        assert problem in told, told
    assert _peak() - before < MEMORY, _peak() - before
    message = refused(
        _run("train", directory / "other", *options, f"{limit}={len(problems) - 1}"),
        "unreadable images",
    )
    return Outcome(f"within the limit left out and named; else `{short(message)}`", [0, 2])


def _run(name, workdir, *options):
    config = f"--config={ROOT}/configs/digits.py"
    return command_line().run(name, config, f"--workdir={workdir}", *options)


def _peak():
    """The most memory that the process of the command line has taken so far, a training included, in MiB."""
    undisturbed()
    text = Path(f"/proc/{command_line().pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) // 1024
