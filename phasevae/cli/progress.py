"""The progress of a training: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from phasevae.wording import counted

if TYPE_CHECKING:
    from phasevae.training.trainer import Trainer

_PLAIN_SECONDS = 10.0


@contextmanager
def training_progress() -> Iterator[Callable[[Trainer], None]]:
    """Yield the function to call with the trainer after each new record of its history."""
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _plain_lines()


def _plain_lines() -> Callable[[Trainer], None]:
    last = -_PLAIN_SECONDS
    rate = _rate()

    def show(trainer: Trainer) -> None:
        nonlocal last
        now, total = time.monotonic(), trainer.settings.n_steps
        speed = rate(trainer)
        if now - last >= _PLAIN_SECONDS or trainer.step == total:
            last = now
            models = counted(len(trainer.members), "model")
            print(f"{models}: step {trainer.step}/{total}, {speed:,.0f} samples/s", file=sys.stderr)

    return show


@contextmanager
def _bar() -> Iterator[Callable[[Trainer], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, {task.fields[speed]:,.0f} samples/s"),
        TimeRemainingColumn(),
    )
    rate = _rate()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[int, int] = {}

        def show(trainer: Trainer) -> None:
            if id(trainer) not in bars:
                bars[id(trainer)] = progress.add_task(
                    counted(len(trainer.members), "model"), total=trainer.settings.n_steps, speed=0.0
                )
            progress.update(bars[id(trainer)], completed=trainer.step, speed=rate(trainer))

        yield show


def _rate() -> Callable[[Trainer], float]:
    """Return a function that gives the samples per second, of all models together, since its last call."""
    before = (time.monotonic(), 0)

    def speed(trainer: Trainer) -> float:
        nonlocal before
        now = time.monotonic()
        (then, step), before = before, (now, trainer.step)
        steps = max(0, trainer.step - step)
        return steps * trainer.settings.batch * len(trainer.members) / max(now - then, 1e-9)

    return speed
