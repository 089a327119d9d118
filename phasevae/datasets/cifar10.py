"""CIFAR-10 from its canonical binary archive (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets import archives
from phasevae.datasets.base import Dataset, checked_choice, checked_flag, checked_path
from phasevae.datasets.fetch import fetched
from phasevae.datasets.image_files import converted
from phasevae.datasets.image_stack import preprocessing, scaled
from phasevae.datasets.images import checked_size
from phasevae.datasets.reading import RawSamples
from phasevae.datasets.standardize import standardized
from phasevae.errors import InputError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SIZE = 170_052_171
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE
N_CLASSES = 10
BATCHES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
BATCHES["all"] = BATCHES["train"] + BATCHES["test"]

N_SAMPLES = {"train": 50_000, "test": 10_000, "all": 60_000}
"""Images in the canonical archive."""


def cifar10(
    *,
    archive: Path | str | None = None,
    split: str = "all",
    size: int | None = 8,
    grey: bool = True,
    standardize: str = "per-feature",
) -> Dataset:
    """Build a data set of the CIFAR-10 images, training batches first.

    Parameters
    ----------
    archive : path, optional
        A local archive or folder with files data_batch_1..5.bin and test_batch.bin. Each holds any number of records of
        1 label byte and 3 x 1024 pixel bytes. By default the canonical archive is downloaded once and kept in the
        user's cache (or PHASEVAE_CACHE).
    split : {"all", "train", "test"}
    size, grey, standardize
        As in `phasevae.datasets.images.images`.

    References
    ----------
    A. Krizhevsky, Learning multiple layers of features from tiny images (2009).
    """
    checked_choice("split", split, tuple(BATCHES))
    size = checked_size(size)
    grey = checked_flag("grey", grey)
    path = fetched(URL, SIZE, SHA256) if archive is None else checked_path("archive", archive)
    stacks, labels, names = {}, {}, []
    for name, content in archives.members(path, lambda name: PurePosixPath(name).name in BATCHES[split]):
        batch = PurePosixPath(name).name
        records = _records(content.read(), f"{path}: {name}")
        stacks[batch], labels[batch] = _converted_batch(_pixels(records), size, grey), records[:, 0]
        names.append(name)
    missing = [batch for batch in BATCHES[split] if batch not in stacks]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing, must be a CIFAR-10 archive in the binary layout")
    stack = np.concatenate([stacks[batch] for batch in BATCHES[split]])
    changes = [*["grey"] * grey, *[f"resized to {size} x {size}"] * (size not in (None, SIDE)), "divided by 255"]
    raw = RawSamples(
        scaled(stack),
        str(path),
        archives.source_of(path, names),
        changes=tuple(changes),
        labels=np.concatenate([labels[batch] for batch in BATCHES[split]]),
    )
    return standardized(raw, standardize, preprocessing(stack.shape[1:], size))


def _records(content: bytes, label: str) -> NDArray[np.uint8]:
    """The records [N, RECORD] of a batch file: a label, then the pixels."""
    if not content or len(content) % RECORD:
        raise InputError(f"{label}: {len(content)} bytes, must be a positive multiple of {RECORD} (CIFAR-10 records)")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() >= N_CLASSES:
        row = int(np.argmax(records[:, 0] >= N_CLASSES))
        raise InputError(f"{label}: record {row} has label {records[row, 0]}, must be 0 to {N_CLASSES - 1}")
    return records


def _pixels(records: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels [N, 32, 32, 3] of records."""
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _converted_batch(pixels: NDArray[np.uint8], size: int | None, grey: bool) -> NDArray[np.uint8]:
    from PIL import Image

    return np.stack([converted(Image.fromarray(image), size, grey) for image in pixels])
