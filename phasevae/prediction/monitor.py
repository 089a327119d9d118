"""Compare a VAE in training with its prediction, and warn while KL is on its way to zero although it need not be.

The monitor works in your own training loop (`update`, `end_epoch`), with pythae, whose callback it is, and with
Lightning (`lightning`).
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
"""A KL that falls in this many reports in a row is a trend."""

HORIZON = 20
"""The monitor warns when the trend leads to collapse within this many reports."""

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
    """The state of one epoch. KL is in nats per sample."""

    epoch: int  # from 1
    kl: float
    kl_per_dim: NDArray  # [n_latent], in the network's order
    active_units: int  # latents with a KL above theory.ppca.ACTIVE_KL
    predicted_kl: float
    predicted_active_units: int
    distance: float  # measured less predicted KL
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
    a Python warning, given once for each status.

    Parameters
    ----------
    prediction : Prediction, or data
        Data come with `n_latent` and the options of `predict`.
    n_latent : int, optional
        Number of latents, with data only.
    encoder : str
        Name of the submodule whose output is watched; dots are allowed.
    select : function, optional
        Returns (mu, logvar), each [batch, n_latent], from that output. By default these are pythae's embedding and
        log_covariance, the first two of a tuple, or the halves of one tensor.
    **loss
        Options of `predict` that describe the loss, with data only.

    Raises
    ------
    InputError
        For a prediction together with options of the loss, and for data without `n_latent`.
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
        if not isinstance(prediction, Prediction):
            if n_latent is None:
                raise InputError("n_latent: missing, must be the number of latents when data are given")
            prediction = predict(prediction, n_latent, **loss)
        elif n_latent is not None or loss:
            raise InputError("CollapseMonitor: takes only a prediction, or data with n_latent and a loss")
        self.prediction = prediction
        self.reports: list[Report] = []
        self._encoder, self._select = encoder, select or _mu_and_logvar
        self._sum: Tensor | None = None
        self._rows = 0
        self._warned: set[str] = set()
        self._hook: Any = None

    def update(self, mu: Tensor, logvar: Tensor) -> None:
        """Add a batch.

        Parameters
        ----------
        mu, logvar : tensors or arrays [batch, n_latent]
            Means and log variances of the posterior.
        """
        import torch

        mu, logvar = (torch.as_tensor(part).detach() for part in (mu, logvar))
        n = self.prediction.setting.n_latent
        if mu.shape != logvar.shape or mu.ndim != 2 or mu.shape[1] != n:
            shapes = f"{tuple(mu.shape)} and {tuple(logvar.shape)}"
            raise InputError(f"mu, logvar: shapes {shapes}, must both be [batch, {n}]")
        # The sum stays on the device, so that only a report waits for it and not each step.
        batch = gaussian_kl(mu.double(), logvar.double(), torch.expm1).sum(0)
        self._sum = batch if self._sum is None else self._sum + batch
        self._rows += mu.shape[0]

    def end_epoch(self, kl_weight: float | None = None) -> Report:
        """Report on the batches since the last report; `kl_weight` is the present weight of KL if it changes."""
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
        if report.status not in (OK, BEHIND) and report.status not in self._warned:
            self._warned.add(report.status)
            warnings.warn(str(report), UserWarning, stacklevel=2)
        return report

    def watch(self, model: nn.Module) -> None:
        """Read mu and logvar from the encoder's forward passes in training mode, until `unwatch`."""
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
            return COLLAPSED, f"collapsed, although the optimum keeps {predicted.active_dims} latents: {remedy}"
        left = self._reports_left(kl)
        if kl < predicted.kl and left <= HORIZON:
            optimal = f"although {predicted.kl:.4g} nats are optimal"
            return COLLAPSING, f"KL is falling and will be gone in about {left:.0f} reports, {optimal}"
        if active < predicted.active_dims:
            return BEHIND, ""
        return OK, ""

    def _reports_left(self, kl: float) -> float:
        """Return after how many reports a falling KL is below ACTIVE_KL at its present rate."""
        recent = [report.kl for report in self.reports[-PATIENCE:]] + [kl]
        if len(recent) <= PATIENCE or not np.all(np.diff(recent) < 0):
            return math.inf
        rate = math.log(recent[0] / recent[-1]) / PATIENCE
        return math.log(kl / ACTIVE_KL) / rate

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


def _mu_and_logvar(output: Any) -> tuple[Tensor, Tensor]:
    if hasattr(output, "embedding") and hasattr(output, "log_covariance"):
        return output.embedding, output.log_covariance
    if isinstance(output, tuple | list) and len(output) >= 2:
        return output[0], output[1]
    if hasattr(output, "chunk"):
        return output.chunk(2, dim=-1)
    raise InputError(f"encoder: gives a {type(output).__name__}; give `select`, which returns mu and logvar")


def _lightning_callback() -> type:
    import importlib

    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise InputError("lightning: is not installed, must be for a Lightning callback")
