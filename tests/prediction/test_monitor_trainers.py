"""The monitor as a callback of trainers: pythae and Lightning, and a stand-in that calls what Lightning calls."""

from __future__ import annotations

import copy
import importlib

import numpy as np
import pytest
import torch
from monitor_reports import posterior, quiet_report
from torch import nn

from phasevae import CollapseMonitor, InputError, predict

X = np.random.default_rng(0).normal(size=(300, 3)) * np.sqrt([4.0, 2.0, 0.5])
ROWS = torch.from_numpy(X).float()
PREDICTION = predict(X, 2, loss="half-sse", kl_weight=1.0)


class Module(nn.Module):
    """A model whose weight of KL rises in each epoch."""

    def __init__(self):
        super().__init__()
        self.encoder, self.beta, self.logged = nn.Linear(3, 4), 0.0, []
        self.settings = nn.Module()
        self.settings.register_buffer("beta", torch.tensor(0.5))

    def log_dict(self, values):
        self.logged.append(values)


class InterruptionError(Exception):
    pass


class StandIn:
    """As Lightning's Trainer: looks up each event on each callback, keeps their states by key."""

    def __init__(self, callbacks, epochs, stop_in=None):
        self.callbacks, self.epochs, self.stop_in, self.current_epoch = callbacks, epochs, stop_in, 0

    def call(self, event, *more):
        for callback in self.callbacks:
            getattr(callback, event)(self, self.model, *more)

    def checkpoint(self):
        states = {callback.state_key: callback.state_dict() for callback in self.callbacks}
        return {"epoch": self.current_epoch, "callbacks": copy.deepcopy(states)}

    def fit(self, model, checkpoint=None):
        self.model = model
        self.call("setup", "fit")
        if checkpoint is not None:
            self.current_epoch = checkpoint["epoch"]
            self.call("on_load_checkpoint", checkpoint)
            for callback in self.callbacks:
                callback.load_state_dict(checkpoint["callbacks"][callback.state_key])
        try:
            self.run(model)
        except InterruptionError as error:
            self.call("on_exception", error)
            raise
        self.call("teardown", "fit")

    def run(self, model):
        for event in ("on_fit_start", "on_sanity_check_start", "on_sanity_check_end", "on_train_start"):
            self.call(event)
        while self.current_epoch < self.epochs:
            model.beta = 0.25 * self.current_epoch
            self.call("on_train_epoch_start")
            for number, rows in enumerate(ROWS.split(100)):
                self.call("on_train_batch_start", rows, number)
                model.encoder(rows)
                if (self.current_epoch, number) == self.stop_in:
                    raise InterruptionError
                self.call("on_train_batch_end", None, rows, number)
            model.eval()
            self.call("on_validation_epoch_start")
            model.encoder(10 * ROWS)
            model.train()
            self.call("on_train_epoch_end")
            self.current_epoch += 1
        self.call("on_train_end")
        self.call("on_fit_end")


def expected_kl(model):
    mu, logvar = model.encoder(ROWS).double().chunk(2, 1)
    return (0.5 * (mu.square() + logvar.exp() - logvar - 1)).mean(0).detach().numpy()


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestStandIn:
    def test_reports_and_logs_each_epoch(self):
        monitor, model = CollapseMonitor(PREDICTION), Module()
        StandIn([monitor], 3).fit(model)
        assert [report.epoch for report in monitor.reports] == [1, 2, 3]
        for report, logged in zip(monitor.reports, model.logged, strict=True):
            np.testing.assert_allclose(report.kl_per_dim, expected_kl(model), rtol=1e-5)
            assert logged["collapse/kl"] == report.kl and logged["collapse/distance"] == report.distance
        assert not model.encoder._forward_hooks

    @pytest.mark.parametrize(
        ("source", "weights"),
        [
            ("beta", [0, 0.25, 0.5]),
            (lambda model: 2 * model.beta, [0, 0.5, 1.0]),
            ("settings.beta", [0.5, 0.5, 0.5]),
            (None, [1.0, 1.0, 1.0]),
        ],
    )
    def test_the_weight_of_the_model(self, source, weights):
        monitor = CollapseMonitor(PREDICTION, kl_weight_from=source)
        StandIn([monitor], 3).fit(Module())
        assert [report.kl_weight for report in monitor.reports] == weights
        assert monitor.reports[-1].predicted_kl == PREDICTION.at(weights[-1]).kl

    @pytest.mark.parametrize("source", ["weight", "encoder", "settings.gamma"])
    def test_a_weight_that_is_not_there_is_one_line(self, source):
        with pytest.raises(InputError, match=f"kl_weight_from: '{source}', must be the name of a number of Module"):
            StandIn([CollapseMonitor(PREDICTION, kl_weight_from=source)], 1).fit(Module())

    def test_an_interruption_removes_the_hook_and_a_resumed_training_goes_on(self):
        model, options = Module(), {"kl_schedule": "linear:0,1,4"}
        whole, first = (CollapseMonitor(PREDICTION, **options) for _ in range(2))
        StandIn([whole], 5).fit(model)
        StandIn([first], 2).fit(model)
        checkpoint = StandIn([first], 2)
        checkpoint.current_epoch = 2
        saved = checkpoint.checkpoint()
        with pytest.raises(InterruptionError):
            StandIn([first], 5, stop_in=(2, 1)).fit(model, saved)
        assert not model.encoder._forward_hooks
        second = CollapseMonitor(PREDICTION, **options)
        for resumed in (first, second):
            StandIn([resumed], 5).fit(model, saved)
            assert [str(report) for report in resumed.reports] == [str(report) for report in whole.reports]
            np.testing.assert_allclose(resumed.reports[2].kl_per_dim, expected_kl(model), rtol=1e-5)

    def test_a_schedule_follows_the_epochs_of_the_trainer(self):
        """Also where the monitor joins a training that is resumed from a checkpoint without it."""
        monitor = CollapseMonitor(PREDICTION, kl_schedule="linear:0,1,4")
        trainer = StandIn([monitor], 4)
        trainer.current_epoch = 2
        trainer.fit(Module())
        assert [report.kl_weight for report in monitor.reports] == [0.5, 0.75]


