"""Instructions of the CUDA kernels, counted in their machine code (an estimate of their cost); no GPU is needed.

    python benchmarks/kernel_instructions.py [--arch 90] [--nvcc nvcc]

compiles csrc/cuda for an architecture, without writing a file into the project, and prints two tables of the float32
kernels with 32-bit numbers of threads: each kernel, and its innermost loops that consist of products. cuobjdump and
nvdisasm must be on PATH. They are part of the CUDA toolkit, or come by

    pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm

An instruction counts once, however often it is executed, and whether or not: a loop that loads four numbers has one
wide load for numbers that are neighbours, and four narrow ones for those that are not.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kernel_registers import SOURCES, compile_kernels, kernel_name, output_of
from shared import make_parser

WIDTHS = (".128", ".64", "")
"""Modifiers of loads and stores of a thread; without one they move 32 bits."""
PRODUCTS = 1 / 3
"""Fused products among the instructions of a loop from which on it counts as a loop of products."""
OF_TENSOR_CORES = 16 * 8 * 8 // 32
"""Products a thread in one instruction of a tensor core, HMMA.1688.F32.TF32."""


class Instruction(NamedTuple):
    """One of a kernel.

    Attributes
    ----------
    address : int
    operation : str
        With its modifiers, such as LDG.E.128.
    target : int or None
        Where a branch goes.
    """

    address: int
    operation: str
    target: int | None


def read_instructions(function: str) -> list[Instruction]:
    """Return the instructions of a function in the output of cuobjdump, without the empty ones that fill its end."""
    found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)\s*(.*?)\s*;", function)
    instructions = []
    for address, operation, operands in found:
        target = re.search(r"\b0x([0-9a-f]+)$", operands) if operation.startswith("BRA") else None
        instructions.append(Instruction(int(address, 16), operation, int(target[1], 16) if target else None))
    return [one for one in instructions if one.operation != "NOP"]


def innermost_loops(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    """Return the loops without a loop inside; a loop reaches from the target of a backward branch to the branch."""
    ends = [(one.target, one.address) for one in instructions if one.target is not None and one.target < one.address]
    innermost = [
        (first, last)
        for first, last in ends
        if not any(first <= a and b <= last and (a, b) != (first, last) for a, b in ends)
    ]
    return [[one for one in instructions if first <= one.address <= last] for first, last in innermost]


def count(instructions: Sequence[Instruction]) -> Counter[str]:
    """Count operations: FFMA, HMMA, and accesses of memory by LDG, STG, LDS or STS with their width."""
    counts: Counter[str] = Counter()
    for one in instructions:
        name, *modifiers = one.operation.split(".")
        width = next((width for width in WIDTHS if width[1:] in modifiers), "")
        counts[name + (width if name in ("LDG", "STG", "LDS", "STS") else "")] += 1
    return counts


def widths(counts: Counter[str], name: str) -> str:
    """Return the numbers of accesses of 128, 64 and 32 bits."""
    return " + ".join(str(counts[name + width]) for width in WIDTHS)


def kernel_row(name: str, instructions: Sequence[Instruction]) -> str:
    """Return a kernel's line of the first table."""
    counts, total = count(instructions), len(instructions)
    longest = max(map(len, innermost_loops(instructions)), default=0) or ""
    share = 100 * counts["FFMA"] / total
    accesses = " | ".join(widths(counts, kind) for kind in ("LDG", "STG"))
    return f"| {name} | {total} | {longest} | {accesses} | {share:.0f} % | {counts['HMMA'] or ''} |"


def product_rows(name: str, instructions: Sequence[Instruction]) -> list[str]:
    """Return a kernel's lines of the second table."""
    lines = []
    for loop in innermost_loops(instructions):
        counts, total = count(loop), len(loop)
        products = counts["FFMA"] + OF_TENSOR_CORES * counts["HMMA"]
        if counts["FFMA"] >= PRODUCTS * total or counts["HMMA"]:
            loads = " | ".join(widths(counts, kind) for kind in ("LDG", "LDS", "STS"))
            lines.append(f"| {name} | {total} | {products} | {total / products:.2f} | {loads} |")
    return lines


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--arch", default="90")
    parser.add_argument("--nvcc", default="nvcc")
    arguments = parser.parse_args()
    if missing := [tool for tool in (arguments.nvcc, "cuobjdump", "nvdisasm") if shutil.which(tool) is None]:
        print(
            f"PATH: has no {', '.join(missing)}, must have nvcc, cuobjdump and nvdisasm (see --help)", file=sys.stderr
        )
        return 2
    kernels = {}
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        for source in SOURCES:
            compile_kernels(arguments.nvcc, arguments.arch, source, cubin)
            for function in output_of("cuobjdump", "-sass", str(cubin)).split("Function : ")[1:]:
                if name := kernel_name(function):
                    kernels[name] = read_instructions(function)
    print(
        f"| kernel, sm_{arguments.arch} (estimate) | instructions | longest innermost loop | LDG | STG | FFMA | HMMA |"
    )
    print("|---|---|---|---|---|---|---|")
    print("\n".join(kernel_row(*kernel) for kernel in sorted(kernels.items())))
    head = f"loop of products, sm_{arguments.arch} (estimate)"
    print(f"\n| {head} | instructions | products | instructions a product | LDG | LDS | STS |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(row for kernel in sorted(kernels.items()) for row in product_rows(*kernel)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
