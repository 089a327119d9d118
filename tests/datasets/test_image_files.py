"""What an image file may hold: formats, depths, pages, transparency, EXIF; and links to files and folders."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from phasevae import InputError, compute_spectrum
from phasevae.datasets.registry import build_dataset, dataset_from_path

N = 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def encoded(array, kind="png", **options):
    stream = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(stream, kind, **options)
    return stream.getvalue()


def png16(array, colour):
    """A PNG of 16 bits a channel in colours of PNG's kind `colour`, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(path, **options):
    return build_dataset("images", path=path, **{"grey": None, "standardize": "none", **options})


def grey8(rng):
    return rng.integers(0, 256, (N, 5, 7), dtype=np.uint8)


def colour8(rng):
    return rng.integers(0, 256, (N, 5, 7, 3), dtype=np.uint8)


def grey16(rng):
    return rng.integers(0, 2**16, (N, 5, 7), dtype=np.uint16)


def signed32(rng):
    return rng.integers(-1000, 1000, (N, 5, 7), dtype=np.int32)


def floats(rng):
    return rng.normal(3, 2, (N, 5, 7)).astype(np.float32)


def of_pbm(rng):
    return rng.integers(0, 2, (N, 5, 7)).astype(bool)


EXACT = {
    "a.png": (grey8, {}, 255),
    "c.png": (colour8, {}, 255),
    "d.png": (grey16, {}, 65535),
    "a.apng": (colour8, {"kind": "png"}, 255),
    "a.bmp": (colour8, {}, 255),
    "a.tif": (grey8, {"compression": "tiff_lzw"}, 255),
    "c.tiff": (colour8, {"compression": "tiff_adobe_deflate"}, 255),
    "d.tif": (grey16, {}, 65535),
    "e.tif": (signed32, {}, 1),
    "f.tif": (floats, {}, 1),
    "a.webp": (colour8, {"lossless": True}, 255),
    "a.gif": (grey8, {}, 255),
    "a.pgm": (grey8, {"kind": "ppm"}, 255),
    "d.pgm": (grey16, {"kind": "ppm"}, 65535),
    "a.ppm": (colour8, {}, 255),
    "a.pbm": (of_pbm, {"kind": "ppm"}, 1),
    "A.PNG": (grey8, {}, 255),
}


@pytest.mark.parametrize("name", EXACT)
def test_lossless_formats(name, tmp_path, rng):
    """Samples, their range and their spectrum against numpy."""
    make, options, divisor = EXACT[name]
    stored = make(rng)
    kind = {"kind": name.lower().rsplit(".")[-1].replace("tif", "tiff").replace("tifff", "tiff"), **options}
    write(tmp_path, {f"{i}{name}": encoded(image, **kind) for i, image in enumerate(stored)})
    dataset = dataset_from_path(tmp_path, grey=None, standardize="none")
    expected = (stored.astype(np.float64) / divisor).reshape(N, -1)
    np.testing.assert_allclose(dataset.x, expected, rtol=2e-7)
    assert dataset.reading.shape == stored.shape[1:]
    whole = {1: 255} if make is of_pbm else {}
    changes = () if make in (signed32, floats) else (f"divided by {whole.get(divisor, divisor)}",)
    assert dataset.reading.preparation == changes
    assert dataset.preprocessing["range"] == ("[0, 1]" if changes else "as stored")
    assert dataset.preprocessing["bits"] == {255: 8, 65535: 16, 1: 8 if changes else 32}[divisor]
    eigenvalues = np.linalg.eigvalsh(np.cov(expected.T, bias=True))[::-1][: N - 1]
    np.testing.assert_allclose(compute_spectrum(dataset.x).eigenvalues[: N - 1], eigenvalues, rtol=3e-7)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jfif", "jpeg"), ("a.jpe", "jpeg"), ("a.avif", "avif"), ("a.jpg", "mpo")]
)
def test_lossy_formats_are_as_pillow_decodes_them(name, kind, tmp_path, rng):
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    files = {f"{i}{name}": encoded(image, kind) for i, image in enumerate(colour8(rng))}
    write(tmp_path, files)
    expected = [np.asarray(Image.open(io.BytesIO(content)), np.float32).ravel() / 255 for content in files.values()]
    np.testing.assert_array_equal(read(tmp_path).x, expected)


