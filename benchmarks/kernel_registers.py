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


def output_of(*command: str) -> str:
    """Return what a command writes, its errors included, with readable names of functions."""
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return subprocess.run(["c++filt"], input=said.replace("'", " "), check=True, capture_output=True, text=True).stdout


def compile_kernels(nvcc: str, arch: str, source: Path, to: Path) -> str:
    """Compile a file to machine code of the architecture, and return what ptxas says of it."""
    flags = ["-std=c++17", "-O3", "--fmad=false", "-Xptxas", "-v", "-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    return output_of(nvcc, *flags, "-cubin", str(source), "-o", str(to))


def kernel_name(function: str) -> str | None:
    """Return a kernel's short name, or None if its arithmetic is double or its numbers of threads have 64 bits."""
    kernel = re.search(r"(\w+)_kernel<(.*?)>\(", function)
    if kernel is None or "double" in kernel[2] or "unsigned long" in kernel[2]:
        return None
    term = re.search(r"phasevae::([A-Z]\w+)", kernel[2])
    found = re.findall(r"Tile<(\d+), (\d+), \d+, (true|false)>", kernel[2])
    tiles = [f"{rows} x {columns}" for rows, columns, _ in found]
    arithmetic = ["TF32"] if any(tf32 == "true" for *_, tf32 in found) else []
    return ", ".join((kernel[1], *([term[1]] if term else []), *tiles, *arithmetic))


def occupancy(registers: int, shared: int) -> float:
    """Return the part of a multiprocessor's threads that run at once."""
    by_registers = REGISTERS // (-(-registers // GRANULE) * GRANULE * THREADS)
    by_memory = SHARED_BYTES // (shared + SHARED_OF_THE_SYSTEM)
    return min(MOST_THREADS // THREADS, by_registers, by_memory) * THREADS / MOST_THREADS


def rows(said: str) -> list[str]:
    """Return the lines of the table."""
    lines = []
    for part in said.split("Compiling entry function")[1:]:
        name = kernel_name(part)
        if name is None:
            continue
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = int((re.search(r"(\d+) bytes smem", part) or [0, 0])[1])
        spills = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        lines.append(f"| {name} | {registers} | {shared} | {spills} | {100 * occupancy(registers, shared):.0f} % |")
    return sorted(lines)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--arch", default="90")
    parser.add_argument("--nvcc", default="nvcc")
    arguments = parser.parse_args()
    print(f"| kernel, sm_{arguments.arch} | registers | shared memory, bytes | spilled bytes | occupancy |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            said = compile_kernels(arguments.nvcc, arguments.arch, source, Path(folder) / "kernels.cubin")
            print("\n".join(rows(said)))


if __name__ == "__main__":
    main()
