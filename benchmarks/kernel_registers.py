"""Registers and occupancy of the CUDA kernels, by nvcc; no GPU is needed.

    python benchmarks/kernel_registers.py [--arch 90] [--nvcc nvcc]

compiles csrc/cuda for an architecture, without writing a file into the project, and prints a table of the float32
kernels with 32-bit numbers of threads. The occupancy is that of the registers and of the shared memory alone.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from shared import make_parser

SOURCES = sorted((Path(__file__).parents[1] / "csrc" / "cuda").glob("*.cu"))
THREADS = 256
REGISTERS, MOST_THREADS, GRANULE = 65536, 2048, 8
"""Of a multiprocessor of sm_80 and sm_90; registers of a thread are allocated by the granule."""
SHARED_BYTES = 164 * 1024
SHARED_OF_THE_SYSTEM = 1024


def compiled(nvcc: str, arch: str, source: Path) -> str:
    """Return what ptxas says of a file, with readable names."""
    flags = ["-std=c++17", "-O3", "--fmad=false", "-Xptxas", "-v", "-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, *flags, "-c", str(source), "-o", f"{folder}/kernels.o"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return subprocess.run(["c++filt"], input=said.replace("'", " "), check=True, capture_output=True, text=True).stdout


def occupancy(registers: int, shared: int) -> float:
    """Return the part of a multiprocessor's threads that run at once."""
    by_registers = REGISTERS // (-(-registers // GRANULE) * GRANULE * THREADS)
    by_memory = SHARED_BYTES // (shared + SHARED_OF_THE_SYSTEM)
    return min(MOST_THREADS // THREADS, by_registers, by_memory) * THREADS / MOST_THREADS


def rows(said: str) -> list[str]:
    """Return the lines of the table."""
    lines = []
    for part in said.split("Compiling entry function")[1:]:
        kernel = re.search(r"(\w+)_kernel<(.*?)>\(", part)
        if kernel is None or "double" in kernel[2] or "unsigned long" in kernel[2]:
            continue
        term = re.search(r"phasevae::([A-Z]\w+)", kernel[2])
        tiles = [f"{rows} x {columns}" for rows, columns in re.findall(r"Tile<(\d+), (\d+), \d+>", kernel[2])]
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = int((re.search(r"(\d+) bytes smem", part) or [0, 0])[1])
        spills = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        name = ", ".join((kernel[1], *([term[1]] if term else []), *tiles))
        lines.append(f"| {name} | {registers} | {shared} | {spills} | {100 * occupancy(registers, shared):.0f} % |")
    return sorted(lines)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--arch", default="90")
    parser.add_argument("--nvcc", default="nvcc")
    arguments = parser.parse_args()
    print(f"| kernel, sm_{arguments.arch} | registers | shared memory, bytes | spilled bytes | occupancy |")
    print("|---|---|---|---|---|")
    for source in SOURCES:
        print("\n".join(rows(compiled(arguments.nvcc, arguments.arch, source))))


if __name__ == "__main__":
    main()
