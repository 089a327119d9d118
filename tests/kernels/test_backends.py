from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import phasevae
from phasevae.errors import InputError
from phasevae.kernels import backends
from phasevae.kernels.dispatch import backend

PACKAGE = Path(phasevae.__file__).parent
BUILT_FOR_ANOTHER_TORCH = "raise ImportError('_C.so: undefined symbol: _ZN3c105ErrorC2E')\n"
REPORT = """
import sys, warnings
from phasevae import InputError
from phasevae.kernels import backends
warnings.showwarning = lambda message, *_: print("warning:", message)
try:
    print("family:", backends.family(), "torch" in sys.modules)
    from phasevae.kernels import dispatch, elbo
    print("cpu:", dispatch.backend("cpu"))
    import torch
    print(elbo.reparam_kl(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, dtype=torch.int64), 0)[1].sum())
except InputError as error:
    print("error:", error)
"""


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Runs a copy of the package with `source` as its extension and `record` as the record of its build."""

    def run(source: str | None = None, record: dict | None = None, forced: str = "") -> list[str]:
        package = tmp_path / "phasevae"
        ignore = shutil.ignore_patterns("__pycache__", "_C.*", backends.RECORD)
        shutil.copytree(PACKAGE, package, ignore=ignore, dirs_exist_ok=True)
        if source is not None:
            (package / "_C.py").write_text(source)
        if record is not None:
            (package / backends.RECORD).write_text(json.dumps(record))
        monkeypatch.setenv("PHASEVAE_BACKEND", forced)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        command = [sys.executable, "-c", REPORT]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert not done.stderr
        return done.stdout.splitlines()

    return run


def right_record(**changes) -> dict:
    return {"torch": backends.torch_build(), "cuda": None, "sources": "0"} | changes


def test_without_an_extension_pytorch_computes_without_a_warning(report):
    assert report() == ["family: torch False", "cpu: torch", "tensor(0.)"]
    (error,) = report(forced="native_cpu")
    assert error.startswith("error: PHASEVAE_BACKEND: native_cpu is not available: the extension is not built")


def test_an_extension_for_another_torch_gives_a_warning_and_is_not_used(report):
    another = right_record(torch="1.2.3 abc")
    family, warning, cpu, kl = report(BUILT_FOR_ANOTHER_TORCH, another)
    assert (family, cpu, kl) == ("family: torch False", "cpu: torch", "tensor(0.)")
    assert warning.startswith("warning: native kernels are not used, PyTorch computes: ")
    assert f"built for torch 1.2.3 abc, not {backends.torch_build()}" in warning
    (error,) = report(BUILT_FOR_ANOTHER_TORCH, another, forced="native_cpu")
    assert error.startswith("error: PHASEVAE_BACKEND: native_cpu is not available: the extension was built for torch")


def test_an_extension_that_cannot_be_loaded_gives_a_warning_and_is_not_used(report):
    _, warning, cpu, kl = report(BUILT_FOR_ANOTHER_TORCH, right_record())
    assert (cpu, kl) == ("cpu: torch", "tensor(0.)")
    assert "cannot be loaded (_C.so: undefined symbol: _ZN3c105ErrorC2E)" in warning
    _, error = report(BUILT_FOR_ANOTHER_TORCH, right_record(), forced="native_cpu")
    assert error.startswith("error: PHASEVAE_BACKEND: native_cpu is not available: the extension cannot be loaded")


def test_an_extension_without_its_record_is_not_trusted(report):
    family, warning, *_ = report("")
    assert family == "family: torch False"
    assert backends.RECORD in warning


def states(cpu: bool, cuda: bool) -> dict[str, backends.State]:
    usable = {"torch": True, "native_cpu": cpu, "native_cuda": cuda}
    return {name: backends.State(available, "because") for name, available in usable.items()}


@pytest.mark.parametrize(
    ("forced", "cpu", "cuda", "family", "on_cpu", "on_cuda"),
    [
        ("", False, False, "torch", "torch", "torch"),
        ("", True, False, "native", "native_cpu", "torch"),
        ("", True, True, "native", "native_cpu", "native_cuda"),
        ("torch", True, True, "torch", "torch", "torch"),
        ("native_cpu", True, True, "native", "native_cpu", None),
        ("native_cuda", True, True, "native", None, "native_cuda"),
    ],
)
def test_the_choice_follows_device_and_availability(monkeypatch, forced, cpu, cuda, family, on_cpu, on_cuda):
    monkeypatch.setenv("PHASEVAE_BACKEND", forced)
    monkeypatch.setattr(backends, "states", lambda: states(cpu, cuda))
    assert backends.family() == family
    for device, expected in (("cpu", on_cpu), ("cuda", on_cuda)):
        if expected is None:
            with pytest.raises(InputError, match=f"{forced} cannot compute on {device}"):
                backends.choose(device)
        else:
            assert backends.choose(device) == expected


def test_an_unknown_backend_is_refused(monkeypatch):
    monkeypatch.setenv("PHASEVAE_BACKEND", "abacus")
    message = "^PHASEVAE_BACKEND: 'abacus', must be one of torch, native_cpu, native_cuda$"
    with pytest.raises(InputError, match=message):
        backends.family()


def test_the_installed_torch_is_read_from_its_files():
    assert backends.torch_build() == f"{torch.__version__} {torch.version.git_version}"


def test_sources_hash_follows_names_and_code_without_comments(tmp_path):
    (tmp_path / "csrc").mkdir()

    def hash_of(name: str, text: str) -> str:
        (tmp_path / "csrc" / name).write_text(text)
        return backends.sources_hash(tmp_path)

    code = 'int a; const char* at = "https://a"; int b = 8 / 2;\n'
    first = hash_of("a.cpp", code)
    assert hash_of("a.cpp", "// Why.\n" + code.replace(" int", " // what\n\n/* and\nhow */ int")) == first
    others = [
        hash_of("a.cpp", code.replace(*change)) for change in (("int a", "int c"), ("//a", "//c"), ("/ 2", "/ 4"))
    ]
    assert len({first, *others, hash_of("b.cpp", code)}) == 5


def test_the_kernels_have_nothing_that_hides_a_comment_from_the_hash():
    for file in (PACKAGE.parent / "csrc").rglob("*.*"):
        assert not re.search(r"""'"'|R"\w*\(|//[^\n]*\\\n""", file.read_text()), file


def test_the_backend_of_a_device_is_the_chosen_one():
    assert backend("cpu") == backends.choose("cpu")


TF32 = """
import sys
from phasevae.kernels.backends import allows_tf32
print(allows_tf32(), "torch" in sys.modules)
import torch
print(allows_tf32())
torch.set_float32_matmul_precision("high")
print(allows_tf32())
torch.backends.cuda.matmul.allow_tf32 = False
print(allows_tf32())
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    print(allows_tf32())
"""


@pytest.mark.parametrize("at_first", [False, True])
def test_tf32_is_allowed_where_torch_allows_it(at_first, monkeypatch):
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", str(int(at_first)))
    done = subprocess.run([sys.executable, "-c", TF32], check=True, capture_output=True, text=True)
    expected = [f"{at_first} False", str(at_first), "True", "False"]
    assert done.stdout.splitlines()[:4] == expected
    assert done.stdout.splitlines()[4:] in ([], ["True"])
