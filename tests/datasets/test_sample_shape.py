"""The shape in which networks of the user's own see a row."""

from __future__ import annotations

import numpy as np
import pytest

from phasevae.datasets.registry import build_dataset
from phasevae.datasets.sample_shape import SampleShape, sample_shape
from phasevae.datasets.store import read_record, save_dataset


@pytest.mark.parametrize("shape", [(7,), (2, 3), (3, 4, 5)])
def test_arrays_keep_the_shape_of_their_samples(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, *shape)))
    dataset = build_dataset("array", path=tmp_path / "x.npy")
    save_dataset(dataset, tmp_path / "saved")
    assert sample_shape(dataset) == sample_shape(read_record(tmp_path / "saved")) == SampleShape(shape)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_images_are_channels_first():
    assert sample_shape(build_dataset("digits")) == SampleShape((1, 8, 8), channels_last=True)


@pytest.mark.parametrize(("colour", "expected"), [(False, (1, 5, 6)), (True, (3, 5, 6))])
def test_colours_come_last_in_the_rows(tmp_path, colour, expected):
    from PIL import Image

    generator = np.random.default_rng(0)
    for i in range(4):
        pixels = generator.integers(0, 255, (5, 6, 3) if colour else (5, 6)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    assert sample_shape(build_dataset("images", path=tmp_path)) == SampleShape(expected, channels_last=True)


def test_columns_that_are_left_out_leave_a_row(tmp_path):
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c", *(f"{i % 3},{i % 5},{i % 7}" for i in range(20))]))
    dataset = build_dataset("array", path=tmp_path / "x.csv", drop=["b"])
    assert sample_shape(dataset) == SampleShape((2,))
