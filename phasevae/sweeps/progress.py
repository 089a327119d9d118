"""Progress of a run of the workflow: one line for each finished job, with an estimate of the time left.

Snakemake reports its jobs as records of Python's `logging` that carry an `event`. The handler below takes the place of
Snakemake's handler for the screen. Errors, logs of failed jobs and warnings pass to that handler unchanged, and the
complete report stays in .snakemake/log. A logger plugin of Snakemake would do the same, but Snakemake does not see
plugins of packages that are installed as editable, and a profile that names a missing plugin stops every run.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

SHORT_SECONDS = 3.0
"""Time of a job other than a training, before the first of them has finished."""

LONG_SECONDS = 60.0
"""The start of a job that is expected to take this long is reported as well."""

_HIDDEN_EVENTS = ("job_started", "group_info")
_HIDDEN_STARTS = (
    "Select jobs to execute",
    "Touching output file",
    "Removing temporary output",
    "Updating checkpoint dependencies",
    "DAG of jobs will be updated",
)
_UNKNOWN = ""


@dataclass
class _Running:
    rule: str
    message: str
    start: float


@dataclass
class Progress:
    """The jobs of a run: those that are left, those that run, and how long the finished ones took.

    Attributes
    ----------
    left : number of unfinished jobs of each rule
    expected : seconds that a job of each training rule should take; other rules are expected to be short
    clock : the time in seconds
    """

    left: Counter[str]
    expected: Mapping[str, float]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.start = self.clock()
        self.total = sum(self.left.values())
        self.done = 0
        self.running: dict[int, _Running] = {}
        self.busy = 0.0
        # Seconds that finished jobs took, and seconds that they were expected to take: of trainings, of all others.
        self.took = {True: 0.0, False: 0.0}
        self.planned = {True: 0.0, False: 0.0}

    def started(self, job: int, rule: str, message: str) -> None:
        """Note that a job has been started, perhaps again."""
        if not self.left[rule] and self.left[_UNKNOWN]:
            self.left[_UNKNOWN] -= 1
            self.left[rule] += 1
        self.running[job] = _Running(rule, message, self.clock())

    def finished(self, job: int) -> tuple[str, float]:
        """Note that a job has finished; its message and the seconds that it took."""
        ended = self.running.pop(job)
        seconds = self.clock() - ended.start
        training = ended.rule in self.expected
        self.took[training] += seconds
        self.planned[training] += self.expected.get(ended.rule, SHORT_SECONDS)
        self.busy += seconds
        self.left[ended.rule] -= 1
        self.done += 1
        return ended.message, seconds

    def grown(self, total: int) -> None:
        """Note the number of jobs in all, which a checkpoint may raise."""
        self.left[_UNKNOWN] += max(0, total - self.total)
        self.total = total

    def seconds_of(self, rule: str) -> float:
        """Seconds that a job of a rule should take, by the estimates and by the jobs that have finished."""
        training = rule in self.expected
        scale = self.took[training] / self.planned[training] if self.planned[training] else 1.0
        return scale * self.expected.get(rule, SHORT_SECONDS)

    def seconds_left(self) -> float:
        """Estimated time until the last job has finished, with as many jobs side by side as on average so far."""
        now = self.clock()
        ages = [(job.rule, now - job.start) for job in self.running.values()]
        work = sum(count * self.seconds_of(rule) for rule, count in self.left.items())
        work -= sum(min(age, self.seconds_of(rule)) for rule, age in ages)
        busy = self.busy + sum(age for _, age in ages)
        return max(0.0, work) / max(1.0, busy / max(now - self.start, 1e-9))


class ProgressHandler(logging.Handler):
    """Writes a line for each finished job, and passes what else a person should see to Snakemake's own handler.

    Parameters
    ----------
    screen : Snakemake's handler
    progress : the jobs of the run
    """

    def __init__(self, screen: logging.StreamHandler, progress: Progress) -> None:
        super().__init__()
        self.screen, self.progress = screen, progress

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record, pass it on, or leave it out. A record that is not as expected is passed on."""
        try:
            self._emit(record, getattr(record, "event", None))
        except (AttributeError, KeyError):
            self.screen.handle(record)

    def flush(self) -> None:
        """Flush the stream of Snakemake's handler."""
        self.screen.flush()

    def _emit(self, record: logging.LogRecord, event: str | None) -> None:
        if event == "job_info":
            self._started(record)
        elif event == "job_finished":
            self._finished(record)
        elif event == "progress":
            self.progress.grown(record.total)
        elif event not in _HIDDEN_EVENTS and not str(record.msg).startswith(_HIDDEN_STARTS):
            self.screen.handle(record)

    def _started(self, record: logging.LogRecord) -> None:
        message = record.rule_msg or record.rule_name
        self.progress.started(record.jobid, record.rule_name, message)
        seconds = self.progress.seconds_of(record.rule_name)
        if seconds >= LONG_SECONDS:
            log = f", log: {', '.join(record.log)}" if record.log else ""
            self._write(record, f"{self._indent} started: {message}, about {duration(seconds)}{log}")

    def _finished(self, record: logging.LogRecord) -> None:
        message, seconds = self.progress.finished(record.job_id)
        done, total = self.progress.done, self.progress.total
        left = f" - about {duration(self.progress.seconds_left())} left" if done < total else ""
        self._write(record, f"[{done:>{len(str(total))}}/{total}] {message}, {duration(seconds)}{left}")

    @property
    def _indent(self) -> str:
        return " " * (3 + 2 * len(str(self.progress.total)))

    def _write(self, record: logging.LogRecord, line: str) -> None:
        if self.screen.filter(record):  # `--quiet` may leave it out
            self.screen.stream.write(f"{line}\n")
            self.screen.flush()


def show_progress(
    logger: logging.Logger,
    rules: Iterable[str],
    expected: Mapping[str, float],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have a logger report progress in place of what Snakemake writes to the screen; not with --verbose.

    Parameters
    ----------
    logger : Snakemake's logger
    rules : the rule of each job that is going to run
    expected : seconds that a job of each training rule should take
    clock : the time in seconds
    """
    if logger.isEnabledFor(logging.DEBUG):
        return
    for handler in list(logger.handlers):
        if handler.name == "DefaultStreamHandler":
            logger.removeHandler(handler)
            logger.addHandler(ProgressHandler(handler, Progress(Counter(rules), expected, clock)))


def duration(seconds: float) -> str:
    """A time to read: 7 s, 4 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
