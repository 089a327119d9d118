"""Tables and figures of the measured rows of all contenders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from phasevae.artifacts.figures import write_figure
from phasevae.artifacts.files import replacing
from phasevae.artifacts.tables import read_table, write_table
from phasevae.errors import InputError
from phasevae.figures.marks import BLACK, GREY, PALETTE, STYLE, figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TARGETS = (0.004, 0.002)
"""RMS errors of the KL curve, in nats; the table has the time until each is reached."""
KEYS = ["contender", "protocol"]
COLORS = dict(zip(("phasevae", "loop", "pythae", "jax", "compiled", "multi_rate"), PALETTE, strict=False))
MARKERS = {"phasevae": "o", "loop": "s", "pythae": "^", "jax": "D", "compiled": "v", "multi_rate": "P"}
STYLES = {"usual": "--", "ours": "-"}
LABELS = {
    ("loop", "usual"): "usual loop",
    ("compiled", "usual"): "usual loop, torch.compile",
    ("multi_rate", "usual"): "Multi-Rate VAE",
    ("phasevae", "ours"): "phasevae",
    ("jax", "ours"): "jax, phasevae's protocol",
    ("pythae", "ours"): "pythae, phasevae's protocol",
}


def read_rows(folder: Path) -> pd.DataFrame:
    """All rows of the tables in `folder`. Raises InputError if there are none, or if the runs cannot be compared."""
    tables = [read_table(path) for path in sorted(folder.glob("*.csv"))]
    if not tables:
        raise InputError(f"{folder}: holds no results yet")
    rows = pd.concat(tables, ignore_index=True)
    for column in ("rows", "threads", "beside", "processor"):
        if column not in rows or rows[column].isna().any():
            raise InputError(
                f"{folder}: holds runs of an older version, without {column}; run them with --again, or move them"
            )
        values = rows[column].unique()
        if values.size > 1:
            raise InputError(f"{folder}: holds runs with {column} {', '.join(map(str, values))}, must all be the same")
    return rows


def text(rows: pd.DataFrame) -> str:
    """Both tables of every set."""
    parts = []
    for name, of_set in rows.groupby("set"):
        first = of_set.iloc[0]
        sizes = f"{first['rows']} samples, {first['threads']} threads of {first['processor']}"
        busy = f", beside {first['beside']} busy processes" if first["beside"] else ""
        limit = seconds_to(ours_of(of_set), TARGETS[0])
        parts += [f"{name}: {sizes}{busy}; KL in nats, medians over seeds; T = {limit:.0f} s", ""]
        parts += [_printed(overview(of_set)), "", "Every budget of the protocol `ours`:", ""]
        parts += [_printed(by_budget(of_set)), ""]
    return "\n".join(parts)


def overview(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per contender and protocol: its longest run, and the seconds to the targets.

    Seconds are those of training; `+ start` are those of importing, building and compiling. `RMS at T` is the error of
    the last checkpoint within T, the seconds in which phasevae reaches the first target.
    """
    limit = seconds_to(ours_of(rows), TARGETS[0])
    table = []
    for keys, of_entry in rows.groupby(KEYS, sort=False):
        longest = of_entry.loc[of_entry.groupby("seed")["seconds"].idxmax()]
        row = {**dict(zip(KEYS, keys, strict=True)), "seeds": longest["seed"].nunique()}
        row |= {"samples": longest["samples"].median(), "seconds": longest["seconds"].median()}
        row |= {"+ start": longest["startup_seconds"].median()}
        row |= {"samples/s": longest["model_samples_per_second"].median()}
        row |= {name: longest[name].median() for name in ("kl_rms", "kl_largest", "of_allowed")}
        row["critical %"] = 100 * longest["critical_error"].median()
        row |= {f"s to {target}": seconds_to(of_entry, target) for target in TARGETS}
        row["RMS at T"] = rms_at(of_entry, limit)
        table.append(row | {"detail": longest["detail"].iloc[0]})
    return pd.DataFrame(table)


