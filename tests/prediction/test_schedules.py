from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasevae.errors import InputError
from phasevae.prediction.schedules import KlSchedule, parse_schedule

WEIGHTS = st.floats(0.001, 100)
SCHEDULES = st.builds(
    KlSchedule,
    st.sampled_from(["linear", "cosine", "cyclic"]),
    st.just(0.0) | WEIGHTS,
    WEIGHTS,
    st.floats(0.1, 1e4),
    st.floats(0.01, 1),
)


@pytest.mark.parametrize(
    ("text", "times", "weights"),
    [
        ("linear:0,1,400", [0, 100, 200, 400, 1000], [0, 0.25, 0.5, 1, 1]),
        ("linear:2,1,10", [0, 5, 20], [2, 1.5, 1]),
        ("cosine:0,4,30", [0, 10, 15, 20, 30, 31], [0, 1, 2, 3, 4, 4]),
        ("cyclic:0,1,100", [0, 25, 50, 99, 100, 125, 375], [0, 0.5, 1, 1, 0, 0.5, 1]),
        ("cyclic:0.5,1,100,1", [0, 50, 99, 100], [0.5, 0.75, 0.995, 0.5]),
        ("cyclic:0,2,8,0.25", [1, 2, 7.5, 9], [1, 2, 2, 1]),
    ],
)
def test_the_weight_at_a_time(text, times, weights):
    schedule = parse_schedule(text)
    assert [schedule.weight_at(time) for time in times] == pytest.approx(weights)
    assert schedule.weight_at(-3) == schedule.start
    assert parse_schedule(schedule) is schedule


@given(SCHEDULES, st.floats(0, 1e5))
def test_a_weight_lies_between_start_and_end(schedule, time):
    low, high = sorted([schedule.start, schedule.end])
    assert low * (1 - 1e-12) <= schedule.weight_at(time) <= high * (1 + 1e-12)


@given(SCHEDULES, st.floats(0, 0.99) | st.floats(1.001, 5))
def test_the_end_is_reached_when_the_ramp_is_over(schedule, ramps):
    ramp = schedule.length * (schedule.rise if schedule.shape == "cyclic" else 1)
    assert schedule.reached_by(ramps * ramp) == (ramps > 1)
    if ramps < 1 and schedule.start != pytest.approx(schedule.end, rel=1e-6):
        assert schedule.end not in [schedule.weight_at(share * ramp) for share in np.linspace(0, ramps, 50)]
    if ramps > 1 and (schedule.shape != "cyclic" or 1.001 * schedule.rise < 1):
        assert schedule.weight_at(1.0005 * ramp) == schedule.end


@given(SCHEDULES, st.integers(1, 30))
def test_a_training_that_ends_with_a_cycle_or_after_the_ramp_ends_at_the_end(schedule, periods):
    assert schedule.final_weight(periods * schedule.length) == schedule.end
    assert schedule.final_weight() == schedule.end


@pytest.mark.parametrize(
    ("text", "length", "weight"),
    [("linear:0,1,400", 100, 0.25), ("cyclic:0,1,100", 325, 0.5), ("cosine:0,4,30", 10, 1)],
)
def test_the_weight_at_the_end_of_a_training(text, length, weight):
    assert parse_schedule(text).final_weight(length) == pytest.approx(weight)


OTHERS = "cosine:START,END,LENGTH or cyclic:START,END,PERIOD[,RISE]"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        *((text, "linear:START,END,LENGTH") for text in ("linear:0,1", "linear:0,1,2,3", "linear:a,1,2", "linear")),
        ("cyclic:0,1,2,3,4", "cyclic:START,END,PERIOD[,RISE]"),
        *((text, f"linear:START,END,LENGTH or {OTHERS}") for text in ("", "ramp", None, 5)),
    ],
)
def test_a_malformed_schedule_is_one_line_with_its_form_and_an_example(text, form):
    with pytest.raises(InputError) as error:
        parse_schedule(text)
    example = "for example, linear:0,1,400 raises the weight from 0 to 1 in 400 epochs"
    assert str(error.value) == f"kl_schedule: {text!r}, must be {form}; {example}"


def test_an_unknown_shape_is_named():
    with pytest.raises(InputError) as error:
        parse_schedule("linaer:0,1,2")
    assert str(error.value).startswith("kl_schedule: 'linaer', did you mean 'linear'?")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("linear:-1,1,400", "START -1.0, must be zero or a positive number"),
        ("linear:0,0,400", "END 0.0, must be a positive number"),
        ("cosine:0,inf,400", "END inf, must be a positive number"),
        ("cosine:0,1,0", "LENGTH 0.0, must be a positive number"),
        ("cyclic:0,1,-2", "PERIOD -2.0, must be a positive number"),
        ("cyclic:0,1,2,0", "RISE 0.0, must be above 0 and at most 1"),
        ("linear:nan,1,2", "START nan, must be zero or a positive number"),
    ],
)
def test_a_number_out_of_its_range_is_one_line(text, line):
    with pytest.raises(InputError) as error:
        parse_schedule(text)
    assert str(error.value) == f"kl_schedule: {line}"


@pytest.mark.parametrize("length", [0, -1, math.inf, math.nan])
def test_a_training_has_a_positive_length(length):
    with pytest.raises(InputError, match="must be a positive number"):
        parse_schedule("linear:0,1,400").final_weight(length)


def test_schedules_load_no_torch():
    code = "import sys, phasevae.prediction.schedules; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
