"""The user's files: links, folders, names, and what is no file that can be read."""

from __future__ import annotations

import io
import os
import socket
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phasevae import InputError
from phasevae.datasets.registry import build_dataset, dataset_from_path
from phasevae.sweeps.outputs import own_files

N = 6


def png(seed=0):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8)).save(stream, "png")
    return stream.getvalue()


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read(path):
    return build_dataset("images", path=path, standardize="none")


def test_links_to_folders_and_files_are_followed(tmp_path):
    """As by loaders of class folders; and the workflow watches the same files."""
    images = [png(seed) for seed in range(N)]
    write(tmp_path / "store", {f"x/{i}.png": images[i] for i in range(3)} | {f"{i}.png": images[i] for i in (3, 4, 5)})
    write(tmp_path / "data", {"b/.hidden.png": b"", "b/notes.txt": b""})
    (tmp_path / "data" / "a").symlink_to(tmp_path / "store" / "x")
    for i in (3, 4, 5):
        (tmp_path / "data" / "b" / f"{i}.png").symlink_to(tmp_path / "store" / f"{i}.png")
    dataset = read(tmp_path / "data")
    expected = [np.asarray(Image.open(io.BytesIO(image))).ravel() / 255 for image in images]
    np.testing.assert_allclose(dataset.x, expected, rtol=2e-7)
    assert dataset.reading.parts == (("a", 3), ("b", 3))
    watched = ["a/0.png", "a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png", "b/notes.txt"]
    assert own_files({"path": str(tmp_path / "data")}) == [str(tmp_path / "data" / name) for name in watched]


def test_links_in_a_circle_end(tmp_path):
    images = [png(seed) for seed in range(N)]
    write(tmp_path / "data", {f"a/{i}.png": images[i] for i in range(N)})
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "self").symlink_to("self")
    (tmp_path / "data" / "again").symlink_to("a")
    dataset = read(tmp_path / "data")
    assert len(dataset.x) == N and dataset.reading.parts == ()
    assert len(own_files({"path": str(tmp_path / "data")})) == N


@pytest.mark.parametrize(
    ("target", "message"),
    [("nowhere.png", "is a link to a file that does not exist"), ("b.png", "cannot be read .Too many levels")],
)
def test_a_link_that_leads_nowhere_is_named(target, message, tmp_path):
    write(tmp_path, {"a.png": png()})
    (tmp_path / "b.png").symlink_to(target)
    with pytest.raises(InputError, match=f"b.png: {message}"):
        read(tmp_path)
    assert own_files({"path": str(tmp_path)}) == [str(tmp_path / "a.png")]


@pytest.mark.parametrize("name", ["x.zip", "x.png", "x.tif", "x.tar.gz", "x.npy", "x.csv", "x", "x.parquet"])
def test_what_is_no_regular_file_is_refused_at_once(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(name)
    for build in (
        dataset_from_path,
        lambda path: build_dataset("array" if path.endswith(".npy") else "images", path=path),
    ):
        with pytest.raises(InputError, match=f"^{name}: is a named pipe, must be a regular file or a folder$"):
            build(name)
    Path(name).unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        with pytest.raises(InputError, match=f"^{name}: is a socket, must be a regular file or a folder$"):
            dataset_from_path(name)
    Path(name).unlink()
    Path(name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=f"^{name}: is a device, must be a regular file or a folder$"):
        dataset_from_path(name)
    Path(name).unlink()
    Path(name).symlink_to("nowhere")
    with pytest.raises(InputError, match=f"^{name}: is a link to a file that does not exist$"):
        dataset_from_path(name)
    Path(name).unlink()
    Path(name).symlink_to(name)
    with pytest.raises(InputError, match=f"^{name}: cannot be read .Too many levels of symbolic links.$"):
        dataset_from_path(name)


def test_what_is_no_regular_file_in_a_folder_is_refused(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(png(seed=i))
    os.mkfifo(tmp_path / "notes")
    assert build_dataset("images", path=tmp_path).x.shape == (3, 16)
    os.mkfifo(tmp_path / "3.png")
    with pytest.raises(InputError, match=r"3.png: is a named pipe, must be a regular file"):
        build_dataset("images", path=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("name", ["a.png", "."])
def test_what_may_not_be_read_is_named(name, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    mode = stat.S_IMODE((tmp_path / name).stat().st_mode)
    (tmp_path / name).chmod(0)
    try:
        with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
            dataset_from_path(tmp_path)
    finally:
        (tmp_path / name).chmod(mode)


def test_a_name_that_is_no_text_is_read(tmp_path):
    folder = tmp_path / "images" / os.fsdecode(b"\xff")
    folder.mkdir(parents=True)
    for i in range(2):
        (folder / f"{i}.png").write_bytes(png(seed=i))
        (tmp_path / "images" / f"{i}.png").write_bytes(png(seed=2 + i))
    dataset = build_dataset("images", path=tmp_path / "images")
    assert dataset.x.shape == (4, 16) and dataset.provenance["source"]["n_files"] == 4
    assert dataset.reading.parts == ((".", 2), ("\ufffd", 2))


def test_deep_folders(tmp_path):
    """Deeper than Python's recursion, in a folder and in an archive."""
    names = ["d/" * 1100 + f"{i}.png" for i in range(2)]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(name, png(seed=i))
    assert build_dataset("images", path=tmp_path / "x.zip").x.shape == (2, 16)
    folders = [tmp_path / "images"]
    try:
        for _ in range(1100):
            folders[-1].mkdir()
            folders.append(folders[-1] / "d")
        for i in range(2):
            (folders[-2] / f"{i}.png").write_bytes(png(seed=i))
        assert build_dataset("images", path=tmp_path / "images").x.shape == (2, 16)
    finally:  # pytest could not remove them
        for file in (folders[-2] / f"{i}.png" for i in range(2)):
            file.unlink(missing_ok=True)
        for folder in reversed(folders[:-1]):
            folder.rmdir()