def test_a_pillow_without_avif_says_so(tmp_path, rng, monkeypatch):
    write(tmp_path, {"a.avif": b"\0\0\0\x1cftypavif"})
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    with pytest.raises(InputError, match=r"a.avif: needs Pillow 11.3 or newer, with AVIF"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", ["psd", "eps", "tga", "ico", "pcx"])
def test_other_formats_are_none_whatever_their_name(suffix, tmp_path, rng):
    image = colour8(rng)[0]
    write(tmp_path, {"a.png": encoded(image, suffix) if suffix != "psd" else b"8BPS\0\1"})
    with pytest.raises(InputError, match=r"a.png: not an image, or damaged"):
        read(tmp_path)


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("make", [grey8, colour8, grey16, floats])
def test_every_page_of_a_tiff_file_is_a_sample(make, size, tmp_path, rng):
    stored = make(rng)
    first, *others = [Image.fromarray(image) for image in stored]
    (tmp_path / "stack.tif").write_bytes(encoded(first, "tiff", save_all=True, append_images=others))
    dataset = dataset_from_path(tmp_path / "stack.tif", grey=None, standardize="none", size=size)
    assert len(dataset.x) == N and dataset.reading.parts == ()
    if size is None:
        divisor = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[stored.dtype.type]
        np.testing.assert_allclose(dataset.x, stored.reshape(N, -1) / divisor, rtol=2e-7)
    elif make is grey16:
        smooth = [
            Image.fromarray(image.astype(np.float32)).resize((3, 3), Image.Resampling.BILINEAR) for image in stored
        ]
        np.testing.assert_allclose(dataset.x, np.stack(smooth).reshape(N, -1) / 65535, rtol=1e-5)


def test_stacks_of_a_folder_are_counted(tmp_path, rng):
    stacks = [[Image.fromarray(image) for image in grey8(rng)][: n + 2] for n in range(3)]
    write(
        tmp_path,
        {
            f"{i}.tif": encoded(stack[0], "tiff", save_all=True, append_images=stack[1:])
            for i, stack in enumerate(stacks)
        },
    )
    dataset = read(tmp_path)
    np.testing.assert_allclose(dataset.x, np.stack([np.asarray(i).ravel() for s in stacks for i in s]) / 255, rtol=2e-7)
    assert str(dataset.reading).startswith("9 samples of 5 x 7, values 0")
    assert "from 3 sources (0.tif 2, 1.tif 3, 2.tif 4)" in str(dataset.reading)
    assert dataset.provenance["source"]["n_files"] == 3


def test_pages_must_be_alike(tmp_path, rng):
    pages = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in ((4, 4), (4, 4), (4, 5))]
    (tmp_path / "a.tif").write_bytes(encoded(pages[0], "tiff", save_all=True, append_images=pages[1:]))
    with pytest.raises(InputError, match=r"a.tif, page 3 is 5 x 4 pixels, a.tif is 4 x 4: must all be alike"):
        read(tmp_path / "a.tif")
    pages[2].encoderinfo = {"tiffinfo": {254: 1}}  # a reduced page, as for a quick look
    (tmp_path / "a.tif").write_bytes(encoded(pages[0], "tiff", save_all=True, append_images=pages[1:]))
    dataset = read(tmp_path / "a.tif")
    assert len(dataset.x) == 2 and dataset.reading.left_out == ("1 reduced page",)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_counts_and_is_said(kind, tmp_path, rng):
    frames = [[Image.fromarray(image) for image in rng.integers(0, 256, (3, 4, 4), dtype=np.uint8)] for _ in range(2)]
    options = {"save_all": True} | ({"lossless": True} if kind == "webp" else {})
    files = {f"{i}.{kind}": encoded(some[0], kind, append_images=some[1:], **options) for i, some in enumerate(frames)}
    write(tmp_path, files)
    dataset = read(tmp_path, grey=True)
    np.testing.assert_allclose(dataset.x, [np.asarray(some[0]).ravel() / 255 for some in frames], rtol=2e-7)
    assert dataset.reading.left_out == ("later frames of 2 animations",)


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6, 8, 99])
def test_images_are_turned_as_exif_says(orientation, kind, tmp_path, rng):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "webp" else {}
    stored = rng.integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    write(tmp_path, {f"{i}.{kind}": encoded(image, kind, exif=exif, **lossless) for i, image in enumerate(stored)})
    dataset = read(tmp_path)
    plain = [np.asarray(Image.open(io.BytesIO(encoded(image, kind, **lossless)))) for image in stored]
    turn = {2: np.fliplr, 3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, -1), 8: np.rot90}
    expected = np.stack([turn.get(orientation, lambda a: a)(image) for image in plain])
    np.testing.assert_allclose(dataset.x, expected.reshape(2, -1) / 255, rtol=2e-7)
    assert dataset.reading.shape == expected.shape[1:]
    turned = ("turned as EXIF says",) if orientation in turn else ()
    assert dataset.reading.preparation == (*turned, "divided by 255")