def test_the_state_holds_plain_numbers(tmp_path):
    """Lightning reads checkpoints with weights_only."""
    monitor = CollapseMonitor(PREDICTION)
    monitor.update(*posterior(1e-4, 1e-4))
    quiet_report(monitor, kl_weight=0.5)
    torch.save(monitor.state_dict(), tmp_path / "state.pt")
    again = CollapseMonitor(PREDICTION)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert str(again.reports) == str(monitor.reports)
    for each in (monitor, again):
        each.update(*posterior(0.1, 0.1))
        each.end_epoch()  # no second warning
    assert str(again.reports) == str(monitor.reports) and again.reports[-1].kl_weight == 0.5
    with pytest.raises(InputError, match="state: reports on 2 latents, must be on 3"):
        CollapseMonitor(predict(X, 3, beta=1.0)).load_state_dict(monitor.state_dict())


def test_a_context_ends_the_watch_after_an_error():
    model, monitor = Module(), CollapseMonitor(PREDICTION)
    with pytest.raises(InterruptionError), monitor.watch(model):
        raise InterruptionError
    assert not model.encoder._forward_hooks
    with pytest.raises(InterruptionError), monitor:
        monitor.on_train_begin(None, model=model)
        raise InterruptionError
    assert not model.encoder._forward_hooks


def test_an_old_event_of_lightning_is_no_epoch():
    """Before 2.0, on_epoch_end came after epochs of validation too."""
    CollapseMonitor(PREDICTION).on_epoch_end(None, Module())


def test_only_events_are_answered():
    monitor = CollapseMonitor(PREDICTION)
    assert monitor.on_anything(1, more=2) is None
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        _ = monitor.fit


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kl_weight_from", [None, "beta"])
def test_pythae(tmp_path, kl_weight_from):
    pytest.importorskip("pythae")
    from pythae.data.datasets import BaseDataset
    from pythae.models import BetaVAE, BetaVAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    data = BaseDataset(ROWS, torch.zeros(300))
    monitor = CollapseMonitor(data, n_latent=2, library="pythae", kl_weight_from=kl_weight_from)
    config = BaseTrainerConfig(output_dir=str(tmp_path), num_epochs=2, per_device_train_batch_size=150, no_cuda=True)
    model = BetaVAE(BetaVAEConfig(input_dim=(3,), latent_dim=2, beta=0.5))
    BaseTrainer(model, data, training_config=config, callbacks=[monitor]).train()
    assert [report.epoch for report in monitor.reports] == [1, 2]
    assert all(np.isfinite(report.kl) for report in monitor.reports)
    assert monitor.reports[-1].kl_weight == (1.0 if kl_weight_from is None else 0.5)
    assert not model.encoder._forward_hooks


def lightning_package():
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def test_a_callback_of_its_class_needs_lightning():
    lightning = lightning_package()
    if lightning is None:
        with pytest.raises(InputError, match="is not installed"):
            CollapseMonitor(PREDICTION).lightning()
    else:
        assert isinstance(CollapseMonitor(PREDICTION).lightning(), lightning.Callback)


QUIET = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("as_callback", [False, True], ids=["itself", "lightning()"])
def test_lightning(tmp_path, as_callback):
    lightning = lightning_package() or pytest.skip("lightning is not installed")

    class Lit(lightning.LightningModule):
        def __init__(self, fails=False):
            super().__init__()
            self.encoder, self.fails, self.beta = nn.Linear(3, 4), fails, 0.5

        def training_step(self, batch, number):
            mu, logvar = self.encoder(batch).chunk(2, -1)
            if self.fails and self.current_epoch == 3:
                raise InterruptionError
            return mu.square().sum() + logvar.square().sum()

        def validation_step(self, batch, number):
            self.encoder(10 * batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-4)

    loader = torch.utils.data.DataLoader(ROWS, batch_size=100)

    def fit(monitor, module, epochs, **more):
        callback = monitor.lightning() if as_callback else monitor
        trainer = lightning.Trainer(max_epochs=epochs, callbacks=[callback], default_root_dir=tmp_path, **QUIET)
        trainer.fit(module, loader, loader, **more)
        return trainer

    monitor = CollapseMonitor(PREDICTION, kl_weight_from="beta")
    module = Lit()
    trainer = fit(monitor, module, 2)
    assert [report.kl_weight for report in monitor.reports] == [0.5, 0.5]
    assert float(trainer.callback_metrics["collapse/kl"]) == pytest.approx(monitor.reports[-1].kl, rel=1e-5)
    assert not module.encoder._forward_hooks
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    again, module = CollapseMonitor(PREDICTION, kl_weight_from="beta"), Lit(fails=True)
    with pytest.raises(InterruptionError):
        fit(again, module, 5, ckpt_path=str(tmp_path / "kept.ckpt"))
    assert [str(report) for report in again.reports[:2]] == [str(report) for report in monitor.reports]
    assert [report.epoch for report in again.reports] == [1, 2, 3]
    assert not module.encoder._forward_hooks
