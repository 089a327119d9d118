"""The build step that pyproject.toml cannot express: the native kernels.

PHASEVAE_BUILD chooses the kernels:
  auto  those that can be built here, the default; never fails, and reports what it left out
  off   none: pure Python
  cpu   those for the CPU, or fail
  cuda  those for the CPU and for CUDA, or fail
They are built for the installed torch. An isolated build has no torch, so it is pure Python.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
MODES = ("auto", "off", "cpu", "cuda")
# No flag may let the compiler assume that there is no NaN, which must stay visible. Products and sums are rounded one
# by one, as in PyTorch, so that both agree bit for bit with any instruction set.
CXX_FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-Wall", "-Wextra"]
CXX_FLAGS += ["-Wno-unused-parameter"]  # torch's headers
CPU_SOURCES = ("adam", "elbo_cpu", "elbo_rows", "mlp_cpu", "mlp_neon", "mlp_v3", "mlp_v4", "moments")
CPU_SOURCES += ("step", "step_cpu", "targets")
CUDA_BINDINGS = ("elbo_cuda", "mlp_cuda", "step_cuda")
CUDA_SOURCES = ("elbo", "moments", "networks", "steps", "targets")
NVCC_FLAGS = ["-O3", "-lineinfo", "--fmad=false"]


class CannotBuildError(Exception):
    """The kernels cannot be built here; the message says why."""


def say(line: str) -> None:
    print(f"phasevae: {line}", file=sys.stderr, flush=True)


def torch_extensions():
    """Return torch's module for building. Raises CannotBuildError."""
    try:
        return importlib.import_module("torch.utils.cpp_extension")
    except ImportError as error:
        raise CannotBuildError(
            f"torch cannot be imported by the build ({error}); install it first and use --no-build-isolation"
        ) from None


def cuda_root() -> Path:
    """Return the folder of a CUDA toolkit with compiler and headers. Raises CannotBuildError.

    The nvcc on PATH may be a wrapper whose parent folder has no headers. A dry run shows the folder that it uses.
    """
    torch = importlib.import_module("torch")
    if torch.version.cuda is None:
        raise CannotBuildError(f"torch {torch.__version__} has no CUDA")
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    if nvcc := shutil.which("nvcc"):
        dry_run = subprocess.run(
            [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False
        )
        candidates += [line.split("=", 1)[1].strip() for line in dry_run.stderr.splitlines() if "#$ TOP=" in line]
    for candidate in map(Path, filter(None, candidates)):
        if (candidate / "bin" / "nvcc").is_file() and (candidate / "include" / "cuda_runtime_api.h").is_file():
            return candidate.resolve()
    raise CannotBuildError("no CUDA toolkit with bin/nvcc and include/cuda_runtime_api.h; set CUDA_HOME")


def flags_of_compiler() -> tuple[list[str], list[str]]:
    """Return the flags of OpenMP for the compiler and for the linker.

    clang would link a runtime of its own beside that of torch, so it takes the pragmas for vectors alone
    (csrc/cpu/parallel.h). It warns of each loop that it can't make vectors of, such as those that call log of double.
    """
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    try:
        command = [*compiler, "-dM", "-E", "-x", "c++", os.devnull]
        macros = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        macros = ""
    if "#define __clang__ " in macros:
        return ["-fopenmp-simd", "-Wno-pass-failed"], []
    return ["-fopenmp"], ["-fopenmp"]


def extension(with_cuda: bool):
    """Return the extension phasevae._C. Raises CannotBuildError."""
    cpp_extension = torch_extensions()
    sources = ["csrc/module.cpp", *(f"csrc/cpu/{name}.cpp" for name in CPU_SOURCES)]
    of_compiler, of_linker = flags_of_compiler()
    flags = {"cxx": CXX_FLAGS + of_compiler}
    if not with_cuda:
        return cpp_extension.CppExtension("phasevae._C", sources, extra_compile_args=flags, extra_link_args=of_linker)
    # torch looks for the toolkit when cpp_extension is imported, and takes the architecture of the visible GPU.
    cpp_extension.CUDA_HOME = os.environ["CUDA_HOME"] = str(cuda_root())
    if not importlib.import_module("torch").cuda.is_available():
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0+PTX")
    sources += [*(f"csrc/{name}.cpp" for name in CUDA_BINDINGS), *(f"csrc/cuda/{name}.cu" for name in CUDA_SOURCES)]
    flags = {"cxx": [*flags["cxx"], "-DWITH_CUDA"], "nvcc": NVCC_FLAGS}
    return cpp_extension.CUDAExtension("phasevae._C", sources, extra_compile_args=flags, extra_link_args=of_linker)


def extensions(mode: str) -> list:
    """Return the extensions of a mode that can be built. Raises CannotBuildError if a strict mode cannot be built."""
    if mode == "off":
        return []
    try:
        return [extension(with_cuda=mode != "cpu")]
    except CannotBuildError as error:
        if mode != "auto":
            raise
        reason = str(error)
    try:
        built = [extension(with_cuda=False)]
    except CannotBuildError:
        say(f"native kernels left out: {reason}")
        return []
    say(f"CUDA kernels left out: {reason}")
    return built


def build_command(mode: str):
    """Return torch's build command, extended to write the record of the build."""
    cpp_extension = torch_extensions()

    class BuildKernels(cpp_extension.BuildExtension):
        def build_extensions(self):
            try:
                super().build_extensions()
            except Exception as error:
                if mode != "auto":
                    raise
                say(f"native kernels left out, the compiler failed: {str(error).splitlines()[0]}")
                self.extensions = []

        def run(self):
            super().run()
            for built in self.extensions:
                folder = Path(self.get_ext_fullpath(built.name)).parent
                (folder / "_build_info.json").write_text(json.dumps(build_record(built), indent=1) + "\n")

    return BuildKernels


def build_record(built) -> dict:
    """Return the record that phasevae/kernels/backends.py reads without loading the extension."""
    sys.path.insert(0, str(ROOT))
    backends = importlib.import_module("phasevae.kernels.backends")
    return {
        "torch": backends.torch_build(),
        "cuda": importlib.import_module("torch").version.cuda if "csrc/cuda/elbo.cu" in built.sources else None,
        "sources": backends.sources_hash(ROOT),
    }


def main() -> None:
    mode = os.environ.get("PHASEVAE_BUILD") or "auto"
    if mode not in MODES:
        sys.exit(f"PHASEVAE_BUILD: '{mode}', must be one of: {', '.join(MODES)}")
    os.chdir(ROOT)
    commands = {}
    try:
        kernels = extensions(mode)
        if kernels:
            commands["build_ext"] = build_command(mode)
    except CannotBuildError as error:
        sys.exit(f"PHASEVAE_BUILD={mode}: {error}")
    setup(cmdclass=commands, ext_modules=kernels)


main()
