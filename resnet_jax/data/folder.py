"""A data set that is a directory of image files: PATH/SPLIT/CLASS/FILE."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from resnet_jax.data import content
from resnet_jax.data.decoding import LARGEST_FILE, DamagedImageError, EncodedImage, Pixels
from resnet_jax.data.examples import Source
from resnet_jax.errors import UserError, warn
from resnet_jax.files import read_file
from resnet_jax.paths import expanded

# Of formats that Pillow reads and people keep photographs or scans in.
EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".tif", ".tiff", ".webp", ".avif",
    ".bmp", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
TRAIN = "train"
# Suffixes of skipped files.
KINDS_NAMED = 5


class FolderExamples:
    """The image files of one split.

    Args:
        directory: of the split.
        files: of each class, relative to `directory`.
    """

    def __init__(self, directory: Path, files: Mapping[str, list[str]], labels: list[int]) -> None:
        self.directory = str(directory)
        self.files = [file for names in files.values() for file in names]
        self.labels = np.repeat(labels, [len(names) for names in files.values()]).astype(np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Pixels, int]:
        path = self.path(index)
        try:
            image = read_file(path, LARGEST_FILE)
        except OSError as error:
            raise DamagedImageError(path, error.strerror or str(error)) from error
        return EncodedImage(image, path), int(self.labels[index])

    def path(self, index: int) -> str:
        return os.path.join(self.directory, self.files[index])


def resolve(path: str, data_dir: str | None) -> Path:
    """`path`, which begins in `data_dir` where it is relative and that is set."""
    return expanded("data.data_dir", data_dir or ".") / expanded("data.name", path)


def folder_source(path: str, data_dir: str | None = None) -> Source:
    """A directory with a directory a split, and in it one a class, of image files.

    Classes are those of `train`, sorted by name; files are sorted too, so that the order does not
    depend on the file system. Files with other extensions, and names that begin with a dot, are left
    out, and a warning counts them.

    Args:
        path: of the directory.
        data_dir: where a relative path begins; None: the working directory.

    Raises:
        UserError: the directories are not in order; names the one that is not.
    """
    name, root = f"folder:{path}", resolve(path, data_dir)
    if not root.is_dir():
        raise UserError("data.name", name, f"there is no directory {root}")
    skipped: Counter[str] = Counter()
    try:
        scanned = {split: _scan(root / split, skipped) for split in _directories(root)}
    except OSError as error:
        problem = f"{error.filename} cannot be read ({error.strerror})"
        raise UserError("data.name", name, problem) from error
    splits = {split: classes for split, classes in scanned.items() if classes}
    _check(name, root, splits)
    if skipped:
        count = f"{skipped.total():,} file{'s' * (skipped.total() > 1)}"
        warn(f"{name}: {count} left out, not images by name: {_counts(skipped)}")
    class_names = tuple(splits[TRAIN])

    def open_split(split: str) -> FolderExamples:
        if split not in splits:
            raise UserError("data split", split, f"{name} has {', '.join(splits)}")
        labels = [class_names.index(class_name) for class_name in splits[split]]
        return FolderExamples(root / split, splits[split], labels)

    def digest(split: str) -> str:
        examples = open_split(split)
        files = content.of_each(_of_file, map(examples.path, range(len(examples))))
        return content.of_facts(files, content.of_array(examples.labels))

    return Source(name, class_names, (None, None, 3), tuple(splits), open_split, digest)


def _of_file(path: str) -> str:
    try:
        return content.of_file(path, LARGEST_FILE)
    except OSError as error:
        # A link to nowhere, say, which counts as an image that cannot be read.
        return error.strerror or str(error)


def _check(name: str, root: Path, splits: Mapping[str, Mapping[str, list[str]]]) -> None:
    wanted = f"it needs {root / TRAIN}/CLASS/*.jpg (or another image format)"
    if TRAIN not in splits:
        found = f"has {', '.join(splits)}" if splits else "has no directories of classes"
        raise UserError("data.name", name, f"{found}, and not {TRAIN}", wanted)
    for split, classes in splits.items():
        for class_name, files in classes.items():
            directory = root / split / class_name
            if deeper := _directories(directory):
                problem = f"the class directory {directory} holds a directory, {deeper[0]}"
                fix = "put images right into the directory of their class"
                raise UserError("data.name", name, problem, fix)
            if not files:
                problem = f"the class directory {directory} holds no image"
                raise UserError("data.name", name, problem, "add images or remove it")
            if class_name not in splits[TRAIN]:
                problem = f"the class of {directory} is not in {TRAIN}"
                raise UserError("data.name", name, problem, "add it there, or remove it here")


def _directories(parent: Path) -> list[str]:
    with os.scandir(parent) as entries:
        return sorted(e.name for e in entries if _is(e.is_dir) and not e.name.startswith("."))


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind, which a link that leads back to itself is not."""
    try:
        return kind()
    except OSError:
        return False


def _scan(split: Path, skipped: Counter[str]) -> dict[str, list[str]]:
    """Image files by class; others are counted in `skipped` by their suffix."""
    classes = {}
    for class_name in _directories(split):
        with os.scandir(split / class_name) as entries:
            names = sorted(entry.name for entry in entries)
        images = [n for n in names if n.lower().endswith(EXTENSIONS) and n[0] != "."]
        classes[class_name] = [os.path.join(class_name, image) for image in images]
        skipped.update(_kind(n) for n in set(names) - set(images))
    if classes:
        with os.scandir(split) as entries:
            skipped.update(_kind(e.name) for e in entries if _is(e.is_file))
    return classes


def _counts(skipped: Counter[str]) -> str:
    ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    named, others = ordered[:KINDS_NAMED], ordered[KINDS_NAMED:]
    counts = [f"{count:,} {kind}" for kind, count in named]
    return ", ".join(counts + ([f"{sum(n for _, n in others):,} others"] if others else []))


def _kind(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    return "hidden" if name[0] == "." else suffix or "without a suffix"
