"""The events by which pythae's and Lightning's trainers call a monitor.

Neither package is imported. Lightning calls its events on any object that has them; a trainer looks up all of its
events, so those that a monitor has no use for are answered too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from phasevae.errors import InputError
from phasevae.prediction.reports import Report

FORWARDED = (
    "on_fit_start",
    "on_train_epoch_end",
    "on_train_end",
    "on_exception",
    "teardown",
    "state_dict",
    "load_state_dict",
)
"""What a callback of Lightning hands on to the monitor."""


class TrainerHooks:
    """A callback of pythae and Lightning. A subclass has `begin`, `end_epoch_of`, `unwatch` and a state."""

    @property
    def state_key(self) -> str:
        """The name of the monitor's state in a checkpoint of Lightning."""
        return type(self).__qualname__

    _legacy_state_key = state_key

    def on_train_begin(self, training_config: Any, **more: Any) -> None:
        """Begin a training of pythae."""
        self.begin(more["model"])

    def on_epoch_end(self, training_config: Any, pl_module: Any = None, **more: Any) -> None:
        """Report after an epoch of pythae. Old releases of Lightning have an event of this name for other epochs."""
        if pl_module is None:
            self.end_epoch_of(more.get("model"))

    def on_train_end(self, *arguments: Any, **more: Any) -> None:
        """End a training of pythae or Lightning."""
        self.unwatch()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin a training of Lightning."""
        self.begin(pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Report after an epoch of Lightning, and log it."""
        report = self.end_epoch_of(pl_module, trainer.current_epoch)
        pl_module.log_dict({f"collapse/{name}": value for name, value in _logged(report).items()})

    def on_exception(self, *arguments: Any, **more: Any) -> None:
        """Leave the model of an interrupted training of Lightning as it was."""
        self.unwatch()

    def setup(self, *arguments: Any, **more: Any) -> None:
        """Ignore the event."""

    def teardown(self, *arguments: Any, **more: Any) -> None:
        """End any run of Lightning."""
        self.unwatch()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _nothing(*arguments: Any, **more: Any) -> None:
    """Ignore an event."""


def _logged(report: Report) -> dict[str, float]:
    return {"kl": report.kl, "active_units": float(report.active_units), "distance": report.distance}


def weight_of(model: Any, source: str | Callable[[Any], Any]) -> Any:
    """Return the present weight of KL of a model.

    Parameters
    ----------
    model : nn.Module
    source : name of an attribute, or function of the model

    Returns
    -------
    number
        That of a function is not checked.

    Raises
    ------
    InputError
        If there is no such attribute, or it is no number.
    """
    if callable(source):
        return source(model)
    value = model
    for part in source.split("."):
        value = getattr(value, part, None)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(
            f"kl_weight_from: {source!r}, must be the name of a number of {type(model).__name__}"
        ) from None


def lightning_callback(monitor: TrainerHooks) -> Any:
    """Return a callback of Lightning's own class that hands its events on. Raises InputError without Lightning."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            base = importlib.import_module(name).Callback
        except ImportError:
            continue
        events = {event: staticmethod(getattr(monitor, event)) for event in FORWARDED}
        return type("CollapseCallback", (base,), events)()
    raise InputError("lightning: is not installed, must be for a Lightning callback")
