"""Steps as native calls: the bits of the single operations, with any number of threads, steps at once and models."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from small import gaussian_rows, recipe

from phasevae import InputError
from phasevae.datasets.conditions import make_condition
from phasevae.kernels import dispatch
from phasevae.model import LOGVAR_RANGE
from phasevae.sweeps.config_keys import HierarchySection
from phasevae.sweeps.settings import Member, Settings
from phasevae.training import faster_way, native_steps
from phasevae.training.problem import Problem
from phasevae.training.trainer import Trainer

if not dispatch.implementation("cpu").has_network_kernels("cpu"):
    pytest.skip("needs the native kernels and AVX2", allow_module_level=True)

MEMBERS = [Member(sigma2, beta, seed) for sigma2, beta in ((0.3, 1.0), (0.9, 0.7)) for seed in (0, 1)]
STEPS = 40
BUDGET = 1000  # a record every ten steps, which ends a call
BATCH = 100  # not a multiple of the 64 rows of a block
WHOLE = {"batch": BATCH, "rao_blackwell_group": 25, "samples": float(BATCH * BUDGET)}
VARIANTS = {
    "default": {},
    "all rows in one group": {"batch": 64, "rao_blackwell_group": 64, "samples": 64.0 * BUDGET},
    "rows themselves": {"rao_blackwell_group": 1},
    "one draw": {"antithetic": False},
    "plain noise": {"moment_matched_noise": False},
    "small batch": {"batch": 30, "rao_blackwell_group": 7, "samples": 30.0 * BUDGET},
    "one row": {"batch": 1, "samples": float(BUDGET)},
    "one hidden layer, many latents": {"n_latent": 6, "hidden": (33,)},
    "rows held out": {"holdout": 0.2},
    "bernoulli": {"likelihood": "bernoulli"},
    "bernoulli, rows themselves": {"likelihood": "bernoulli", "rao_blackwell_group": 1},
}


@pytest.fixture(autouse=True)
def threads():
    """As many threads as the test wants; the number before is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problem(settings: Settings) -> Problem:
    x = gaussian_rows()
    return Problem.of(x.sigmoid().numpy() if settings.likelihood == "bernoulli" else x, settings)


def trainer(changes: dict[str, object], members: list[Member] = MEMBERS, native: bool = True) -> Trainer:
    """A training by native calls of many steps, or by single operations."""
    settings = recipe(**{**WHOLE, **changes})
    made = Trainer(problem(settings), members, settings)
    assert made._native_steps is not None
    if native:
        made._native_steps.at_once = 1000
    else:
        made._native_steps = None
    return made


def assert_equal(one: Trainer, other: Trainer) -> None:
    state, expected = one.state(), other.state()
    assert [name for name in state if not np.array_equal(state[name], expected[name], equal_nan=True)] == []
    assert torch.equal(one.gradients, other.gradients)