def ours_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of phasevae as it trains by default."""
    return rows[(rows["contender"] == "phasevae") & (rows["protocol"] == "ours")]


def by_budget(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per budget of the runs with schedules; `worst` is over seeds."""
    scheduled = rows[rows["protocol"] == "ours"].assign(abs_critical=100 * rows["critical_error"].abs())
    columns = {
        "seeds": ("seed", "nunique"),
        "seconds": ("seconds", "median"),
        "kl_rms": ("kl_rms", "median"),
        "worst": ("kl_rms", "max"),
        "kl_largest": ("kl_largest", "median"),
        "of_allowed": ("of_allowed", "median"),
        "|critical| %": ("abs_critical", "median"),
    }
    return scheduled.groupby([*KEYS, "samples"], sort=False).agg(**columns).reset_index()


def seconds_to(rows: pd.DataFrame, target: float) -> float:
    """Return the least seconds of training until the error is at most `target`, without interpolation.

    It is the median over seeds; a seed that never reaches the target counts as infinite.

    Parameters
    ----------
    rows : measured rows of one contender and protocol
    target : RMS error of KL, in nats
    """
    seconds = [of_seed[of_seed["kl_rms"] <= target]["seconds"].min() for _, of_seed in rows.groupby("seed")]
    return float(np.median(np.nan_to_num(seconds, nan=math.inf))) if seconds else math.inf


def rms_at(rows: pd.DataFrame, seconds: float) -> float:
    """RMS error of the last checkpoint, or of the longest run, within `seconds`; NaN if there is none."""
    within = rows[rows["seconds"] <= seconds]
    if within.empty or not math.isfinite(seconds):
        return math.nan
    return float(within.loc[within.groupby("seed")["seconds"].idxmax()]["kl_rms"].median())


def draw(rows: pd.DataFrame) -> Figure:
    """Draw the RMS error of the KL curve against seconds of training, one line per contender, protocol and seed."""
    import matplotlib
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    with matplotlib.rc_context(STYLE):
        figure = figure_of(3.0)
        axes = figure.add_subplot(xscale="log", yscale="log")
        for (contender, protocol), of_entry in rows.groupby(KEYS, sort=False):
            label = LABELS.get((contender, protocol), f"{contender}, {protocol} protocol")
            for _, of_seed in of_entry.groupby("seed"):
                look = {"color": COLORS[contender], "marker": MARKERS[contender], "linestyle": STYLES[protocol]}
                if protocol == "usual":
                    look["markerfacecolor"] = "white"
                ordered = of_seed.sort_values("seconds")
                axes.plot(ordered["seconds"], ordered["kl_rms"], label=label, markeredgewidth=0.7, **look)
                label = None
        for target in TARGETS:
            axes.axhline(target, color=GREY, linestyle=":", linewidth=0.8, zorder=0)
            axes.annotate(
                f"{target:g}",
                (1, target),
                (-2, 1.5),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                color=BLACK,
                fontsize=6,
            )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("seconds of training, all models")
        axes.set_ylabel("RMS error of KL (nats)")
        figure.legend(loc="outside upper center", ncols=2)
        figure.draw_without_rendering()
    return figure


def write(folder: Path, runs: Path) -> str:
    """Write the merged table, its text and one figure per data set; return the text.

    Parameters
    ----------
    folder : folder to write into
    runs : folder of the tables of all runs
    """
    rows = read_rows(runs)
    write_table(folder / "time_to_accuracy.csv", rows)
    for name, of_set in rows.groupby("set"):
        write_figure(folder / f"time_to_accuracy-{name}", draw(of_set))
    tables = text(rows)
    with replacing(folder / "time_to_accuracy.txt") as temporary:
        temporary.write_text(tables)
    return tables


def _printed(table: pd.DataFrame) -> str:
    defined = table.replace(math.inf, math.nan)
    return defined.to_string(
        index=False, na_rep="-", float_format=lambda value: f"{value:,.0f}" if abs(value) > 999 else f"{value:.4g}"
    )