def test_what_was_done_to_some_images_is_counted(tmp_path, rng):
    exif = Image.Exif()
    exif[0x0112] = 3
    colour = colour8(rng)
    half = np.concatenate([colour[3], np.full((5, 7, 1), 99, np.uint8)], axis=2)
    opaque = np.concatenate([colour[4], np.full((5, 7, 1), 255, np.uint8)], axis=2)
    write(
        tmp_path,
        {
            "a/0.png": encoded(colour[0]),
            "a/1.jpg": encoded(colour[1], "jpeg", exif=exif),
            "b/2.png": png16(rng.integers(0, 2**16, (5, 7, 3)), 2),
            "b/3.png": encoded(half),
            "b/4.png": encoded(opaque),
            "b/5.jpg": encoded(Image.fromarray(colour[5]).convert("CMYK"), "jpeg"),
            "c/6.png": encoded(colour[0, ..., 0]),
            "c/7.png": b"damaged",
        },
    )
    with pytest.warns(UserWarning, match=r"c/7.png: not an image, or damaged: left out"):
        dataset = read(tmp_path, skip_damaged=True)
    np.testing.assert_allclose(dataset.x[3], colour[3].ravel() / 255, rtol=2e-7)
    np.testing.assert_allclose(dataset.x[6].reshape(5, 7, 3), np.stack([colour[0, ..., 0]] * 3, 2) / 255, rtol=2e-7)
    assert dataset.reading.preparation == (
        "turned as EXIF says (1 image)",
        "16-bit colours read with 8 bits (1 image)",
        "transparency dropped (1 image)",
        "CMYK to RGB (1 image)",
        "grey as three equal colours (1 image)",
        "divided by 255",
    )
    assert dataset.reading.left_out == ("1 damaged image file",)
    assert dataset.reading.parts == (("a", 2), ("b", 4), ("c", 1))


def test_parts_are_the_first_folders_that_differ(tmp_path, rng):
    images = [encoded(image) for image in grey8(rng)]
    names = ["set/train/a/0.png", "set/train/a/1.png", "set/train/b/2.png", "set/train/b/c/3.png", "set/train/4.png"]
    write(tmp_path, dict(zip(names, images, strict=False)))
    assert read(tmp_path).reading.parts == ((".", 1), ("a", 2), ("b", 2))
    assert read(tmp_path / "set" / "train" / "a").reading.parts == ()


def test_grey_of_16_bits_with_transparency(tmp_path, rng):
    stored = rng.integers(0, 2**16, (2, 4, 4, 2))
    write(tmp_path, {f"{i}.png": png16(image, 4) for i, image in enumerate(stored)})
    dataset = read(tmp_path)
    np.testing.assert_allclose(dataset.x, (stored[..., 0] >> 8).reshape(2, -1) / 255, rtol=2e-7)
    assert dataset.reading.preparation == ("transparency dropped", "16-bit colours read with 8 bits", "divided by 255")


def test_depths_must_be_alike(tmp_path, rng):
    write(tmp_path, {"a.png": encoded(grey16(rng)[0]), "b.png": encoded(grey8(rng)[0])})
    with pytest.raises(InputError, match=r"b.png has 8 bits a channel, a.png has 16 bits: must all be alike"):
        read(tmp_path)
    write(tmp_path, {"b.png": encoded(floats(rng)[0], "tiff")})
    with pytest.raises(InputError, match=r"b.png has numbers a channel, a.png has 16 bits: must all be alike"):
        read(tmp_path)


def test_pixels_that_are_no_numbers(tmp_path, rng):
    bad = floats(rng)[0]
    bad[2, 3] = np.nan
    write(tmp_path, {"a.tif": encoded(bad, "tiff")})
    with pytest.raises(InputError, match=r"a.tif: not an image, or damaged .it has pixels that are NaN or infinite."):
        read(tmp_path)


def test_one_image_is_no_data_set(tmp_path, rng):
    write(tmp_path, {"a.png": encoded(grey8(rng)[0])})
    with pytest.raises(InputError, match=r"a.png: is one image, must be a folder or archive of images, or a TIFF"):
        dataset_from_path(tmp_path / "a.png")


def test_a_damaged_page_takes_its_file_along(tmp_path, rng):
    first, *others = [Image.fromarray(image) for image in colour8(rng)]
    whole = encoded(first, "tiff", save_all=True, append_images=others)
    write(tmp_path, {"a.tif": whole, "b.tif": whole[:-150], "c.tif": whole})
    with pytest.raises(
        InputError,
        match=r"b.tif, page \d: not an image, or damaged .* \(--skip-damaged, skip_damaged=True leave such",
    ):
        read(tmp_path)
    with pytest.warns(UserWarning, match=r"b.tif, page \d: not an image, or damaged"):
        dataset = read(tmp_path, skip_damaged=True)
    assert dataset.reading.parts == (("a.tif", N), ("c.tif", N))
    np.testing.assert_array_equal(dataset.x[:N], dataset.x[N:])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_image_is_read_or_refused(tmp_path_factory, data):
    """Whatever the bytes are: pixels, or one line."""
    kinds = ["png", "jpeg", "tiff", "gif", "webp", "bmp", "ppm"]
    image = Image.fromarray(np.arange(105, dtype=np.uint8).reshape(5, 7, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    content = bytearray(encoded(image, data.draw(st.sampled_from(kinds)), exif=exif))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("mutated")
    write(folder, {"a.png": bytes(content[: data.draw(st.integers(1, len(content)))]), "b.png": encoded(image)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert read(folder, size=4).x.shape[0] >= 2
        except InputError as error:
            assert str(error).isprintable()
