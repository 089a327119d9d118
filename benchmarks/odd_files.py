"""Files of every readable format, whole, odd and damaged, each with an independent reading of it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from odd_formats import FORMATS, IMAGES

NAMES = ["alpha", "beta", "gamma", "delta"]
N_ROWS = 30


class Case(NamedTuple):
    """An odd input: what it is, the data and options to give, and how to read it independently.

    `read` gives the samples [n, D], given the names of the columns that were read (empty where there are none). It
    raises an error if they cannot be read. `must` is "read" or "refuse" where only one of them is right.
    """

    what: str
    data: Any
    options: dict[str, Any]
    read: Callable[[tuple[str, ...]], np.ndarray]
    must: str = ""


# Odd content


def _samples(rng: random.Random) -> pd.DataFrame:
    numbers = np.random.default_rng(rng.randrange(2**32))
    x = numbers.normal(size=(N_ROWS, 4)) @ numbers.normal(size=(4, 4)) + 1
    return pd.DataFrame(x, columns=NAMES)


def _with(value: Any) -> Callable[[pd.DataFrame, random.Random], pd.DataFrame]:
    def change(table: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
        table = table.astype(object) if isinstance(value, str) else table.copy()
        table.iloc[rng.randrange(len(table)), rng.randrange(4)] = value
        return table

    return change


def _with_ids(table: pd.DataFrame, rng: random.Random) -> pd.DataFrame:
    name = rng.choice(("id", "index", "user_id", "Unnamed: 0"))
    table = table.copy()
    table.insert(0, name, np.arange(len(table)) + rng.choice((0, 1, 5000)))
    return table


CONTENTS: dict[str, tuple[Callable[[pd.DataFrame, random.Random], pd.DataFrame], str]] = {
    "as it is": (lambda table, rng: table, "read"),
    "nan": (_with(np.nan), "refuse"),
    "inf": (_with(np.inf), "refuse"),
    "huge": (_with(1e30), "refuse"),
    "text": (_with("text"), "refuse"),
    "ids": (_with_ids, "refuse"),
    "one row": (lambda table, rng: table.iloc[:1], "refuse"),
    "no rows": (lambda table, rng: table.iloc[:0], "refuse"),
    "constant": (lambda table, rng: table * 0 + 3, "refuse"),
    "a constant feature": (lambda table, rng: table.assign(beta=2.0), "read"),
    "rows twice": (lambda table, rng: pd.concat([table, table], ignore_index=True), "read"),
    "far from zero": (lambda table, rng: table + 1e4, "read"),
    "single precision": (lambda table, rng: table.astype("float32"), "read"),
    "whole numbers": (lambda table, rng: (10 * table).round().astype("int64"), ""),
    "flags": (lambda table, rng: table > 1, ""),
    "one column": (lambda table, rng: table[["alpha"]], ""),
    "names of numbers": (lambda table, rng: table.set_axis(["400.0", "402.0", "404.0", "406.0"], axis=1), ""),
    "names twice": (lambda table, rng: table.set_axis(["a", "b", "a", "c"], axis=1), ""),
}


def content_case(folder: Path, rng: random.Random) -> Case:
    """A file of odd content in a random format."""
    format_ = rng.choice(FORMATS)
    name = rng.choice(list(CONTENTS))
    is_image = format_.ending in IMAGES
    while (name in ("text", "names of numbers", "names twice", "ids") and not format_.texts) or (
        is_image and name not in ("as it is", "one row", "a constant feature", "rows twice")
    ):
        name = rng.choice(list(CONTENTS))
    change, must = CONTENTS[name]
    path = folder / f"data{format_.ending}"
    try:
        format_.write(path, change(_samples(rng), rng))
    except Exception as error:  # a format that has no room for such content
        path.write_text(f"{type(error).__name__}\n")
        must = "refuse"
    return Case(f"{name} as *{format_.ending}", path, {}, lambda names: format_.read(path, names), must)


# Damage


def damage_case(folder: Path, rng: random.Random) -> Case:
    """A file in a random format with damaged bytes."""
    format_ = rng.choice(FORMATS)
    path = folder / f"data{format_.ending}"
    format_.write(path, _samples(rng))
    file = rng.choice(sorted(entry for entry in path.rglob("*") if entry.is_file())) if path.is_dir() else path
    content = bytearray(file.read_bytes())
    where = rng.randrange(len(content))
    what = rng.choice(("flip", "flip", "flip", "cut", "cut", "zeros", "noise", "twice", "more", "empty", "text"))
    if what == "flip":
        content[where] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del content[where:]
    elif what in ("zeros", "noise"):
        length = len(content[where : where + 32])
        content[where : where + 32] = bytes(length) if what == "zeros" else rng.randbytes(length)
    elif what == "twice":
        content += bytes(content)
    elif what == "more":
        content += rng.randbytes(20)
    elif what == "empty":
        content.clear()
    else:
        content[:] = b"<html><body>404 not found</body></html>\n"
    file.write_bytes(content)
    must = "refuse" if what in ("empty", "text") else ""
    return Case(f"{what} at byte {where} of *{format_.ending}", path, {}, lambda names: format_.read(path, names), must)


# Names, links and options


_IN_ITS_PLACE = ("link", "loop", "dangling link", "pipe", "folder")


def place_case(folder: Path, rng: random.Random) -> Case:
    """A file under a wrong name, behind a link, or something else in its place."""
    format_ = rng.choice(FORMATS)
    true = folder / f"data{format_.ending}"
    format_.write(true, _samples(rng))
    what = rng.choice(("wrong ending", "wrong ending", "no ending", "capitals", *_IN_ITS_PLACE))
    path, must = folder / f"other{format_.ending}", "refuse"
    if what == "wrong ending":
        path, must = folder / f"other{rng.choice(FORMATS).ending}", ""
        true.rename(path)
    elif what == "no ending":
        path, must = folder / "other", ""
        true.rename(path)
    elif what == "capitals":
        path, must = folder / f"DATA{format_.ending.upper()}", ""
        true.rename(path)
    elif what == "link":
        path.symlink_to(true, target_is_directory=true.is_dir())
        must = "read"
    elif what == "loop":
        path.symlink_to(path)
    elif what == "dangling link":
        path.symlink_to(folder / "missing")
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir(exist_ok=True)
    return Case(f"{what}: *{format_.ending} as {path.name}", path, {}, lambda names: format_.read(path, names), must)


OPTIONS: tuple[dict[str, Any], ...] = (
    {"key": "x"}, {"key": "missing"}, {"key": 3}, {"drop": "beta"}, {"drop": ["alpha", "delta"]}, {"drop": [0]},
    {"drop": "missing"}, {"drop": NAMES}, {"header": True}, {"header": False}, {"header": "yes"},
    {"size": 2}, {"size": 0}, {"size": "big"}, {"grey": True}, {"grey": 3}, {"standardize": "center"},
    {"standardize": "best"},
)  # fmt: skip


def option_case(folder: Path, rng: random.Random) -> Case:
    """A whole file with an option that may not fit it."""
    format_ = rng.choice(FORMATS)
    path = folder / f"data{format_.ending}"
    table = _samples(rng)
    format_.write(path, table)
    options = rng.choice(OPTIONS)
    wrong = repr(next(iter(options.values()))) in ("'missing'", "3", "'yes'", "0", "'big'", "'best'")

    def read(names: tuple[str, ...]) -> np.ndarray:
        x = format_.read(path, () if options.get("header") is False else names)
        if options.get("drop") == [0]:
            x = x[:, 1:] if x.shape[1] == len(table.columns) else x
        if options.get("header") is True and not format_.texts:
            x = x[1:] if len(x) == N_ROWS else x
        if "standardize" in options:
            x = x - x.mean(0)
        if "size" in options:
            raise NotImplementedError
        return x

    return Case(f"{options} for *{format_.ending}", path, options, read, "refuse" if wrong else "")
