"""A data set that is a directory of image files: PATH/SPLIT/CLASS/FILE."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from resnet_jax.data.decoding import DamagedImageError, EncodedImage, Pixels
from resnet_jax.data.examples import Examples, Source
from resnet_jax.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
TRAIN = "train"


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
        path = os.path.join(self.directory, self.files[index])
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise DamagedImageError(path, error.strerror or str(error)) from error
        return EncodedImage(content, path), int(self.labels[index])


def resolve(path: str, data_dir: str | None) -> Path:
    """`path`, which begins in `data_dir` where it is relative and that is set."""
    return Path(data_dir or ".").expanduser() / Path(path).expanduser()


def folder_source(path: str, data_dir: str | None = None) -> Source:
    """A directory with a directory a split, and in it one a class, of image files.

    Classes are those of `train`, sorted by name; files are sorted too, so that the order does not
    depend on the file system. Files with other extensions, and names that begin with a dot, are left
    out.

    Args:
        path: of the directory.
        data_dir: where a relative path begins; None: the working directory.

    Raises:
        UserError: the directories are not in order; names the one that is not.
    """
    name, root = f"folder:{path}", resolve(path, data_dir)
    if not root.is_dir():
        raise UserError("data.name", name, f"there is no directory {root}")
    digest = hashlib.sha256()
    try:
        scanned = {split: _scan(root / split, digest) for split in _directories(root)}
    except OSError as error:
        problem = f"{error.filename} cannot be read ({error.strerror})"
        raise UserError("data.name", name, problem) from error
    splits = {split: classes for split, classes in scanned.items() if classes}
    _check(name, root, splits)
    class_names = tuple(splits[TRAIN])

    def open_split(split: str) -> Examples:
        if split not in splits:
            raise UserError("data split", split, f"{name} has {', '.join(splits)}")
        labels = [class_names.index(class_name) for class_name in splits[split]]
        return FolderExamples(root / split, splits[split], labels)

    fingerprint = f"folder-{root.name}-{digest.hexdigest()[:12]}"
    return Source(name, fingerprint, class_names, (None, None, 3), tuple(splits), open_split)


def _check(name: str, root: Path, splits: Mapping[str, Mapping[str, list[str]]]) -> None:
    wanted = f"it needs {root / TRAIN}/CLASS/*.jpg (or png, webp, bmp)"
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
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _scan(split: Path, digest: "hashlib._Hash") -> dict[str, list[str]]:
    """Image files by class; what tells their contents apart goes into `digest`."""
    classes = {}
    for class_name in _directories(split):
        with os.scandir(split / class_name) as entries:
            images = sorted(
                (e for e in entries if e.name.lower().endswith(EXTENSIONS) and e.name[0] != "."),
                key=lambda entry: entry.name,
            )
        classes[class_name] = [os.path.join(class_name, image.name) for image in images]
        for image in images:
            line = f"{split.name}/{class_name}/{image.name} {_version(image)}\n"
            digest.update(os.fsencode(line))
    return classes


def _version(image: os.DirEntry) -> str:
    try:
        facts = image.stat()
    except OSError:
        # A link to nowhere is a damaged image, which is told when it is read.
        return "missing"
    return f"{facts.st_size} {facts.st_mtime_ns}"
