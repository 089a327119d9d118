from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import scipy.io
import scipy.sparse as sp
from readings import SPARSE, X, assert_reads, assert_refuses

from phasevae import InputError
from phasevae.datasets import file_errors
from phasevae.datasets.entries import chosen_key
from phasevae.datasets.streams import sample_stream

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 3, 3), dtype=np.uint8)


def idx(array, code):
    shape = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, code, array.ndim]) + shape + array.astype(array.dtype.newbyteorder(">")).tobytes()


def torch_file(content, **options):
    def write(path):
        import torch

        torch.save(content(torch), path, **options)

    return write


WRITERS = {
    "x.npy": (lambda path: np.save(path, X), X),
    "columns.npy": (lambda path: np.save(path, np.asfortranarray(X)), X),
    "images.npy": (lambda path: np.save(path, PIXELS), PIXELS),
    "x.npz": (lambda path: np.savez(path, any=X), X),
    "packed.npz": (lambda path: np.savez_compressed(path, any=X), X),
    "sparse.npz": (lambda path: sp.save_npz(path, sp.csr_matrix(SPARSE)), SPARSE),
    "coo.npz": (lambda path: sp.save_npz(path, sp.coo_array(SPARSE)), SPARSE),
    "csc.npz": (lambda path: sp.save_npz(path, sp.csc_array(SPARSE), compressed=False), SPARSE),
    "x.mtx": (lambda path: scipy.io.mmwrite(path, sp.coo_matrix(SPARSE), precision=17), SPARSE),
    "dense.mtx": (lambda path: scipy.io.mmwrite(path, X, precision=17), X),
    "x.mat": (lambda path: scipy.io.savemat(path, {"x": X}), X),
    "old.mat": (lambda path: scipy.io.savemat(path, {"x": X}, format="4"), X),
    "packed.mat": (lambda path: scipy.io.savemat(path, {"x": X.reshape(40, 2, 2)}, do_compression=True), X),
    "sparse.mat": (lambda path: scipy.io.savemat(path, {"x": sp.csc_matrix(SPARSE)}), SPARSE),
    "x.safetensors": (lambda path: safetensors.numpy.save_file({"x": X}, path), X),
    "train-images-idx3-ubyte": (lambda path: path.write_bytes(idx(PIXELS, 8)), PIXELS),
    "t10k-images.idx3-ubyte": (lambda path: path.write_bytes(idx(PIXELS, 8)), PIXELS),
    "train-images-idx3-ubyte.gz": (lambda path: path.write_bytes(gzip.compress(idx(PIXELS, 8))), PIXELS),
    "reals.idx": (lambda path: path.write_bytes(idx(X, 14)), X),
    "x.pt": (torch_file(lambda torch: torch.tensor(X)), X),
    "images.pth": (torch_file(lambda torch: torch.tensor(PIXELS)), PIXELS),
    "old.pt": (torch_file(lambda torch: torch.tensor(X), _use_new_zipfile_serialization=False), X),
    "sparse.pt": (torch_file(lambda torch: torch.tensor(SPARSE).to_sparse()), SPARSE),
    "parameter.pt": (torch_file(lambda torch: torch.nn.Parameter(torch.tensor(X))), X),
    "transposed.pt": (torch_file(lambda torch: torch.tensor(X.T.copy()).T), X),
    "bfloat16.pt": (torch_file(lambda torch: torch.tensor(np.round(X)).bfloat16()), np.round(X)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_one_array(tmp_path, name):
    write, expected = WRITERS[name]
    write(tmp_path / name)
    dataset = assert_reads(tmp_path / name, expected)
    assert dataset.provenance["source"]["file"] == name


def test_a_compressed_matrix(tmp_path):
    WRITERS["x.mtx"][0](tmp_path / "x.mtx")
    (tmp_path / "x.mtx.gz").write_bytes(gzip.compress((tmp_path / "x.mtx").read_bytes()))
    assert_reads(tmp_path / "x.mtx.gz", SPARSE)


@pytest.mark.parametrize("symmetry", ["symmetric", "skew-symmetric", "general"])
@pytest.mark.parametrize("field", ["real", "integer", "pattern"])
def test_matrix_market_against_scipy(tmp_path, symmetry, field):
    square = np.random.default_rng(0).integers(-3, 4, (12, 12)).astype(float)
    square = {"symmetric": square + square.T, "skew-symmetric": square - square.T}.get(symmetry, square)
    scipy.io.mmwrite(tmp_path / "x.mtx", sp.coo_matrix(square), field=field, symmetry=symmetry)
    assert_reads(tmp_path / "x.mtx", scipy.io.mmread(str(tmp_path / "x.mtx")).toarray())


@pytest.mark.parametrize(
    "text",
    [
        "2 2 2\n1 1 3\n2 3 4",
        "2 2 2\n1 1 3",
        "2 2 1\n1 1 3\n2 2 4",
        "2 2 2\n1 1 3\n2 2 a",
        "2 2 2\n1 1 \0\n2 2 3",
        "2 2",
    ],
)
def test_damaged_matrix_market(tmp_path, text):
    (tmp_path / "x.mtx").write_text(f"%%MatrixMarket matrix coordinate real general\n% comment\n{text}\n")
    assert_refuses(tmp_path / "x.mtx", "not a .mtx matrix, or damaged")


def test_sixteen_bit_tensors_that_numpy_lacks(tmp_path):
    import torch
    from safetensors.torch import save_file

    values = torch.tensor(X).bfloat16()
    save_file({"x": values, "y": torch.ones(3)}, tmp_path / "x.safetensors")
    assert_reads(tmp_path / "x.safetensors", values.float().numpy(), key="x")


SEVERAL = {
    "x.npz": (lambda path: np.savez(path, one=X, two=2 * X), "arrays"),
    "x.mat": (lambda path: scipy.io.savemat(path, {"one": X, "two": 2 * X}), "variables"),
    "x.safetensors": (lambda path: safetensors.numpy.save_file({"one": X, "two": 2 * X}, path), "tensors"),
    "x.pt": (torch_file(lambda torch: {"one": torch.tensor(X), "two": torch.tensor(2 * X), "n": 3}), "tensors"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_arrays_need_a_key(tmp_path, name):
    write, things = SEVERAL[name]
    write(tmp_path / name)
    assert_reads(tmp_path / name, 2 * X, key="two")
    assert_refuses(tmp_path / name, f"holds several {things}: key must be one of one, two")
    assert_refuses(tmp_path / name, "key: 'three', must be one of one, two", key="three")


USUAL = {
    "x.npz": lambda path: np.savez(path, x=X, y=2 * X),
    "nested.npz": lambda path: np.savez(path, **{"data/x": X, "data/y": 2 * X, "y": X}),
    "x.mat": lambda path: scipy.io.savemat(path, {"x": X, "y": 2 * X}),
    "x.safetensors": lambda path: safetensors.numpy.save_file({"x": X, "y": 2 * X}, path),
    "x.pt": torch_file(lambda torch: {"train": {"x": torch.tensor(X), "y": torch.tensor(2 * X)}}),
}


@pytest.mark.parametrize("name", USUAL)
def test_a_usual_name_needs_no_key_as_in_memory(tmp_path, name):
    USUAL[name](tmp_path / name)
    dataset = assert_reads(tmp_path / name)
    assert dataset.reading.left_out and all(said.endswith("y") for said in dataset.reading.left_out)
    if name == "x.npz":
        assert sample_stream(np.load(tmp_path / name)).origin.left_out == dataset.reading.left_out == ("entry y",)


@pytest.mark.parametrize(("keys", "key"), [("x y", "x"), ("train/x train/y", "train/x"), ("a/x b/x", None), ("a", "a")])
def test_keys_are_chosen_as_in_mappings_of_mappings(keys, key):
    if key is None:
        with pytest.raises(InputError, match="key must be one of a/x, b/x"):
            chosen_key(Path("x.npz"), None, keys.split())
    else:
        assert chosen_key(Path("x.npz"), None, keys.split())[0] == key


def test_nested_tensors(tmp_path):
    torch_file(lambda torch: {"train": [torch.tensor(X), torch.ones(3)]})(tmp_path / "x.pt")
    assert_refuses(tmp_path / "x.pt", "key must be one of train/0, train/1")
    assert_reads(tmp_path / "x.pt", key="train/0")


def test_cells_of_10x_are_the_samples(tmp_path):
    scipy.io.mmwrite(tmp_path / "matrix.mtx", sp.coo_matrix(SPARSE.T), precision=17)
    (tmp_path / "barcodes.tsv").write_text("".join(f"cell{i}\n" for i in range(40)))
    (tmp_path / "features.tsv.gz").write_bytes(gzip.compress(b"E1\tu\nE2\tv\nE3\tw\nE4\tx\n"))
    for path in (tmp_path / "matrix.mtx", tmp_path):
        reading = assert_reads(path, SPARSE).reading
        assert reading.columns == tuple("uvwx") and reading.preparation == ("columns are samples, named by barcodes",)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("x.npy", lambda path: np.save(path, np.array([[{}], [1]])), "not a .npy file of numbers"),
        ("x.npy", lambda path: np.save(path, X * 1j), "type complex128, must be real numbers"),
        ("x.npy", lambda path: np.save(path, np.zeros(4, [("a", "f8")])), "must be real numbers"),
        ("x.npy", lambda path: np.save(path, X[:, 0]), r"shape \(40,\), must be \[samples, features\]"),
        ("x.npy", lambda path: np.save(path, np.datetime64("2020") + np.arange(6).reshape(3, 2)), "real numbers"),
        ("x.npz", np.savez, "holds no arrays"),
        ("x.npz", lambda path: np.savez(path, a=np.array([{}])), "not a .npz file of numbers"),
        ("x.mat", lambda path: scipy.io.savemat(path, {"x": {"a": X}}), "x is a structure, cells or text"),
        ("x.mat", lambda path: scipy.io.savemat(path, {"x": X * 1j}), "x is a complex128"),
        ("x.pt", torch_file(lambda torch: torch.tensor(X) * 1j), "type complex128"),
        ("x.pt", torch_file(lambda torch: torch.nn.Linear(2, 2)), "holds other objects than tensors"),
        ("x.pt", torch_file(lambda torch: {"a": X}), "holds other objects than tensors"),
        ("x.pt", torch_file(lambda torch: {"a": 3}), "holds no tensors"),
        ("labels-idx1-ubyte", lambda path: path.write_bytes(idx(PIXELS.ravel(), 8)), r"shape \(270,\)"),
        ("x.mtx", lambda path: scipy.io.mmwrite(path, sp.coo_matrix(SPARSE * 1j)), "must be like %%Matrix"),
        ("x.npy", os.mkfifo, "is a named pipe, must be a regular file"),
        ("x.npy", lambda path: path.mkdir(), "has no arrays, tables or images"),
        (
            "x.npy.gz",
            lambda path: path.write_bytes(gzip.compress(b"")),
            r"must be unpacked first to \*.npy",
        ),
        ("x.pkl", lambda path: path.write_bytes(b""), "is a pickle, which can run code"),
        ("x.xls", lambda path: path.write_bytes(b""), "save it as .xlsx"),
        (
            "x.unknown",
            lambda path: path.write_bytes(b""),
            r"named \*.unknown, must be \*.npy, .* or a folder",
        ),
    ],
)
def test_refused_arrays(tmp_path, name, make, message):
    make(tmp_path / name)
    assert_refuses(tmp_path / name, message)


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.endswith("bfloat16.pt")])
@pytest.mark.parametrize("change", ["empty", "text", "first half", "without its end"])
def test_damaged_arrays(tmp_path, name, change):
    path = tmp_path / name
    WRITERS[name][0](path)
    content = path.read_bytes()
    changed = {"empty": b"", "text": b"hello\n" * 9, "first half": content[: len(content) // 2]}
    path.write_bytes(changed.get(change, content[:-3] if not name.endswith(".mtx") else content.rstrip()[:-40]))
    assert_refuses(path, "not an? .*, or damaged|holds other objects|holds no|must be real numbers|MATLAB")


@pytest.mark.parametrize("name", ["x.npz", "train-images-idx3-ubyte", "x.mtx"])
def test_what_does_not_fit_into_memory_is_refused(tmp_path, name, monkeypatch):
    WRITERS[name][0](tmp_path / name)
    monkeypatch.setattr(file_errors.os, "sysconf", lambda key: 16)
    assert_refuses(tmp_path / name, "takes .* GiB when it is read, must be at most .* half of the memory")


def test_a_sparse_matrix_that_fills_the_disk(tmp_path):
    sp.save_npz(tmp_path / "x.npz", sp.csr_array(([1.0], ([0], [0])), shape=(10**5, 10**10)))
    assert_refuses(tmp_path / "x.npz", "takes .* GiB as a dense array of shape")


def test_options_that_do_not_fit(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert_refuses(tmp_path / "x.npy", r"key: 'a', must be left out for x.npy \(only .*\.npz.* take it\)", key="a")
    assert_refuses(tmp_path / "x.npy", r"header: True, must be left out for x.npy \(only .csv, .xlsx", header=True)