@pytest.mark.parametrize("members", [MEMBERS, MEMBERS[::2]], ids=["two streams", "one stream"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_native_steps_have_the_bits_of_the_operations(variant, members):
    native, single = (trainer(VARIANTS[variant], members, native) for native in (True, False))
    for each in (native, single):
        each.run(until=STEPS)
    assert_equal(native, single)
    first = trainer(VARIANTS[variant], members)
    assert (native.model.parameters != first.model.parameters).any(1).all()


def test_log_variances_beyond_their_range_have_the_same_bits():
    both = [trainer({}, native=native) for native in (True, False)]
    for each in both:
        *_, last = each.model.encoder.layers
        bias = last.offset + last.fan_in * last.fan_out
        each.model.parameters[:, bias : bias + last.fan_out] = torch.tensor([0.0, 0.1, -12.05, 8.05])
        before = each.model.parameters.clone()
        logvar = each.model.encoder.forward(before, gaussian_rows()[None])[0][..., 2:]
        assert all((logvar < bound).any() and (logvar > bound).any() for bound in LOGVAR_RANGE)
        each.run(until=1)
        of_logvar = each.gradients[:, bias + 2 : bias + 4]
        assert (of_logvar != 0).any() and torch.isfinite(each.gradients).all()
        assert (before != each.model.parameters).any()
    assert_equal(*both)
    for each in both:
        each.model.parameters[:, bias + 2 : bias + 4] = torch.tensor([-40.0, 40.0])
        each.run(until=2)
        assert (each.gradients[:, bias + 2 : bias + 4] == 0).all(), "beyond the range there is no derivative"


def test_all_tensors_are_in_order_wherever_a_training_shows_them():
    """Between two calls native steps keep weights in panels; whoever looks sees them as the operations leave them."""
    seen: dict[bool, list] = {True: [], False: []}
    for native in (True, False):
        each = trainer({"hidden": (32, 96)}, native=native)

        def look(shown, seen=seen[native]):
            seen.append([shown.model.parameters.clone(), shown.gradients.clone()])
            seen.append([torch.from_numpy(array) for array in shown.state().values()])

        each.run(look, until=STEPS // 2)
        if native:
            each._train(1)
            in_panels = each._vae.model.parameters.clone()
            assert not torch.equal(in_panels, each.model.parameters), "nothing to put in order"
            torch.set_num_threads(len(MEMBERS) + 1)  # single operations from here on
        each.run(look, until=STEPS)
    for one, other in zip(seen[True], seen[False], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_weights_that_are_not_in_panels_have_the_same_bits(monkeypatch):
    native, single = (trainer({"hidden": (32, 96)}, native=native) for native in (True, False))
    monkeypatch.setattr(native._native_steps, "_arrange", lambda into_panels: None)
    for each in (native, single):
        each.run(until=STEPS)
    assert_equal(native, single)


def test_a_training_that_is_broken_off_leaves_all_tensors_in_order():
    both = [trainer({"hidden": (32, 96)}, native=native) for native in (True, False)]

    def interrupt(shown):
        raise KeyboardInterrupt

    for each in both:
        with pytest.raises(KeyboardInterrupt):
            each.run(interrupt)
    assert_equal(*both)


@pytest.mark.parametrize("widths", [(32, 96), (96, 256), (33, 80)])
def test_weights_in_panels_and_back(widths):
    kernels = dispatch.implementation("cpu")
    encoder, decoder = [5, *widths, 16], [8, *reversed(widths), 64]
    size = sum((a + 1) * b for chain in (encoder, decoder) for a, b in itertools.pairwise(chain))
    whole = [torch.arange(3.0 * (size + 2)).reshape(3, -1) + i for i in range(2)]
    values, in_panels = [each.clone() for each in whole], torch.tensor(False)
    kernels.arrange_weights(values, encoder, decoder, in_panels, False)
    assert all(torch.equal(a, b) for a, b in zip(values, whole, strict=True)), "they are so already"
    kernels.arrange_weights(values, encoder, decoder, in_panels, True)
    assert in_panels
    for value, before in zip(values, whole, strict=True):
        assert not torch.equal(value, before) and torch.equal(value.sort().values, before)
    for into_panels in (True, False):
        kernels.arrange_weights(values, encoder, decoder, in_panels, into_panels)
    assert not in_panels and all(torch.equal(a, b) for a, b in zip(values, whole, strict=True))


@pytest.mark.parametrize(("n_threads", "at_once"), [(1, 1), (2, 3), (3, 1000)])
def test_neither_threads_nor_steps_at_once_change_a_bit(n_threads, at_once, monkeypatch):
    monkeypatch.setattr(native_steps, "SECONDS", 0.0)
    single = trainer({}, native=False)
    single.run(until=STEPS)
    torch.set_num_threads(n_threads)
    native = trainer({})
    while native.step < STEPS:
        native._native_steps.at_once = at_once
        native.run(until=min(STEPS, native.step + at_once))
    assert_equal(native, single)


def test_a_model_does_not_depend_on_its_ensemble():
    together, alone = trainer({}), trainer({}, MEMBERS[2:3])
    together.run(until=STEPS), alone.run(until=STEPS)
    assert torch.equal(together.model.parameters[2:3], alone.model.parameters)


@pytest.mark.parametrize("pause", [1, 17])
@pytest.mark.parametrize("native_first", [True, False])
def test_each_continues_a_checkpoint_of_the_other(pause, native_first):
    first, second = trainer({}, native=native_first), trainer({}, native=not native_first)
    assert not first.run(until=pause)
    assert first.step == pause
    second.restore(copy.deepcopy(first.state()))
    second.run(until=STEPS)
    whole = trainer({})
    whole.run(until=STEPS)
    assert_equal(second, whole)


def test_blocks_of_inputs_and_records_end_a_call():
    """700 steps are three blocks of inputs, and a record every 7 steps."""
    long = {"batch": 8, "samples": 700.0 * 8, "hidden": (4,)}
    native, single = (trainer(long, MEMBERS[:1], native) for native in (True, False))
    calls = []
    train = native._native_steps.train
    native._native_steps.train = lambda first, inputs: (calls.append((first, len(inputs.rows))), train(first, inputs))
    native._native_steps.at_once = 1000
    native.run()
    single.run()
    assert_equal(native, single)
    assert len(native.history) == 100
    assert all(first // 7 == (first + count - 1) // 7 for first, count in calls)
    assert sum(count for _, count in calls) == 700
    assert len(calls) < 200


def test_data_of_a_file_give_the_same_bits(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((700, 4), dtype=np.float32) + 3)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = recipe(**WHOLE)
    held, read = (
        Trainer(Problem.of(data, settings, data_memory=memory), MEMBERS, settings)
        for data, memory in ((np.array(x), None), (x, 10_000))
    )
    for each in (held, read):
        each._native_steps.at_once = 1000
        each.run(until=STEPS)
    assert_equal(read, held)


def test_a_training_can_be_stopped_between_calls():
    stopped = trainer({})
    stopped._native_steps.at_once = 7
    answers = iter([False, False, True])
    assert not stopped.run(should_stop=lambda: next(answers))
    assert 0 < stopped.step < STEPS
    stopped.run(until=STEPS)
    whole = trainer({})
    whole.run(until=STEPS)
    assert_equal(stopped, whole)


def test_calls_get_as_long_as_is_wanted_and_no_longer(monkeypatch):
    """With steps of 0.02 seconds: twice as many a call, up to a quarter of a second."""
    clock = [0.0]
    monkeypatch.setattr(native_steps.time, "perf_counter", lambda: clock[0])
    slow = trainer({})
    steps = slow._native_steps
    steps.at_once = 1
    kernels = dispatch.implementation("cpu")

    def train_steps(*arguments, **keywords):
        clock[0] += 0.02 * len(arguments[2])

    monkeypatch.setattr(kernels, "train_steps", train_steps)
    counts = []
    for first in range(6):
        counts.append(steps.at_once)
        steps.train(first, slow._inputs.take(first, steps.at_once))
    assert counts == [1, 2, 4, 8, 12, 12]


def test_a_loss_that_is_not_finite_gives_the_error_of_the_operations():
    messages = []
    for native in (True, False):
        diverging = trainer({"learning_rate": 1e30, "schedule": "scratch"}, native=native)
        with pytest.raises(InputError) as error:
            diverging.run()
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "training diverged at sigma2=0.3" in messages[0]


def test_fewer_models_than_threads_take_turns_of_both_ways(monkeypatch):
    few, whole = (trainer({}, MEMBERS[:1]) for _ in range(2))
    whole.run(until=STEPS)
    torch.set_num_threads(2)
    monkeypatch.setattr(faster_way, "TRIAL", 0.0)
    monkeypatch.setattr(faster_way, "TURN", 1)
    native, single = [], []
    train, train_step = few._native_steps.train, few._train_step
    monkeypatch.setattr(few._native_steps, "train", lambda *given: (native.append(given[0]), train(*given)))
    monkeypatch.setattr(few, "_train_step", lambda: (single.append(few.step), train_step()))
    few._native_steps.at_once = 1
    few.run(until=STEPS)
    assert native[0] == 0 and single[0] > 0 and native[-1] > single[0]
    assert_equal(few, whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"likelihood": "poisson"},
        {"hierarchy": HierarchySection(n_top=1)},
        {"n_latent": 17, "batch": 17 * 16},
    ],
)
def test_other_trainings_take_the_operations(changes):
    settings = recipe(**{**WHOLE, **changes})
    x = np.random.default_rng(0).poisson(3.0, (300, 4)).astype(np.float32)
    members = [Member(1.0, 1.0, 0, beta_top=1.0)] if settings.hierarchy else MEMBERS[:1]
    if settings.likelihood == "poisson":
        members = [Member(1.0, 1.0, 0)]
    assert Trainer(Problem.of(x, settings), members, settings)._native_steps is None


def test_conditions_float64_and_strided_rows_take_the_operations():
    settings, x = recipe(**WHOLE), gaussian_rows()
    condition = make_condition(np.arange(len(x)) % 3, len(x), "")
    given = Problem.of(x.numpy(), settings, condition=condition)
    assert Trainer(given, MEMBERS, settings)._native_steps is None
    assert Trainer(x.double(), MEMBERS, settings)._native_steps is None
    strided = Trainer(x.t().contiguous().t(), MEMBERS, settings)
    assert strided._native_steps is None
    strided.run(until=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 7}, "group must be a divisor of the 100 rows, got 7"),
        ({"sigma2": torch.ones(3)}, r"sigma2 must have shape \[4\], got \[3\]"),
        ({"streams": torch.tensor([0, 0, 1, 2])}, "streams must be within 0 and 1"),
        ({"family": "poisson"}, "no family poisson"),
        ({"encoder": [4, 16, 3]}, "encoder and decoder must be"),
        ({"window": torch.zeros(3, 4)}, "window must be Double on the CPU, got Float"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    steps = trainer({})
    steps._native_steps._constants |= changes
    before = steps.model.parameters.clone()
    with pytest.raises(RuntimeError, match=message):
        steps.run()
    assert torch.equal(steps.model.parameters, before)


def test_rows_that_do_not_exist_are_refused():
    steps = trainer({})
    inputs = steps._inputs.take(0, 2)
    with pytest.raises(RuntimeError, match="rows must be within 0 and 499"):
        steps._native_steps.train(0, inputs._replace(rows=inputs.rows + 1))
