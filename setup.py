"""Build steps that pyproject.toml cannot express: the schema in the wheel, and the native kernels.

PHASEVAE_BUILD says which kernels are built:
  auto  what can be built here, the default; never fails, and says what it left out
  off   none: pure Python
  cpu   those for the CPU, or fail
  cuda  those for the CPU and for CUDA, or fail
They are built against the torch that is installed, so an isolated build, which has none, is pure Python.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
MODES = ("auto", "off", "cpu", "cuda")
# NaN must stay visible: nothing that lets the compiler assume there is none. Products and sums are rounded one by one,
# as in PyTorch: then the two agree bit for bit, whatever the instruction set.
CXX_FLAGS = ["-O3", "-g0", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-Wall", "-Wextra"]
CXX_FLAGS += ["-Wno-unused-parameter"]  # torch's headers
CPU_SOURCES = ("elbo_cpu", "elbo_rows", "mlp_cpu", "mlp_v3", "mlp_v4")
NVCC_FLAGS = ["-O3", "-lineinfo", "--fmad=false"]


class BuildWithSchema(build_py):
    """Carry the workflow's config schema inside the wheel: `phasevae plan` validates with it too."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copy(SCHEMA, Path(self.build_lib) / "phasevae" / SCHEMA.name)


class CannotBuildError(Exception):
    """Why kernels cannot be built here."""


def say(line: str) -> None:
    print(f"phasevae: {line}", file=sys.stderr, flush=True)


def torch_extensions():
    """torch's module for building. Raises CannotBuildError."""
    try:
        return importlib.import_module("torch.utils.cpp_extension")
    except ImportError as error:
        raise CannotBuildError(
            f"torch cannot be imported by the build ({error}); install it first and use --no-build-isolation"
        ) from None


def cuda_root() -> Path:
    """Folder of a CUDA toolkit with compiler and headers, of the CUDA version torch has. Raises CannotBuildError.

    The nvcc on PATH may be a wrapper whose parent folder has no headers: then nvcc itself is asked.
    """
    torch = importlib.import_module("torch")
    if torch.version.cuda is None:
        raise CannotBuildError(f"torch {torch.__version__} has no CUDA")
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    if nvcc := shutil.which("nvcc"):
        asked = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False)
        candidates += [line.split("=", 1)[1].strip() for line in asked.stderr.splitlines() if "#$ TOP=" in line]
    for candidate in map(Path, filter(None, candidates)):
        if (candidate / "bin" / "nvcc").is_file() and (candidate / "include" / "cuda_runtime_api.h").is_file():
            return candidate.resolve()
    raise CannotBuildError("no CUDA toolkit with bin/nvcc and include/cuda_runtime_api.h; set CUDA_HOME")


def extension(with_cuda: bool):
    """The extension phasevae._C. Raises CannotBuildError."""
    cpp_extension = torch_extensions()
    sources = ["csrc/module.cpp", *(f"csrc/cpu/{name}.cpp" for name in CPU_SOURCES)]
    flags = {"cxx": CXX_FLAGS}
    if not with_cuda:
        return cpp_extension.CppExtension(
            "phasevae._C", sources, extra_compile_args=flags, extra_link_args=["-fopenmp"]
        )
    # torch looks for its toolkit when cpp_extension is imported, and for the architecture on the visible GPU.
    cpp_extension.CUDA_HOME = os.environ["CUDA_HOME"] = str(cuda_root())
    if not importlib.import_module("torch").cuda.is_available():
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0+PTX")
    sources += ["csrc/elbo_cuda.cpp", "csrc/cuda/elbo.cu"]
    flags = {"cxx": [*CXX_FLAGS, "-DWITH_CUDA"], "nvcc": NVCC_FLAGS}
    return cpp_extension.CUDAExtension("phasevae._C", sources, extra_compile_args=flags, extra_link_args=["-fopenmp"])


def extensions(mode: str) -> list:
    """What the mode asks for and can be built. Raises CannotBuildError when a strict mode cannot."""
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
    """torch's build command, followed by the record that tells what was built."""
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
    """What phasevae/backends.py reads without loading the extension."""
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
    commands = {"build_py": BuildWithSchema}
    try:
        kernels = extensions(mode)
        if kernels:
            commands["build_ext"] = build_command(mode)
    except CannotBuildError as error:
        sys.exit(f"PHASEVAE_BUILD={mode}: {error}")
    setup(cmdclass=commands, ext_modules=kernels)


main()
