"""Archives and files that are made to harm: refused in a line, soon and in little memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from phasevae import InputError
from phasevae.datasets import bounded, image_files
from phasevae.datasets.registry import build_dataset, dataset_from_path

GIB = 2**30
MEASURE = """
import pathlib, re, sys
from phasevae import InputError
from phasevae.datasets.registry import dataset_from_path
try:
    dataset_from_path(sys.argv[1])
except InputError as error:
    print(error)
print(int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
"""


def png(side=4, seed=0):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)).save(stream, "png")
    return stream.getvalue()


def png_of_zeros(width, height):
    """An image that is a thousand times as large as its file."""
    stream = zlib.compressobj(1)
    rows = b"".join(stream.compress(bytes(3 * width + 1)) for _ in range(height)) + stream.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def zip_file(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def with_sizes(path, size):
    """Change the size that the directory of a zip archive states for its only member."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, content.rfind(b"PK\1\2") + 24, size)
    path.write_bytes(content)


def tar_header(name, size=0, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def with_size_field(header, field):
    """A header of tar with another number in its field of the size, and the right checksum."""
    header = bytearray(header)
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def large_member(path):
    zip_file(path, {"a.png": bytes(2**20)})
    with_sizes(path, 8 * 2**28)


def large_member_with_a_small_size(path):
    zip_file(path, {"a.png": bytes(2**26)})
    with_sizes(path, 10)


def other_compression(path):
    zip_file(path, {"a.png": bytes(2**20)}, zipfile.ZIP_BZIP2)


def large_image_in_tar(path):
    path.write_bytes(gzip.compress(tar_header("a.png", 8 * GIB - 1) + bytes(2**20)))


def large_other_file_in_tar(path):
    path.write_bytes(gzip.compress(tar_header("a.bin", 8 * GIB - 1) + bytes(2**20)))


def long_name_in_tar(path):
    path.write_bytes(gzip.compress(tar_header("././@LongLink", 2 * GIB, tarfile.GNUTYPE_LONGNAME) + bytes(2**20)))


def many_files_in_tar(path):
    path.write_bytes(gzip.compress(tar_header("a") * 10_400))


def many_lines_in_tar(path):
    lines = (b"6 a=b\n" * 85_000).ljust(512 * 1000, b"\0")
    path.write_bytes(gzip.compress(tar_header("p", len(lines), tarfile.XHDTYPE) + lines + tar_header("a")))


def negative_size_in_tar(path):
    back = with_size_field(tar_header("a.bin"), b"\xff" * 10 + b"\xfe\0")
    path.write_bytes(tar_header("z") + back + bytes(1024))


def link_in_tar(path):
    path.write_bytes(tar_header("a.png", kind=tarfile.SYMTYPE) + bytes(1024))


def pipe_in_tar(path):
    path.write_bytes(tar_header("a.png", kind=tarfile.FIFOTYPE) + bytes(1024))


def hole_in_tar(path):
    path.write_bytes(tar_header("a.png", kind=tarfile.GNUTYPE_SPARSE) + bytes(1024))


def too_many_pixels(path):
    zip_file(path, {"a.png": png_of_zeros(100_000, 900)})


def too_many_pixels_of_a_sample(path):
    zip_file(path, {"a.png": png_of_zeros(3_000, 1_400)})


def postscript(path):
    zip_file(path, {"a.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"})


HARMFUL = {
    large_member: "x.zip: a.png has 2147483648 bytes, must have at most 268435456 in an archive",
    large_member_with_a_small_size: "x.zip: not a zip or tar archive, or truncated or damaged (Bad CRC-32",
    other_compression: "x.zip: a.png is compressed by method 12, must be stored or deflated",
    large_image_in_tar: "x.tgz: a.png has 8589934591 bytes, must have at most 268435456 in an archive",
    large_other_file_in_tar: "x.tgz: expands to more than 1.0 GiB",
    long_name_in_tar: "x.tgz: a header in it has 2147483648 bytes",
    many_files_in_tar: "x.tgz: holds more than 10",
    many_lines_in_tar: "x.tgz: its headers have more than 8",
    negative_size_in_tar: "x.tgz: has a file of negative size",
    link_in_tar: "x.tgz: a.png is a link, a pipe or a device, must be stored as a whole file",
    pipe_in_tar: "x.tgz: a.png is a link, a pipe or a device, must be stored as a whole file",
    hole_in_tar: "x.tgz: a.png is a file with holes, must be stored as a whole file",
    too_many_pixels: "x.zip: a.png: has too many pixels, must have at most 89478485",
    too_many_pixels_of_a_sample: "x.zip: a.png is 3000 x 1400 pixels, must have at most 4194304, or give 'size'",
    postscript: "x.zip: a.png: not an image, or damaged",
}


@pytest.mark.parametrize("make", HARMFUL)
def test_what_is_made_to_harm_is_refused_in_a_line(make, tmp_path):
    path = tmp_path / ("x.zip" if HARMFUL[make].startswith("x.zip") else "x.tgz")
    make(path)
    with pytest.raises(InputError) as caught:
        dataset_from_path(path)
    assert str(caught.value).startswith(f"{tmp_path}/{HARMFUL[make]}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [large_member_with_a_small_size, large_other_file_in_tar, too_many_pixels])
def test_what_is_made_to_harm_takes_little_memory(make, tmp_path):
    path = tmp_path / "x"
    make(path)
    done = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True, timeout=60)
    said, peak = done.stdout.splitlines()
    assert "x: " in said and int(peak) < 150  # MiB


def test_no_program_is_started_for_an_image(tmp_path, monkeypatch):
    """Pillow's reader of PostScript runs `gs` from PATH."""
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}:{os.environ['PATH']}")
    for suffix in image_files.SUFFIXES:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"a{suffix}").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
        )
    with (
        pytest.warns(UserWarning, match="not an image, or damaged"),
        pytest.raises(InputError, match="has no image that can be decoded"),
    ):
        build_dataset("images", path=tmp_path / "images", skip_damaged=True)
    assert not (tmp_path / "started").exists()


