"""CIFAR-10 from its canonical binary archive (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from phasevae.datasets import archives, images
from phasevae.datasets.base import Dataset, checked_choice, checked_flag, checked_path
from phasevae.datasets.fetch import fetched
from phasevae.datasets.images import checked_size, from_pixels
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
N_SAMPLES = {"train": 50_000, "test": 10_000, "all": 60_000}
"""Images in the canonical archive."""

BATCHES["all"] = BATCHES["train"] + BATCHES["test"]


def cifar10(
    *,
    archive: Path | str | None = None,
    split: str = "all",
    size: int | None = 8,
    grey: bool = True,
    standardize: str = "per-feature",
) -> Dataset:
    """The CIFAR-10 images, training batches first, preprocessed as `images` does.

    Without `archive` the canonical file is fetched once and kept in the user's cache (or PHASEVAE_CACHE). A local
    archive may hold any number of records in the canonical layout: files data_batch_1..5.bin and test_batch.bin of
    1 label byte and 3 x 1024 pixel bytes a record.
    """
    checked_choice("split", split, tuple(BATCHES))
    size = checked_size(size)
    grey = checked_flag("grey", grey)
    path = fetched(URL, SIZE, SHA256) if archive is None else checked_path("archive", archive)
    stacks, names = {}, []
    for name, content in archives.members(path, lambda name: PurePosixPath(name).name in BATCHES[split]):
        batch = PurePosixPath(name).name
        stacks[batch] = _preprocessed(_planes(content, f"{path}: {name}"), size, grey)
        names.append(name)
    missing = [batch for batch in BATCHES[split] if batch not in stacks]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} missing, must be a CIFAR-10 archive in the binary layout")
    stack = np.concatenate([stacks[batch] for batch in BATCHES[split]])
    return from_pixels(stack, str(path), standardize, grey, archives.source_of(path, names))


def _planes(content: bytes, label: str) -> NDArray[np.uint8]:
    """Pixels [N, 3, 32, 32] of the records of one batch file."""
    if not content or len(content) % RECORD:
        raise InputError(f"{label}: {len(content)} bytes, must be a positive multiple of {RECORD} (CIFAR-10 records)")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() >= N_CLASSES:
        row = int(np.argmax(records[:, 0] >= N_CLASSES))
        raise InputError(f"{label}: record {row} has label {records[row, 0]}, must be 0 to {N_CLASSES - 1}")
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE)


def _preprocessed(planes: NDArray[np.uint8], size: int | None, grey: bool) -> NDArray[np.uint8]:
    """Grey [N, H, W] or RGB [N, H, W, 3], resized."""
    stack = images.grey601(planes) if grey else planes
    if size is not None:
        stack = images.resize(stack, size)
    return stack if grey else stack.transpose(0, 2, 3, 1)
