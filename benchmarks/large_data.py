"""Train on data that are larger than memory, and print the memory that the training took.

    python benchmarks/large_data.py FOLDER                                      # 1.25 million rows of 4,096 features
    python benchmarks/large_data.py FOLDER --rows 80_000_000 --features 64      # the same 20 GB

FOLDER gets a sparse file data.npy of the full size, of which one row in 64 is on the disk; the others are zero. The
file is hashed, checked, centred, ordered, trained with and measured as any data set.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from shared import make_parser

from phasevae.artifacts.files import file_sha256, read_json, write_json

NONZERO = 64
EIGENVALUES = (4.0, 2.0, 1.0, 0.5)
"""Those of the whole, with the zero rows."""


def write_rows(folder: Path, rows: int, features: int) -> int:
    """Write data.npy and data.json; return the bytes that the array has on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.npy"
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(features, len(EIGENVALUES))))[0].T * np.sqrt(np.array(EIGENVALUES)[:, None])
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<f4", "fortran_order": False, "shape": (rows, features)}
        )
        start = stream.tell()
        stream.truncate(start + 4 * rows * features)
    x = np.memmap(path, np.float32, "r+", start, (rows, features))
    # Runs of rows, because a file has holes of 4 KiB and more.
    run = max(1, 2**16 // (4 * features))
    for first in range(0, rows, NONZERO * run):
        part = x[first : first + run]
        part[:] = np.sqrt(NONZERO) * rng.normal(size=(len(part), len(EIGENVALUES))) @ axes
    x.flush()
    del x
    record = {
        "name": "large",
        "n_samples": rows,
        "dimension": features,
        "preprocessing": {},
        "constant_features": [],
        "mean": [0.0] * features,
        "scale": [1.0] * features,
        "sha256": file_sha256(path),
        "provenance": {"kind": "benchmark"},
    }
    write_json(folder / "data.json", record)
    return 512 * path.stat().st_blocks


def main() -> None:
    parser: argparse.ArgumentParser = make_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_250_000)
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--memory-mb", type=int, default=512)
    parser.add_argument("--samples", type=float, default=2e4)
    parser.add_argument("--hidden", default="32")
    arguments = parser.parse_args()
    on_disk = write_rows(arguments.folder, arguments.rows, arguments.features)
    size = (arguments.folder / "data.npy").stat().st_size
    print(
        f"{arguments.rows:,} x {arguments.features:,} float32, {size / 1e9:.1f} GB, {on_disk / 1e9:.2f} GB on the disk"
    )
    command = [sys.executable, "-c", "from phasevae.cli.main import main; main()", "train", str(arguments.folder)]
    command += ["--sigma2", "1.4", "--seeds", "0", "--latent", "4", "--hidden", arguments.hidden]
    command += ["--samples", str(arguments.samples), "--data-memory-mb", str(arguments.memory_mb), "--threads", "1"]
    begin = time.monotonic()
    subprocess.run([*command, "-o", str(arguments.folder / "points")], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"peak resident memory {peak / 2**20:.2f} GiB, {time.monotonic() - begin:.0f} s")
    for path in sorted((arguments.folder / "points").glob("*/point.json")):
        point = read_json(path)
        seconds = read_json(path.with_name("timing.json"))
        print(
            f"{path.parent.name}: KL {point['kl']:.3f} nats, mse {point['mse']:.3f}; "
            f"{seconds['train_seconds']:.0f} s of training, {seconds['measure_seconds']:.0f} s of measurement"
        )


if __name__ == "__main__":
    main()
