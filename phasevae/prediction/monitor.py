"""Compare a VAE in training with its prediction, and warn while KL is on its way to zero although it need not be.

The monitor works in your own training loop (`update`, `end_epoch`), with pythae, whose callback it is, and with
Lightning (`lightning`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from phasevae.errors import InputError
from phasevae.prediction.encoder_outputs import mu_and_logvar
from phasevae.prediction.predict import Prediction, predict
from phasevae.prediction.reports import BEHIND, OK, Report, report_on
from phasevae.prediction.schedules import KlSchedule, parse_schedule
from phasevae.prediction.watched_encoder import find_encoder, on_training_forward
from phasevae.theory.ppca import gaussian_kl

if TYPE_CHECKING:
    from torch import Tensor, device, nn

SCHEDULE = "schedule"
"""The reason of a Python warning that is not a status: a schedule that leads to collapse."""


class CollapseMonitor:
    """Compare a VAE in training with its prediction.

    In your own training loop::

        monitor = CollapseMonitor(x_train, n_latent=8, loss="mean-se", kl_weight=0.01)
        for epoch in range(epochs):
            for x in loader:
                mu, logvar = encode(x)
                monitor.update(mu, logvar)
                ...
            print(monitor.end_epoch())

    With pythae pass ``callbacks=[monitor]``, with Lightning ``Trainer(callbacks=[monitor.lightning()])``. Both watch
    the submodule `encoder` of the model. `reports` holds one `Report` per epoch. A status that calls for action is also
    a Python warning, given once for each status. A schedule that leads to collapse is one at its first report.

    Every forward pass in training mode counts: KL is averaged over all rows of all passes since the last report. Each
    process of a distributed training reports on its own batches.

    Parameters
    ----------
    prediction : Prediction, or data
        Data come with `n_latent` and the options of `predict`.
    n_latent : int, optional
        Number of latents, with data only. Latents in space count one by one: C * H * W.
    encoder : str
        Name of the submodule whose output is watched. Dots are allowed; wrappers and compiled models are looked
        through. An empty name is the model itself.
    select : function, optional
        Returns (mu, logvar), each [batch, n_latent], from that output. `encoder_outputs.mu_and_logvar` describes what
        is understood without it.
    kl_schedule : str or KlSchedule, optional
        The weight of KL over the reports: ``linear:START,END,LENGTH``, ``cosine:START,END,LENGTH`` or
        ``cyclic:START,END,PERIOD``, with a fourth number for the share of a period that rises. Times count reports
        (epochs) from 0, so the first report is made at START. It replaces the weight of KL of the loss or of the
        prediction; END alone decides what the training leads to.
    **loss
        Options of `predict` for the loss and for reading the data, with data only.

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
        or one beside `kl_weight` or `beta`.
    """

    def __init__(
        self,
        prediction: Any,
        n_latent: int | None = None,
        *,
        encoder: str = "encoder",
        select: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
        kl_schedule: str | KlSchedule | None = None,
        **loss: Any,
    ):
        self.kl_schedule = None if kl_schedule is None else parse_schedule(kl_schedule)
        for key in ("kl_weight", "beta"):
            if self.kl_schedule is not None and loss.get(key) is not None:
                raise InputError(f"{key}: {loss[key]}, must be left out together with kl_schedule")
        if not isinstance(prediction, Prediction):
            if n_latent is None:
                raise InputError("n_latent: missing, must be the number of latents when data are given")
            prediction = predict(prediction, n_latent, **loss)
        elif n_latent is not None or loss:
            raise InputError("CollapseMonitor: takes only a prediction, or data with n_latent and a loss")
        self._final = None if self.kl_schedule is None else prediction.at(self.kl_schedule.end)
        self.prediction = self._final or prediction
        self.reports: list[Report] = []
        self._encoder, self._select = encoder, select or mu_and_logvar
        self._kl_weight = self.prediction.setting.kl_weight
        # Replicas of one encoder run in threads, each on its own device.
        self._sums: dict[device, Tensor] = {}
        self._rows: dict[device, int] = {}
        self._warned: set[str] = set()
        self._end_watch: Callable[[], None] | None = None

    def update(self, mu: Any, logvar: Tensor | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        mu, logvar : tensors or arrays [batch, n_latent], or [batch, C, H, W]
            Means and log variances of the posterior. Without `logvar`, the first is the output of an encoder, or the
            posterior, as for `select`.
        """
        import torch

        mu, logvar = self._select(mu) if logvar is None else (mu, logvar)
        mu, logvar = (torch.as_tensor(part).detach() for part in (mu, logvar))
        n = self.prediction.setting.n_latent
        if mu.shape != logvar.shape or mu.ndim < 2 or math.prod(mu.shape[1:]) != n:
            shapes = f"{tuple(mu.shape)} and {tuple(logvar.shape)}"
            raise InputError(f"mu, logvar: shapes {shapes}, must both be [batch, {n}]")
        # The sum stays on the device, so that only a report waits for it and not each step.
        batch = gaussian_kl(mu.double(), logvar.double(), torch.expm1).flatten(1).sum(0)
        place = batch.device
        self._sums[place] = self._sums[place] + batch if place in self._sums else batch
        self._rows[place] = self._rows.get(place, 0) + mu.shape[0]

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
        """
        if not sum(self._rows.values()):
            raise InputError(
                "CollapseMonitor: no batch since the last report; call update, or name the encoder to watch"
            )
        if kl_weight is None and self.kl_schedule is not None:
            kl_weight = self.kl_schedule.weight_at(len(self.reports))
        if kl_weight is not None:
            if kl_weight not in (0, self.prediction.setting.kl_weight):
                self.prediction = self.prediction.at(kl_weight)
            self._kl_weight = float(kl_weight)
        per_dim = sum(part.cpu() for part in self._sums.values()).numpy() / sum(self._rows.values())
        self._sums, self._rows = {}, {}
        report = report_on(per_dim, self.reports, self.prediction, self._kl_weight, self._final)
        self.reports.append(report)
        reason = report.status if report.status not in (OK, BEHIND) else SCHEDULE
        if report.message and reason not in self._warned:
            self._warned.add(reason)
            warnings.warn(str(report), UserWarning, stacklevel=2)
        return report

    def watch(self, model: nn.Module) -> None:
        """Read mu and logvar from the encoder's forward passes in training mode, until `unwatch`.

        Call it before or after `torch.compile`: code that is compiled already is compiled again. The pass is recorded
        outside the compiled code, which `fullgraph=True` forbids; call `update` instead.
        """
        self.unwatch()
        self._end_watch = on_training_forward(find_encoder(model, self._encoder), self.update)

    def unwatch(self) -> None:
        """Stop watching."""
        if self._end_watch is not None:
            self._end_watch()
            self._end_watch = None

    # pythae calls these by name. __getattr__ answers its other events.

    def on_train_begin(self, training_config: Any, **more: Any) -> None:
        self.watch(more["model"])

    def on_epoch_end(self, training_config: Any, **more: Any) -> None:
        self.end_epoch()

    def on_train_end(self, training_config: Any, **more: Any) -> None:
        self.unwatch()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def lightning(self) -> Any:
        """Return a Lightning callback, or raise InputError without Lightning.

        It watches `pl_module.<encoder>`, reports after each training epoch, and logs `collapse/kl`,
        `collapse/active_units` and `collapse/distance`.
        """
        monitor = self

        class Callback(_lightning_callback()):
            def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
                monitor.watch(pl_module)

            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                report = monitor.end_epoch()
                values = {"kl": report.kl, "active_units": float(report.active_units), "distance": report.distance}
                pl_module.log_dict({f"collapse/{name}": value for name, value in values.items()})

            def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
                monitor.unwatch()

        return Callback()


def _nothing(*arguments: Any, **more: Any) -> None:
    """Ignore an event."""


def _lightning_callback() -> type:
    import importlib

    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise InputError("lightning: is not installed, must be for a Lightning callback")
