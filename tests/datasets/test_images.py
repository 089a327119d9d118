from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from phasevae import InputError
from phasevae.datasets import cifar10
from phasevae.datasets.registry import build_dataset


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return stream.getvalue()


def noise(rng, n=6, side=12):
    """Images of noise, RGB, by name; the names are not in order."""
    return {f"b/{9 - i}.png": png(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for i in range(n)}


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def write_tar(path, files):
    kind = path.suffix[1:]
    with tarfile.open(path, "w" if kind == "tar" else f"w:{kind}") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


WRITERS = {"folder": write_folder, "x.zip": write_zip, "x.tar": write_tar, "x.tar.gz": write_tar, "x.tar.xz": write_tar}


# Images


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("size", "grey"), [(4, True), (None, True), (4, False)])
def test_every_container_gives_the_same_samples(tmp_path, rng, name, size, grey):
    files = noise(rng)
    extra = {"notes.txt": b"no image", "b/.hidden.png": b"no image", "__MACOSX/b/9.png": b"no image"}
    WRITERS[name](tmp_path / name, files | extra)
    actual = build_dataset("images", path=tmp_path / name, size=size, grey=grey, standardize="none")
    expected = []
    for key in sorted(files):
        image = Image.open(io.BytesIO(files[key])).convert("L" if grey else "RGB")
        if size:
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        expected.append(np.asarray(image, dtype=np.float32).ravel() / 255)
    np.testing.assert_allclose(actual.x, expected, rtol=1e-6)
    assert actual.provenance["options"]["path"] == name


def test_source_of_a_folder_follows_its_images(tmp_path, rng):
    write_folder(tmp_path / "a", noise(rng))
    first = build_dataset("images", path=tmp_path / "a").provenance["source"]
    assert first["n_files"] == 6 and first["folder"] == "a"
    (tmp_path / "a" / "notes.txt").write_text("changes nothing")
    assert build_dataset("images", path=tmp_path / "a").provenance["source"] == first
    (tmp_path / "a" / "b" / "9.png").write_bytes(png(np.zeros((12, 12), np.uint8)))
    assert build_dataset("images", path=tmp_path / "a").provenance["source"]["sha256"] != first["sha256"]


def test_images_of_other_modes(tmp_path, rng):
    rgba = rng.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    write_folder(tmp_path, {"a.png": png(rgba), "b.png": png(rgba[..., 0])})
    actual = build_dataset("images", path=tmp_path, grey=True)
    np.testing.assert_allclose(actual.x[1], rgba[..., 0].ravel() / 255, rtol=1e-6)
    (tmp_path / "c.png").write_bytes(png(np.full((4, 4), 60000, np.uint16)))
    with pytest.raises(InputError, match=r"c.png has 16 bits a channel, a.png has 8 bits: must all be alike"):
        build_dataset("images", path=tmp_path)


@pytest.mark.filterwarnings("ignore:.*features are constant")
def test_lost_colours_give_a_warning(tmp_path, rng):
    """The first image decides for all, unless the caller does."""
    colour, grey = (png(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in ((4, 4, 3), (4, 4)))
    write_folder(tmp_path / "grey", {"a.png": grey, "b.png": colour, "c.png": colour})
    with pytest.warns(UserWarning, match="grey: b.png has colours, a.png is grey: all are taken as grey") as caught:
        assert build_dataset("images", path=tmp_path / "grey", grey=None, standardize="none").x.shape == (3, 16)
    assert sum("has colours" in str(warning.message) for warning in caught) == 1
    write_folder(tmp_path / "colour", {"a.png": colour, "b.png": grey, "c.png": colour})
    assert build_dataset("images", path=tmp_path / "colour", grey=None, standardize="none").x.shape == (3, 48)
    assert build_dataset("images", path=tmp_path / "grey", grey=True, standardize="none").x.shape == (3, 16)


def test_other_encodings(tmp_path, rng):
    """CMYK becomes RGB, and of an animation the first frame counts."""
    frames = [Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)) for _ in range(3)]
    cmyk = Image.fromarray(rng.integers(0, 256, (4, 4, 4), dtype=np.uint8), "CMYK")
    cmyk.save(tmp_path / "a.jpg")
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    actual = build_dataset("images", path=tmp_path, grey=None, standardize="none").x
    for row, path in zip(actual, ("a.jpg", "b.gif"), strict=True):
        expected = np.asarray(Image.open(tmp_path / path).convert("RGB"), np.float32)
        np.testing.assert_allclose(row, expected.ravel() / 255, rtol=1e-6)
    np.testing.assert_allclose(actual[1].reshape(4, 4, 3)[..., 0], np.asarray(frames[0]) / 255, rtol=1e-6)


