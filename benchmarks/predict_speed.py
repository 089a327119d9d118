"""How long does `phasevae predict` take for large data, and how much memory? Also: the leading eigenvalues alone.

    python benchmarks/predict_speed.py --folder scratch --exact                             ten minutes, 3 GB of disk
    python benchmarks/predict_speed.py --folder scratch --rows 2000 --only leading --exact  a quick look
    python benchmarks/predict_speed.py --folder scratch --loss huber                        a loss function; or l1,
                                                                                            perceptual

measures `predict` on 60,000 x 3072 numbers, and the leading eigenvalues of 10,000 x 12,288 with their error. With
`--loss` it measures `predict` with a function of `speed_losses.py` on both. It writes the data into the folder and
keeps them there, and prints one line per size. The eigenvalues of the data fall as 1 / i, as those of images. Each
measurement is a process of its own; its peak memory is the kernel's maximum resident size, mapped pages of the data
file included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from shared import ROOT, child_environment, make_parser

SIZES = {"full": (60_000, 3072), "leading": (10_000, 12_288)}
TOP = 32
MEASURE = """
import json, resource, sys, time
start = time.perf_counter()
import phasevae
top, loss = int(sys.argv[2]) or None, sys.argv[3]
if loss:
    import speed_losses
    found = phasevae.predict(sys.argv[1], 16, loss=getattr(speed_losses, loss))
    values = found.setting.spectrum.eigenvalues[:32].tolist()
elif top:
    values = phasevae.compute_spectrum(sys.argv[1], top=top).eigenvalues.tolist()
else:
    values = phasevae.predict(sys.argv[1], 32, beta=1.0).setting.spectrum.eigenvalues[:32].tolist()
used = resource.getrusage(resource.RUSAGE_SELF)
seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": used.ru_utime + used.ru_stime}
print(json.dumps({**seconds, "peak_gib": used.ru_maxrss / 2**20, "values": values}))
"""


def write_data(path: Path, n: int, dimension: int) -> None:
    """Write Gaussian samples, unless the file exists.

    Parameters
    ----------
    path : file to write
    n, dimension : its shape. The eigenvalues are 100 / i in a basis of random reflections.
    """
    if path.exists():
        return
    rng = np.random.default_rng(0)
    reflectors = rng.normal(size=(8, dimension)).astype(np.float32)
    reflectors /= np.linalg.norm(reflectors, axis=1, keepdims=True)
    scale = np.sqrt(100 / np.arange(1, dimension + 1)).astype(np.float32)
    x = np.lib.format.open_memmap(path, "w+", np.float32, (n, dimension))
    for start in range(0, n, 2000):
        block = rng.standard_normal((min(2000, n - start), dimension), np.float32) * scale
        for v in reflectors:
            block -= 2 * np.outer(block @ v, v)
        x[start : start + len(block)] = block + 0.5
    x.flush()


def exact_eigenvalues(path: Path) -> np.ndarray:
    """Leading eigenvalues of the covariance, by the smaller matrix of products in float64."""
    from scipy.linalg import eigvalsh

    x = np.load(path, mmap_mode="r").astype(np.float64)
    x -= x.mean(0)
    n = len(x)
    gram = x @ x.T if n <= x.shape[1] else x.T @ x
    size = len(gram)
    return eigvalsh(gram, subset_by_index=(size - TOP, size - 1), overwrite_a=True)[::-1] / n


def main() -> None:
    """Run the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the data are written and kept")
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--rows", type=int, help="fewer rows, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exact", action="store_true", help="compare the leading eigenvalues with the exact ones")
    parser.add_argument("--loss", choices=["huber", "l1", "perceptual"], default="", help="a loss function instead")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else SIZES:
        n, dimension = options.rows or SIZES[name][0], SIZES[name][1]
        path = options.folder / f"{n}x{dimension}.npy"
        write_data(path, n, dimension)
        command = [sys.executable, "-c", MEASURE, str(path), str(TOP if name == "leading" else 0), options.loss]
        folders = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
        environment = child_environment(options.threads) | {"PYTHONPATH": folders}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        measured = json.loads(done.stdout)
        what = f"{name}, {options.loss}" if options.loss else name
        line = f"{what}: {n} x {dimension}, {measured['seconds']:.1f} s ({measured['cpu_seconds']:.0f} s of CPU), "
        line += f"peak {measured['peak_gib']:.2f} GiB"
        if options.exact and name == "leading" and not options.loss:
            start = time.perf_counter()
            error = np.abs(np.array(measured["values"]) / exact_eigenvalues(path) - 1).max()
            line += f", largest relative error {error:.1e} (exact in {time.perf_counter() - start:.0f} s)"
        print(line, flush=True)


if __name__ == "__main__":
    main()
