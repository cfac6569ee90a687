"""Image files that claim more than they hold, or are no files. Each is left out at once, with bounded memory."""

import os
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from image_files import encoded, scene, write_folder
from PIL import Image

from resnet_jax.data import decoding
from resnet_jax.data.decoding import DamagedImageError, EncodedImage
from resnet_jax.data.sources import open_source

SCENE = scene()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*extra):
    content = encoded(SCENE[:16, :16], "PNG")
    return content[:33] + b"".join(extra) + content[33:]


def claiming(form, side, **options):
    """A small image whose header is changed to claim side²."""
    content = bytearray(encoded(Image.fromarray(SCENE[:16, :16]), form, **options))
    if form == "JPEG":
        marker = b"\xff\xc2" if options.get("progressive") else b"\xff\xc0"
        place, new = content.index(marker) + 5, struct.pack(">HH", side, side)
    elif form == "PNG":
        head = struct.pack(">II", side, side) + content[24:29]
        place, new = 12, chunk(b"IHDR", head)[4:]
    elif form == "GIF":
        place, new = 6, struct.pack("<HH", side, side)
    elif form == "BMP":
        place, new = 18, struct.pack("<ii", side, side)
    elif form == "WEBP":
        place = content.index(b"VP8L") + 9
        new = struct.pack("<I", (side - 1) | (side - 1) << 14)
    else:
        return bytes(content).replace(b"16 16", f"{side} {side}".encode(), 1)
    content[place : place + len(new)] = new
    return bytes(content)


def tile(side):
    """A TIFF file of 16 × 16 pixels in a tile of side²."""
    packed = zlib.compress(bytes(10**5), 9)
    tags = [(256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    tags += [(324, 10 + 12 * (len(tags) + 2) + 4), (325, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed


CLAIMS = {
    "jpeg": claiming("JPEG", 65_500),
    "progressive": claiming("JPEG", 65_500, progressive=True),
    "png": claiming("PNG", 13_376),
    "large png": claiming("PNG", 2**31 - 1),
    "gif": claiming("GIF", 65_535),
    "bmp": claiming("BMP", 2**20),
    "webp": claiming("WEBP", 16_383, lossless=True),
    "ppm": claiming("PPM", 13_376),
    "tile": tile(65_536),
}


@pytest.mark.parametrize("content", CLAIMS.values(), ids=CLAIMS)
def test_too_many_pixels_are_refused_by_the_header(content):
    with pytest.raises(
        DamagedImageError, match="has more than the 67,108,864 pixels that are read"
    ):
        EncodedImage(content, "x").pixels()


def test_the_limit_itself_is_read(monkeypatch):
    for form in ("JPEG", "PNG"):
        monkeypatch.setattr(decoding, "MOST_PIXELS", 30 * 40)
        assert EncodedImage(encoded(SCENE[:30, :40], form), "x").pixels()[0].shape == (30, 40, 3)
        with pytest.raises(DamagedImageError, match="more than the 1,200 pixels"):
            EncodedImage(encoded(SCENE[:31, :40], form), "x")


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26), 9)),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26), 9)),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(2**26), 9)),
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**20), 9)) * 100,
    ],
)
def test_packed_texts_and_profiles(extra):
    with pytest.raises(DamagedImageError, match=r"too large|Too much memory"):
        EncodedImage(png(extra), "x").pixels()


def test_postscript_is_not_read_whatever_its_suffix():
    """Pillow would run another program."""
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(DamagedImageError, match="no image file of a format that is read"):
        EncodedImage(content, "x.jpg")


def test_flipped_bits_are_pixels_or_an_unreadable_image():
    rng = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
        whole = encoded(SCENE[:24, :24], form)
        for _ in range(40):
            content = bytearray(whole)
            for place in rng.integers(min(len(whole), 300), size=2):
                content[place] ^= 1 << rng.integers(8)
            try:
                assert EncodedImage(bytes(content), "x").pixels()[0].dtype == np.uint8
            except DamagedImageError:
                continue


PROGRAM = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from resnet_jax.data.decoding import DamagedImageError, EncodedImage
content = open(sys.argv[1], "rb").read()
def read(_):
    try:
        EncodedImage(content, "x").pixels()
    except DamagedImageError:
        pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as pool:
    list(pool.map(read, range(4)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tile"])
def test_four_threads_with_a_bomb_each_take_little_memory(tmp_path, name):
    (tmp_path / "bomb").write_bytes(CLAIMS[name])
    words = [sys.executable, "-c", PROGRAM, str(tmp_path / "bomb")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50


def make_device(path):
    path.symlink_to("/dev/zero")


def make_loop(path):
    path.symlink_to(path)


def make_sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


PROBLEMS = {
    os.mkfifo: "is not a regular file",
    make_device: "is not a regular file",
    make_loop: "Too many levels of symbolic links",
    make_sparse: "its 1,099,511,627,776 bytes are more than the 536,870,912 that are read",
}


@pytest.mark.parametrize("make", PROBLEMS)
def test_what_is_not_a_file_is_an_unreadable_image(tmp_path, make):
    write_folder(tmp_path, {"train/cat/b.jpg": encoded(SCENE), "train/dog/c.jpg": encoded(SCENE)})
    make(tmp_path / "train" / "cat" / "a.jpg")
    start = time.monotonic()
    source = open_source(f"folder:{tmp_path}")
    examples = source.open("train")
    with pytest.raises(DamagedImageError, match=PROBLEMS[make]):
        examples[0]
    assert examples[1][0].shape == SCENE.shape
    assert source.content("train")
    assert time.monotonic() - start < 5


def test_a_class_that_is_a_link_to_itself_is_left_out(tmp_path):
    write_folder(tmp_path, {"train/cat/b.jpg": encoded(SCENE), "train/dog/c.jpg": encoded(SCENE)})
    (tmp_path / "train" / "loop").symlink_to("loop")
    assert open_source(f"folder:{tmp_path}").class_names == ("cat", "dog")
