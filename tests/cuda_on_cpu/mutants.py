"""Which errors in the CUDA kernels do the emulated comparisons find? Each mutant of csrc/ in mutants.diff has one.

    python tests/cuda_on_cpu/mutants.py [OUT] [NUMBER ...]

builds and tries the mutants, all of them or those with these numbers, in the folder OUT (default: a temporary one). It
prints a line for each and exits 1 if one survives. All take about a quarter of an hour.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
CXX = os.environ.get("CXX", "g++")
# As tests/cuda_on_cpu/build compiles the kernels, but warnings are welcome here.
FLAGS = ["-std=c++20", "-O1", "-g", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-w"]
KERNELS = ("elbo", "moments", "networks", "steps", "targets")
COMPARISONS = ("compare", "compare_networks", "compare_steps")
OF_THE_CPU = ("cpu_elbo_rows", "cpu_mlp_v3", "cpu_mlp_v4", "cpu_moments", "cpu_targets")
OTHERS = (*COMPARISONS, *OF_THE_CPU, "emulator", "memory")
FLAGS += ["-fsanitize=thread,undefined", "-fno-sanitize-recover=undefined"]


class Mutant(NamedTuple):
    """A change of one file.

    Attributes
    ----------
    name : str
    file : str
        In csrc/.
    old, new : str
        Neighbouring lines before and after the change.
    """

    name: str
    file: str
    old: str
    new: str


def read_mutants() -> list[Mutant]:
    """Read mutants.diff: after a line `@@ FILE: NAME` lines that stay, `-` those that go and `+` those that come."""
    mutants = []
    for part in re.split(r"^@@ ", (HERE / "mutants.diff").read_text(), flags=re.MULTILINE)[1:]:
        title, *lines = part.splitlines()
        file, name = title.split(": ", 1)
        old, new = ("\n".join(line[1:] for line in lines if line[:1] != other) for other in "+-")
        mutants.append(Mutant(name, file, old, new))
    return mutants


def changed_source(mutant: Mutant) -> str:
    """Return the text of its file with the change. Raises ValueError if it does not fit exactly once."""
    source = (CSRC / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {source.count(mutant.old)} places in {mutant.file}, must be 1")
    return source.replace(mutant.old, mutant.new)


def mutate(mutant: Mutant, csrc: Path) -> None:
    """Write the sources with the change to a folder."""
    shutil.rmtree(csrc, ignore_errors=True)
    shutil.copytree(CSRC, csrc)
    (csrc / mutant.file).write_text(changed_source(mutant))


def includes(source: Path, header: Path) -> bool:
    """Whether a source is the header or includes it, by way of other headers or not."""
    names = re.findall(r'^#include "(.+)"', source.read_text(), flags=re.MULTILINE)
    return source == header or any(includes((source.parent / name).resolve(), header) for name in names)


def compile_mutant(mutant: Mutant, out: Path, csrc: Path) -> None:
    """Compile what the changed file is part of, and link it with the rest."""
    sources = {kernels: (csrc / "cuda" / f"{kernels}.cu").resolve() for kernels in KERNELS}
    changed = [kernels for kernels in KERNELS if includes(sources[kernels], (csrc / mutant.file).resolve())]
    for kernels in changed:
        compiled = out / f"mutant_{kernels}.o"
        subprocess.run([CXX, *FLAGS, "-I", HERE, "-x", "c++", "-c", sources[kernels], "-o", compiled], check=True)
    names = [f"mutant_{kernels}" if kernels in changed else kernels for kernels in KERNELS]
    objects = [out / f"{name}.o" for name in (*names, *OTHERS)]
    subprocess.run([CXX, *objects, "-lubsan", "-fopenmp", "-o", out / "mutant"], check=True)


def first_error(out: Path) -> str | None:
    """Run the comparisons; return the first error that they report, or None."""
    try:
        run = subprocess.run(
            [out / "mutant", "2", "0", "first"], capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        return "does not end"
    if run.returncode == 0:
        return None
    failed = re.search(r"FAIL (.*)", run.stdout)
    return failed[1] if failed else run.stderr.strip().partition("\n")[0] or f"signal {-run.returncode}"


def main(arguments: list[str]) -> int:
    mutants = read_mutants()
    out = Path(arguments[0]) if arguments else Path(tempfile.mkdtemp())
    chosen = [int(number) for number in arguments[1:]] or range(len(mutants))
    if not (out / "compare.o").exists():
        subprocess.run([HERE / "build", out], check=True)
    survivors = 0
    for number in chosen:
        mutate(mutants[number], out / "mutated")
        compile_mutant(mutants[number], out, out / "mutated")
        error = first_error(out)
        survivors += error is None
        print(f"{number:2d} {mutants[number].name}: {'SURVIVES' if error is None else error[:150]}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