def test_an_encrypted_archive_is_refused(tmp_path, rng):
    write_zip(tmp_path / "x.zip", noise(rng))
    content = bytearray((tmp_path / "x.zip").read_bytes())
    directory = content.find(b"PK\1\2")
    content[directory + 8] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"x.zip: b/9.png is encrypted, must be without a password"):
        build_dataset("images", path=tmp_path / "x.zip")


def test_when_all_images_are_left_out(tmp_path):
    write_folder(tmp_path, {"a.png": b"", "b.png": b"hello"})
    with (
        pytest.warns(UserWarning, match=r"[ab].png: not an image, or damaged: left out"),
        pytest.raises(InputError, match="has no image that can be decoded, 2 left out"),
    ):
        build_dataset("images", path=tmp_path, skip_damaged=True)


def test_images_must_share_a_shape(tmp_path, rng):
    files = {"a.png": png(np.zeros((4, 5), np.uint8)), "b.png": png(np.zeros((4, 6), np.uint8))}
    write_folder(tmp_path, files)
    with pytest.raises(
        InputError, match=r"b.png is 6 x 4 pixels, a.png is 5 x 4: must all be alike, or give --size \(size=64\)"
    ):
        build_dataset("images", path=tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", png(np.arange(10000, dtype=np.uint8).reshape(100, 100))[:200]])
def test_corrupt_image_is_named(tmp_path, rng, content):
    write_zip(tmp_path / "x.zip", noise(rng) | {"bad.png": content})
    with pytest.raises(InputError, match=r"x.zip: bad.png: not an image, or damaged") as caught:
        build_dataset("images", path=tmp_path / "x.zip", size=4)
    assert "\n" not in str(caught.value)


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match=r"has no arrays, tables or images \(images are named \*.png, "):
        build_dataset("images", path=tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "x.npy").touch()
    with pytest.raises(InputError, match=r"has no images \(images are named \*.png, "):
        build_dataset("images", path=tmp_path)
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        build_dataset("images", path=tmp_path / "nowhere")
    (tmp_path / "x.tar").write_text("hello")
    with pytest.raises(InputError, match=r"x.tar: not a zip or tar archive, or truncated or damaged") as caught:
        build_dataset("images", path=tmp_path / "x.tar")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "folder"])
def test_an_archive_cut_anywhere_is_noticed(tmp_path, rng, name):
    """Also at the boundary of two members, where tarfile sees the end of a whole archive."""
    WRITERS[name](tmp_path / name, noise(rng, side=4))
    content = (tmp_path / name).read_bytes()
    # Blocks of zeros fill an uncompressed tar: only the cuts before the last image lose something.
    last = len(content.rstrip(b"\0")) if name == "x.tar" else len(content)
    cuts = {*range(0, last, 512), *range(0, last, 97), last - 1}
    for cut in cuts:
        (tmp_path / name).write_bytes(content[:cut])
        with pytest.raises(InputError, match="truncated or damaged"):
            build_dataset("images", path=tmp_path / name, size=4)


def test_a_flipped_byte_is_noticed(tmp_path, rng):
    for name in ("x.zip", "x.tar.gz", "x.tar.xz"):
        WRITERS[name](tmp_path / name, noise(rng, side=4))
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 3] ^= 0x55
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            build_dataset("images", path=tmp_path / name, size=4)


