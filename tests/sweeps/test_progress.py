from __future__ import annotations

import io
import logging

import pytest

from phasevae.sweeps.progress import duration, show_progress

EXPECTED = {"train_tiny_0": 10.0, "train_tiny_1": 200.0}


class Screen:
    """A logger with a handler for the screen, as Snakemake has them, and what Snakemake reports at a time `now`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.logger = logging.Logger("test", logging.INFO)
        self.handler = logging.StreamHandler(io.StringIO())
        self.handler.name = "DefaultStreamHandler"
        self.logger.addHandler(self.handler)

    def show(self, *rules: str) -> None:
        show_progress(self.logger, rules, EXPECTED, lambda: self.now)

    def say(self, text: str | None, event: str | None = None, **more) -> None:
        self.logger.info(text, extra={"event": event} | more)

    def start(self, job: int, rule: str, message: str | None = None) -> None:
        self.say("", "job_info", jobid=job, rule_name=rule, rule_msg=message, log=[f"{rule}.log"])

    def finish(self, job: int, total: int) -> None:
        self.say("Finished jobid", "job_finished", job_id=job)
        self.say(None, "progress", done=0, total=total)

    @property
    def lines(self) -> list[str]:
        return self.handler.stream.getvalue().splitlines()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_a_line_for_each_finished_job(screen):
    screen.show("train_tiny_0", "fit")
    screen.start(1, "train_tiny_0", "tiny: train bucket 0 (7 points)")
    screen.now = 31.0
    screen.finish(1, total=2)
    screen.start(2, "fit")
    screen.now = 36.0
    screen.finish(2, total=2)
    assert screen.lines == ["[1/2] tiny: train bucket 0 (7 points), 31 s - about 3 s left", "[2/2] fit, 5 s"]


def test_the_time_left_follows_the_estimates_and_the_jobs_so_far(screen):
    """The first training takes three times its estimate, so the second should take 600 s."""
    screen.show("train_tiny_0", "train_tiny_1")
    screen.start(1, "train_tiny_0")
    screen.now = 30.0
    screen.finish(1, total=2)
    assert screen.lines == ["[1/2] train_tiny_0, 30 s - about 10 min left"]
    screen.start(2, "train_tiny_1")
    assert screen.lines[1] == "      started: train_tiny_1, about 10 min, log: train_tiny_1.log"


def test_jobs_that_run_side_by_side_halve_the_time(screen):
    screen.show(*["fit"] * 4)
    screen.start(1, "fit")
    screen.start(2, "fit")
    screen.now = 60.0
    screen.finish(1, total=4)
    screen.finish(2, total=4)
    assert screen.lines[1] == "[2/4] fit, 60 s - about 60 s left"


def test_a_running_job_counts_for_the_time_it_has_run(screen):
    screen.show("fit", "train_tiny_1")
    screen.start(1, "fit")
    screen.start(2, "train_tiny_1")
    screen.now = 100.0
    screen.finish(1, total=2)
    assert screen.lines[1] == "[1/2] fit, 2 min - about 50 s left"  # 100 s of work left, two jobs side by side


def test_a_checkpoint_adds_jobs(screen):
    screen.show("refine")
    screen.start(1, "refine")
    screen.now = 2.0
    screen.finish(1, total=1)
    screen.say(None, "progress", done=1, total=3)
    screen.start(2, "train_tiny_0")
    screen.start(3, "fit")
    screen.now = 12.0
    screen.finish(2, total=3)
    screen.finish(3, total=3)
    assert [line[:5] for line in screen.lines] == ["[1/1]", "[2/3]", "[3/3]"]


def test_a_job_that_is_tried_again_counts_once(screen):
    screen.show("fit")
    screen.start(1, "fit")
    screen.say("Error in rule fit", "job_error")
    screen.say("Trying to restart job 1.")
    screen.now = 50.0
    screen.start(1, "fit")
    screen.now = 54.0
    screen.finish(1, total=1)
    assert screen.lines == ["Error in rule fit", "Trying to restart job 1.", "[1/1] fit, 4 s"]


def test_what_snakemake_says_about_choosing_jobs_is_left_out(screen):
    screen.show("fit")
    screen.say("Select jobs to execute...")
    screen.say("Execute 1 jobs...", "job_started")
    screen.say("Complete log(s): x")
    assert screen.lines == ["Complete log(s): x"]


def test_quiet_leaves_the_lines_out(screen):
    screen.handler.addFilter(lambda record: getattr(record, "event", None) != "job_finished")
    screen.show("fit")
    screen.start(1, "fit")
    screen.finish(1, total=1)
    assert screen.lines == []


def test_a_record_of_another_form_is_shown_as_it_is(screen):
    screen.show("fit")
    screen.say("Finished jobid: 7", "job_finished", job_id=7)
    screen.say("Job 8", "job_info")
    assert screen.lines == ["Finished jobid: 7", "Job 8"]


def test_with_verbose_nothing_is_replaced(screen):
    screen.logger.setLevel(logging.DEBUG)
    screen.show("fit")
    assert screen.logger.handlers == [screen.handler]


def test_other_handlers_stay(screen):
    file = logging.StreamHandler(io.StringIO())
    screen.logger.addHandler(file)
    screen.show("fit")
    screen.say("Select jobs to execute...")
    assert file.stream.getvalue() == "Select jobs to execute...\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (5900, "98 min"), (6000, "1 h 40 min"), (86400, "24 h 0 min")],
)
def test_a_duration_to_read(seconds, text):
    assert duration(seconds) == text
