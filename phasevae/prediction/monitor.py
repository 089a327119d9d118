"""Compare a VAE in training with its prediction, and warn while KL is on its way to zero although it need not be.

The monitor works in your own training loop (`update`, or `watch`, and `end_epoch`), and is a callback of pythae and
Lightning (`trainer_hooks`).
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from phasevae.errors import InputError, no_such_choice
from phasevae.prediction.conditions import warn_of_conditions
from phasevae.prediction.encoder_outputs import PosteriorReader
from phasevae.prediction.epoch_sums import EpochSums, bound_of, mean_kl, sums_that_count
from phasevae.prediction.options import at_least_zero, checked_kl_weight
from phasevae.prediction.output_roles import Roles
from phasevae.prediction.predict import Prediction, predict
from phasevae.prediction.reports import Report, reason_to_warn, report_on
from phasevae.prediction.schedules import KlSchedule, parse_schedule
from phasevae.prediction.trainer_hooks import TrainerHooks, lightning_callback, weight_of
from phasevae.prediction.watched_encoder import (
    check_names,
    find_encoder,
    hidden_layer,
    on_both_forwards,
    on_training_forward,
)

if TYPE_CHECKING:
    from torch import Tensor, device, nn

WEIGHTS = ("kl_weight", "beta")
OPTIONS = tuple(key for key in inspect.signature(predict).parameters if key not in ("data", "n_latent"))
"""Options of `predict` that a monitor takes together with data."""


class CollapseMonitor(TrainerHooks):
    """Compare a VAE in training with its prediction.

    In your own training loop::

        monitor = CollapseMonitor(x_train, n_latent=8, loss="mean-se", kl_weight=0.01)
        for epoch in range(epochs):
            for x in loader:
                mu, logvar = encode(x)
                monitor.update(mu, logvar)
                ...
            print(monitor.end_epoch())

    With pythae and Lightning pass ``callbacks=[monitor]``. Both watch the submodule `encoder` of the model. `reports`
    holds one `Report` per epoch. A status that calls for action is also a Python warning, given once for each status. A
    schedule that leads to collapse is one at its first report.

    Every forward pass in training mode counts: KL is averaged over all rows of all passes since the last report. Each
    process of a distributed training reports on its own batches.

    Parameters
    ----------
    prediction : Prediction, or data
        Data come with `n_latent` and the options of `predict`.
    n_latent : int, optional
        Number of latents, with data only. Latents in space count one by one: C * H * W.
    encoder : str or (str, str)
        Name of the submodule whose output is watched. Dots are allowed; wrappers and compiled models are looked
        through. An empty name is the model itself. Two names are those of the layers that give the mean and the width.
    select : function, optional
        Returns (mu, logvar), each [batch, n_latent], from that output. `encoder_outputs.PosteriorReader` describes what
        is understood without it.
    spread : str, optional
        What an encoder gives for the width in tensors without names: ``logvar``, ``std``, ``var`` or ``log_std``. It is
        needed where the values leave that open.
    kl_schedule : str or KlSchedule, optional
        The weight of KL over the reports: ``linear:START,END,LENGTH``, ``cosine:START,END,LENGTH`` or
        ``cyclic:START,END,PERIOD``, with a fourth number for the share of a period that rises. Times count reports
        (epochs) from 0, so the first report is made at START. It replaces the weight of KL of the loss or of the
        prediction; END alone decides what the training leads to.
    kl_weight_from : str or function, optional
        For pythae and Lightning: where the model keeps its present weight of KL, the name of an attribute (dots are
        allowed), or a function of the model that returns it.
    **loss
        Options of `predict` for the loss and for reading the data, with data only. A weight of KL of 0 is that of the
        first reports.

    Attributes
    ----------
    reports : list of Report
    prediction : Prediction
        At the present weight of KL. Before the first report of a schedule it is at END, and while the weight is 0 it
        stays at the weight before.
    kl_schedule : KlSchedule or None
        `kl_schedule.weight_at(epoch)`, with epochs from 0, is the weight for your training loop.

    Raises
    ------
    InputError
        For a prediction together with options of the loss, for data without `n_latent`, and for a malformed schedule
        or one beside `kl_weight`, `beta` or `kl_weight_from`.
    """

    def __init__(
        self,
        prediction: Any,
        n_latent: int | None = None,
        *,
        encoder: str | tuple[str, str] = "encoder",
        select: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
        spread: str | None = None,
        kl_schedule: str | KlSchedule | None = None,
        kl_weight_from: str | Callable[[Any], Any] | None = None,
        **loss: Any,
    ):
        self.kl_schedule = None if kl_schedule is None else parse_schedule(kl_schedule)
        for key, value in (*loss.items(), ("kl_weight_from", kl_weight_from)):
            if self.kl_schedule is not None and key in (*WEIGHTS, "kl_weight_from") and value is not None:
                raise InputError(f"{key}: {value}, cannot be given together with kl_schedule, which sets the weight")
        _check_functions(select, kl_weight_from)
        starts_free: list[str] = []
        if not isinstance(prediction, Prediction):
            if n_latent is None:
                raise InputError("n_latent: missing, must be the number of latents when data are given")
            if other := next((key for key in loss if key not in OPTIONS), None):
                raise no_such_choice("CollapseMonitor", other, OPTIONS)
            weights = {key: at_least_zero(key, loss[key]) for key in WEIGHTS if loss.get(key) is not None}
            starts_free = [key for key, weight in weights.items() if weight == 0]
            prediction = predict(prediction, n_latent, **{**loss, **dict.fromkeys(starts_free, 1.0)})
        elif n_latent is not None or loss:
            raise InputError("CollapseMonitor: takes only a prediction, or data with n_latent and a loss")
        self._final = None if self.kl_schedule is None else prediction.at(self.kl_schedule.end)
        self.prediction = self._final or prediction
        self.reports: list[Report] = []
        self._encoder, self._select, self._kl_weight_from = check_names(encoder), select, kl_weight_from
        setting = self.prediction.setting
        self._reader = PosteriorReader(setting.n_latent, spread, setting.limits.noise_scale)
        self._kl_weight = 0.0 if starts_free else setting.kl_weight
        # Replicas of one encoder run in threads, each on its own device. Of a few batches the roles are open.
        self._sums: dict[tuple[Roles | None, device], EpochSums] = {}
        self._warned: set[str] = set()
        self._end_watch: Callable[[], None] | None = None

    # In compiled code the sums over steps would be constants, of which each step has others.
    @torch.compiler.disable
    def update(self, mu: Any, logvar: Tensor | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        mu, logvar : tensors or arrays [batch, n_latent], or [batch, C, H, W]
            Means and log variances of the posterior. Without `logvar`, the first is the output of an encoder, or the
            posterior, as for `select`.
        """
        if logvar is None and self._select is None:
            for roles, pair in self._reader(mu).items():
                self._add(roles, *pair)
        else:
            self._add(None, *(self._select(mu) if logvar is None else (mu, logvar)))

    def _add(self, roles: Roles | None, mu: Any, logvar: Any) -> None:
        """Add a batch to the sums of one way to read it."""
        mu, logvar = (torch.as_tensor(part).detach() for part in (mu, logvar))
        n = self.prediction.setting.n_latent
        if any(part.ndim < 2 or math.prod(part.shape[1:]) != n for part in (mu, logvar)) or len(mu) != len(logvar):
            shapes = f"{tuple(mu.shape)} and {tuple(logvar.shape)}"
            raise InputError(f"mu, logvar: shapes {shapes}, must both be [batch, {n}]")
        self._sums.setdefault((roles, mu.device), EpochSums()).add(mu.flatten(1), logvar.flatten(1))

    def end_epoch(self, kl_weight: float | None = None) -> Report:
        """Report on the batches since the last report.

        Parameters
        ----------
        kl_weight : float, optional
            The present weight of KL, where it changes. It comes before the schedule. At 0 every latent is free, and the
            status is ``ok``.

        Returns
        -------
        Report

        Raises
        ------
        InputError
            Without a batch, for a wrong weight, and if the batches leave open what the encoder's tensors are.
        """
        if not sum(part.rows for part in self._sums.values()):
            raise InputError(
                "CollapseMonitor: no batch since the last report; call update, or name the encoder to watch"
            )
        if kl_weight is None and self.kl_schedule is not None:
            kl_weight = self.kl_schedule.weight_at(len(self.reports))
        if kl_weight is not None:
            self._set_weight(checked_kl_weight(kl_weight))
        active_kl = self.prediction.setting.limits.active_kl
        sums, self._sums = sums_that_count(self._sums, self._reader.left, active_kl), {}
        report = report_on(mean_kl(sums), self.reports, self.prediction, self._kl_weight, self._final, bound_of(sums))
        self.reports.append(report)
        reason = reason_to_warn(report, self._final)
        if reason and reason not in self._warned:
            self._warned.add(reason)
            warnings.warn(str(report), UserWarning, stacklevel=2)
        return report

    def _set_weight(self, kl_weight: float) -> None:
        if kl_weight not in (0, self.prediction.setting.kl_weight):
            self.prediction = self.prediction.at(kl_weight)
        self._kl_weight = kl_weight

    def watch(self, model: nn.Module) -> CollapseMonitor:
        """Read mu and logvar from the encoder's forward passes in training mode, until `unwatch`.

        Call it before or after `torch.compile`: code that is compiled already is compiled again. The pass is recorded
        outside the compiled code, which `fullgraph=True` forbids; call `update` instead.

        As a context, ``with monitor.watch(model):`` stops watching at its end, also after an error.
        """
        self.unwatch()
        if isinstance(self._encoder, str):
            encoder = find_encoder(model, self._encoder)
            n_latent = self.prediction.setting.n_latent
            self._reader.hidden = cache(lambda shape: hidden_layer(model, encoder, n_latent, shape))
            warn_of_conditions(encoder.forward)
            self._end_watch = on_training_forward(encoder, self.update)
        else:
            mean, spread = (find_encoder(model, name) for name in self._encoder)
            self._end_watch = on_both_forwards(mean, spread, self.update)
        return self

    def unwatch(self) -> None:
        """Stop watching."""
        if self._end_watch is not None:
            self._end_watch()
            self._end_watch = self._reader.hidden = None

    def __enter__(self) -> CollapseMonitor:
        return self

    def __exit__(self, *error: Any) -> None:
        self.unwatch()

    def begin(self, model: Any) -> None:
        """Begin a training of a trainer: watch the model, without batches of a training that was interrupted."""
        self._sums = {}
        self.watch(model)

    def end_epoch_of(self, model: Any, epoch: int | None = None) -> Report:
        """Report after an epoch of a trainer.

        Parameters
        ----------
        model : the model, for `kl_weight_from`
        epoch : int, optional
            Its number from 0, for the schedule; by default the number of reports.

        Returns
        -------
        Report
        """
        if self._kl_weight_from is not None:
            return self.end_epoch(weight_of(model, self._kl_weight_from))
        if self.kl_schedule is not None and epoch is not None:
            return self.end_epoch(self.kl_schedule.weight_at(epoch))
        return self.end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Return what a training that is resumed needs: the reports and the weight of KL, as plain numbers."""
        reports = [report.to_state() for report in self.reports]
        return {"reports": reports, "kl_weight": self._kl_weight, "warned": sorted(self._warned)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the reports of a `state_dict`.

        Raises InputError for the state of a monitor of another number of latents.
        """
        reports, n = [Report.from_state(report) for report in state["reports"]], self.prediction.setting.n_latent
        if other := next((report.kl_per_dim.size for report in reports if report.kl_per_dim.size != n), None):
            raise InputError(f"state: reports on {other} latents, must be on {n}")
        self.reports, self._warned, self._sums = reports, set(state["warned"]), {}
        self._set_weight(float(state["kl_weight"]))

    def lightning(self) -> Any:
        """Return a callback that is a `lightning.pytorch.Callback`, for code that asks for this class.

        Raises InputError without Lightning.
        """
        return lightning_callback(self)


def _check_functions(select: Any, kl_weight_from: Any) -> None:
    """Check the arguments that are functions. Raises InputError for a wrong type."""
    if not (select is None or callable(select)):
        raise InputError(f"select: {select!r}, must be a function of the encoder's output")
    if not (kl_weight_from is None or isinstance(kl_weight_from, str) or callable(kl_weight_from)):
        raise InputError(f"kl_weight_from: {kl_weight_from!r}, must be a name or a function of the model")
