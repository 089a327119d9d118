"""Watch a VAE train: KL of each latent, active units, the distance to the prediction, and a warning before it is over.

For a loop of one's own (`update`, `end_epoch`), for pythae (the monitor is a callback) and for Lightning (`lightning`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError
from phasevae.prediction.predict import Prediction, predict
from phasevae.theory.ppca import ACTIVE_KL, gaussian_kl

if TYPE_CHECKING:
    from torch import Tensor, nn


PATIENCE = 3
"""Reports in a row with a falling KL before it counts as a trend."""

HORIZON = 20
"""A warning comes when the trend leads to collapse within this many reports."""

STATUSES = OK, BEHIND, COLLAPSING, COLLAPSED, EXPECTED, DIVERGED = (
    "ok",
    "behind",
    "collapsing",
    "collapsed",
    "expected-collapse",
    "diverged",
)


@dataclass(frozen=True)
class Report:
    """One epoch. KL in nats per sample; `distance` is the measured KL less the predicted one."""

    epoch: int  # from 1
    kl: float
    kl_per_dim: NDArray  # [n_latent], in the network's order
    active_units: int  # latents with a KL above theory.ACTIVE_KL
    predicted_kl: float
    predicted_active_units: int
    distance: float
    status: str  # one of STATUSES
    message: str

    def __str__(self) -> str:
        n = self.kl_per_dim.size
        head = (
            f"epoch {self.epoch}: KL {self.kl:.4g} nats ({self.predicted_kl:.4g} predicted), "
            f"{self.active_units} of {n} latents active ({self.predicted_active_units} predicted)"
        )
        return f"{head}: {self.message}" if self.message else head


class CollapseMonitor:
    """Compares a VAE in training with its prediction.

    In a loop of one's own::

        monitor = CollapseMonitor(x_train, n_latent=8, loss="mean-se", kl_weight=0.01)
        for epoch in range(epochs):
            for x in loader:
                mu, logvar = encode(x)
                monitor.update(mu, logvar)
                ...
            print(monitor.end_epoch())

    With pythae ``callbacks=[monitor]``, with Lightning ``Trainer(callbacks=[monitor.lightning()])``: both watch the
    submodule `encoder` of the model. `reports` has one `Report` an epoch. A status that calls for action is also a
    Python warning, once for each status.
    """

    def __init__(
        self,
        prediction: Any,
        n_latent: int | None = None,
        *,
        encoder: str = "encoder",
        select: Callable[[Any], tuple[Tensor, Tensor]] | None = None,
        **loss: Any,
    ):
        """prediction: a `Prediction`, or data with `n_latent` and the options of `predict`.

        encoder: name of the submodule whose output is watched, dots allowed. select: what makes (mu, logvar), each
        [batch, n_latent], of that output; by default pythae's embedding and log_covariance, a pair, or one tensor of
        both halves.
        """
        if not isinstance(prediction, Prediction):
            if n_latent is None:
                raise InputError("n_latent: missing, must be the number of latents when data are given")
            prediction = predict(prediction, n_latent, **loss)
        elif n_latent is not None or loss:
            raise InputError("CollapseMonitor: takes a prediction alone, or data with n_latent and a loss")
        self.prediction = prediction
        self.reports: list[Report] = []
        self._encoder, self._select = encoder, select or _mu_and_logvar
        self._sum: Tensor | None = None
        self._rows = 0
        self._told: set[str] = set()
        self._hook: Any = None

    def update(self, mu: Tensor, logvar: Tensor) -> None:
        """Add a batch: posterior means and log variances, each [batch, n_latent] (tensors or arrays)."""
        import torch

        mu, logvar = (torch.as_tensor(part).detach() for part in (mu, logvar))
        n = self.prediction.setting.n_latent
        if mu.shape != logvar.shape or mu.ndim != 2 or mu.shape[1] != n:
            shapes = f"{tuple(mu.shape)} and {tuple(logvar.shape)}"
            raise InputError(f"mu, logvar: shapes {shapes}, must both be [batch, {n}]")
        # Summed on the device: a report, not each step, waits for it.
        batch = gaussian_kl(mu.double(), logvar.double(), torch.expm1).sum(0)
        self._sum = batch if self._sum is None else self._sum + batch
        self._rows += mu.shape[0]

    def end_epoch(self, kl_weight: float | None = None) -> Report:
        """Report on what was added since the last report. `kl_weight`: the weight of KL now, where it changes."""
        if not self._rows:
            raise InputError(
                "CollapseMonitor: no batch since the last report; call update, or name the encoder to watch"
            )
        if kl_weight is not None and kl_weight != self.prediction.setting.kl_weight:
            self.prediction = self.prediction.at(kl_weight)
        per_dim = (self._sum / self._rows).cpu().numpy()
        self._sum, self._rows = None, 0
        report = self._reported(per_dim)
        self.reports.append(report)
        if report.status not in (OK, BEHIND) and report.status not in self._told:
            self._told.add(report.status)
            warnings.warn(str(report), UserWarning, stacklevel=2)
        return report

    def watch(self, model: nn.Module) -> None:
        """Take mu and logvar from the encoder's forward passes in training mode, until `unwatch`."""
        self.unwatch()
        try:
            module = model.get_submodule(self._encoder)
        except AttributeError:
            raise InputError(
                f"encoder: {self._encoder!r}, must be the name of a submodule of {type(model).__name__}"
            ) from None

        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            if module.training:
                self.update(*self._select(output))

        self._hook = module.register_forward_hook(record)

    def unwatch(self) -> None:
        """Stop watching."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _reported(self, per_dim: NDArray) -> Report:
        predicted = self.prediction
        kl, active = float(per_dim.sum()), int((per_dim > ACTIVE_KL).sum())
        status, message = self._judged(kl, active)
        return Report(
            epoch=len(self.reports) + 1,
            kl=kl,
            kl_per_dim=per_dim,
            active_units=active,
            predicted_kl=predicted.kl,
            predicted_active_units=predicted.active_dims,
            distance=kl - predicted.kl,
            status=status,
            message=message,
        )

    def _judged(self, kl: float, active: int) -> tuple[str, str]:
        predicted = self.prediction
        weight, critical = predicted.setting.kl_weight, predicted.critical_kl_weight
        if not math.isfinite(kl):
            return DIVERGED, "KL is not a finite number: the training has diverged"
        if predicted.verdict == "collapsed":
            return (
                EXPECTED,
                f"collapse is the optimum of this loss: lower the KL weight {weight:.4g} below {critical:.4g}",
            )
        if active == 0:
            remedy = "start again with a small KL weight and raise it slowly"
            return COLLAPSED, f"collapsed, though the optimum keeps {predicted.active_dims} latents: {remedy}"
        left = self._reports_left(kl)
        if kl < predicted.kl and left <= HORIZON:
            return (
                COLLAPSING,
                f"KL is falling and gone in about {left:.0f} reports, though {predicted.kl:.4g} nats are optimal",
            )
        if active < predicted.active_dims:
            return BEHIND, ""
        return OK, ""

    def _reports_left(self, kl: float) -> float:
        """How many reports a falling KL lasts at its present rate until it is below theory.ACTIVE_KL."""
        recent = [report.kl for report in self.reports[-PATIENCE:]] + [kl]
        if len(recent) <= PATIENCE or not np.all(np.diff(recent) < 0):
            return math.inf
        rate = math.log(recent[0] / recent[-1]) / PATIENCE
        return math.log(kl / ACTIVE_KL) / rate

    # pythae calls these by name; the events of no use here are answered by __getattr__.

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
        """A Lightning callback that watches `pl_module.<encoder>`, reports after each training epoch, and logs
        `collapse/kl`, `collapse/active_units` and `collapse/distance`. Raises InputError without Lightning."""
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
    """An event that is none of the monitor's business."""


def _mu_and_logvar(output: Any) -> tuple[Tensor, Tensor]:
    if hasattr(output, "embedding") and hasattr(output, "log_covariance"):
        return output.embedding, output.log_covariance
    if isinstance(output, tuple | list) and len(output) >= 2:
        return output[0], output[1]
    if hasattr(output, "chunk"):
        return output.chunk(2, dim=-1)
    raise InputError(f"encoder: gives a {type(output).__name__}; say by `select` what mu and logvar are")


def _lightning_callback() -> type:
    import importlib

    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise InputError("lightning: is not installed, must be for a Lightning callback")