# CIFAR-10


def records(rng, n=7):
    actual = rng.integers(0, 256, (n, cifar10.RECORD), dtype=np.uint8)
    actual[:, 0] %= 10
    return actual


def batches(rng):
    return {f"cifar-10-batches-bin/{name}": records(rng).tobytes() for name in cifar10.BATCHES["all"]}


def test_cifar_has_the_bytes_of_the_image_path(tmp_path, rng):
    files = batches(rng)
    # Stored in another order than that of the samples.
    write_tar(tmp_path / "cifar.tar.gz", {"cifar-10-batches-bin/readme.html": b"x"} | dict(reversed(files.items())))
    rows = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in files.values()])
    images = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    write_zip(tmp_path / "images.zip", {f"{i:04}.png": png(image) for i, image in enumerate(images)})
    for options in ({}, {"grey": False}, {"size": 32}, {"size": None}, {"size": 5}):
        actual = build_dataset("cifar10", archive=tmp_path / "cifar.tar.gz", **options)
        paper = {"size": 8, "grey": True, "standardize": "per-feature"}
        expected = build_dataset("images", path=tmp_path / "images.zip", **{**paper, **options})
        np.testing.assert_array_equal(actual.x, expected.x)
    assert actual.provenance["options"]["archive"] == "cifar.tar.gz"


def test_an_unpacked_archive_is_identified_by_its_batches(tmp_path, rng):
    write_folder(tmp_path / "cifar", batches(rng) | {"readme.html": b"x"})

    def source(**options):
        return build_dataset("cifar10", archive=tmp_path / "cifar", **options).provenance["source"]

    first = source()
    assert first["n_files"] == 6 and source(split="test")["n_files"] == 1
    (tmp_path / "cifar" / "readme.html").write_bytes(b"changes nothing")
    assert source() == first
    write_folder(tmp_path / "cifar", {"cifar-10-batches-bin/test_batch.bin": records(rng).tobytes()})
    assert source()["sha256"] != first["sha256"]


def test_splits(tmp_path, rng):
    write_tar(tmp_path / "cifar.tar", batches(rng))

    def build(split):
        return build_dataset("cifar10", archive=tmp_path / "cifar.tar", split=split, standardize="none").x

    np.testing.assert_array_equal(np.concatenate([build("train"), build("test")]), build("all"))
    assert len(build("test")) == 7


def test_test_split_needs_no_training_batches(tmp_path, rng):
    write_tar(tmp_path / "t.tar", {"test_batch.bin": records(rng).tobytes()})
    assert build_dataset("cifar10", archive=tmp_path / "t.tar", split="test").x.shape == (7, 64)
    with pytest.raises(InputError, match=r"t.tar: data_batch_1.bin, .*data_batch_5.bin missing, must be a CIFAR-10"):
        build_dataset("cifar10", archive=tmp_path / "t.tar")


@pytest.mark.parametrize("length", [0, 1, 3072, 3074])
def test_wrong_record_length(tmp_path, length):
    write_tar(tmp_path / "t.tar", {"test_batch.bin": bytes(length)})
    with pytest.raises(InputError, match=f"t.tar: test_batch.bin: {length} bytes, must be a positive multiple of 3073"):
        build_dataset("cifar10", archive=tmp_path / "t.tar", split="test")


def test_wrong_label(tmp_path, rng):
    wrong = records(rng)
    wrong[4, 0] = 77
    write_tar(tmp_path / "t.tar", {"test_batch.bin": wrong.tobytes()})
    with pytest.raises(InputError, match=r"test_batch.bin: record 4 has label 77, must be 0 to 9"):
        build_dataset("cifar10", archive=tmp_path / "t.tar", split="test")


def test_archive_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match=r"none.tar.gz: no such file or folder"):
        build_dataset("cifar10", archive=tmp_path / "none.tar.gz")
