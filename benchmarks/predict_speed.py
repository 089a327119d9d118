"""Time and peak memory of `phasevae predict` on large data: 60,000 x 3072, and the leading eigenvalues of
10,000 x 12,288 with their error.

    python benchmarks/predict_speed.py --folder scratch          # some 3 GB there; ten minutes with --exact
    python benchmarks/predict_speed.py --folder scratch --rows 2000 --only leading --exact

The data are images in kind: eigenvalues that fall as 1 / i. Each measurement is a process of its own; its peak memory
is the kernel's maximum resident size, mapped pages of the data file included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIZES = {"full": (60_000, 3072), "leading": (10_000, 12_288)}
TOP = 32
_MEASURE = """
import json, resource, sys, time
start = time.perf_counter()
import phasevae
top = int(sys.argv[2]) or None
if top:
    found = phasevae.compute_spectrum(sys.argv[1], top=top)
    values = found.eigenvalues.tolist()
else:
    values = phasevae.predict(sys.argv[1], 32, beta=1.0).setting.spectrum.eigenvalues[:32].tolist()
used = resource.getrusage(resource.RUSAGE_SELF)
seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": used.ru_utime + used.ru_stime}
print(json.dumps({**seconds, "peak_gib": used.ru_maxrss / 2**20, "values": values}))
"""


def data(path: Path, n: int, dimension: int) -> None:
    """Gaussian samples with eigenvalues 100 / i in a basis of random reflections, written by blocks."""
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


def exact(path: Path) -> np.ndarray:
    """Leading eigenvalues of the covariance from the N x N matrix of products, in float64."""
    from scipy.linalg import eigvalsh

    x = np.load(path, mmap_mode="r").astype(np.float64)
    x -= x.mean(0)
    n = len(x)
    gram = x @ x.T if n <= x.shape[1] else x.T @ x
    size = len(gram)
    return eigvalsh(gram, subset_by_index=(size - TOP, size - 1), overwrite_a=True)[::-1] / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the data are put, and kept")
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--rows", type=int, help="fewer rows, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exact", action="store_true", help="compare the leading eigenvalues with the exact ones")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "OPENBLAS_NUM_THREADS": str(options.threads)}
    for name in [options.only] if options.only else SIZES:
        n, dimension = options.rows or SIZES[name][0], SIZES[name][1]
        path = options.folder / f"{n}x{dimension}.npy"
        data(path, n, dimension)
        top = str(TOP if name == "leading" else 0)
        command = [sys.executable, "-c", _MEASURE, str(path), top]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        took = f"{found['seconds']:.1f} s ({found['cpu_seconds']:.0f} s of CPU), peak {found['peak_gib']:.2f} GiB"
        line = f"{name}: {n} x {dimension}, {took}"
        if options.exact and name == "leading":
            start = time.perf_counter()
            values = exact(path)
            error = np.abs(np.array(found["values"]) / values - 1).max()
            line += f", largest relative error {error:.1e} (exact in {time.perf_counter() - start:.0f} s)"
        print(line, flush=True)


if __name__ == "__main__":
    main()