def test_a_directory_of_too_many_files_is_refused(tmp_path, monkeypatch):
    zip_file(tmp_path / "x.zip", {f"{i}.png": b"" for i in range(40)})
    monkeypatch.setattr(bounded, "_MOST_ENTRIES", 30)
    with pytest.raises(InputError, match=r"x.zip: holds more than 30 files: unpack it to a folder"):
        build_dataset("images", path=tmp_path / "x.zip")
    monkeypatch.setattr(bounded, "_MOST_DIRECTORY", 1000)
    with pytest.raises(InputError, match=r"x.zip: its directory has \d+ bytes, must be smaller"):
        build_dataset("images", path=tmp_path / "x.zip")


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31mb.png"])
def test_a_name_does_not_break_the_line(name, tmp_path):
    zip_file(tmp_path / "x.zip", {name: b"no image"})
    with pytest.raises(InputError) as caught:
        build_dataset("images", path=tmp_path / "x.zip")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_what_an_archive_expands_to_is_bounded(suffix, tmp_path, monkeypatch):
    """Also if it is the sum of many files, and with zeros behind the end of the archive."""
    monkeypatch.setattr(bounded, "_FREE_BYTES", 2**20)
    path = tmp_path / f"x.tar.{suffix}"
    with tarfile.open(path, f"w:{suffix}") as archive:
        for i in range(6):
            for name, content in (f"{i}.png", png(seed=i)), (f"{i}.bin", bytes(2**18)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    with pytest.raises(InputError, match=r"x.tar..*: expands to more than 0.0 GiB, from \d+ bytes; must be unpacked"):
        build_dataset("images", path=path)
    monkeypatch.setattr(bounded, "_FREE_BYTES", 2**30)
    assert build_dataset("images", path=path).x.shape == (6, 16)
    with {"gz": gzip, "bz2": bz2, "xz": lzma}[suffix].open(path, "ab") as stream:
        stream.write(bytes(2**20))
    assert build_dataset("images", path=path).x.shape == (6, 16)
    monkeypatch.setattr(bounded, "_FREE_BYTES", 2**21)
    with pytest.raises(InputError, match="expands to more than"):
        build_dataset("images", path=path)


@pytest.mark.parametrize("comment", [b"", b"a comment"])
def test_members_that_the_directory_passes_over_are_missed(tmp_path, comment):
    """A wrong length in the directory hides all members after it, which zipfile takes for the end."""
    path = tmp_path / "photos.zip"
    zip_file(path, {f"{i}.png": png(seed=i) for i in range(6)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment
    content = bytearray(path.read_bytes())
    assert len(dataset_from_path(path).x) == 6
    third = [i for i in range(len(content)) if content[i : i + 4] == b"PK\1\2"][2]
    struct.pack_into("<H", content, third + 32, 0xFFF)  # length of its comment
    path.write_bytes(content)
    with pytest.raises(InputError, match="its directory names 3 of 6 members"):
        dataset_from_path(path)
