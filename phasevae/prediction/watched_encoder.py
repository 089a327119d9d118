"""Find the encoder of a model, wrapped or compiled, and record what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from phasevae.errors import InputError

if TYPE_CHECKING:
    from torch import nn


COMPILED = "_orig_mod"
"""Where a compiled module keeps the module that it compiles."""

WRAPPED = (COMPILED, "_forward_module", "module")
"""Where wrappers keep their module: torch.compile; Lightning Fabric; DataParallel and DistributedDataParallel."""


def find_encoder(model: Any, name: str) -> nn.Module:
    """Return a submodule by its name in the model that the user wrote, whatever wraps it.

    Parameters
    ----------
    model : nn.Module, or an object with one in an attribute of WRAPPED
    name : str
        Dots lead to submodules of submodules. An empty name is the model itself.

    Returns
    -------
    nn.Module

    Raises
    ------
    InputError
        If there is no such submodule.
    """
    module = model
    for part in name.split(".") if name else []:
        module = _child(module, part)
        if module is None:
            raise InputError(f"encoder: {name!r}, must be the name of a submodule of {type(model).__name__}")
    # A model that is compiled as a whole runs the module below and passes over the hooks of its wrapper.
    while (inner := _submodule(module, COMPILED)) is not None:
        module = inner
    return module


def on_training_forward(module: nn.Module, record: Callable[[Any], None]) -> Callable[[], None]:
    """Call `record` with the output of each forward pass in training mode.

    Parameters
    ----------
    module : nn.Module
    record : function
        Takes the output.

    Returns
    -------
    function
        Ends the recording.
    """
    import torch

    recording = True

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        if recording and module.training:
            record(output)

    # Records are kept outside compiled code, where a sum over steps has no place.
    handle = module.register_forward_hook(torch.compiler.disable(after))
    # Code that was compiled before may have been compiled without the hook. It is compiled again when it next runs.
    torch.compiler.reset()

    def end() -> None:
        # Compiled code may keep a hook that was removed.
        nonlocal recording
        recording = False
        handle.remove()

    return end


def _child(module: Any, name: str) -> nn.Module | None:
    """Return the submodule of this name of a module, or of the module that it wraps."""
    while module is not None:
        child = _submodule(module, name)
        if child is not None:
            return child
        module = next((inner for kept in WRAPPED if (inner := _submodule(module, kept)) is not None), None)
    return None


def _submodule(module: Any, name: str) -> nn.Module | None:
    from torch import nn

    found = getattr(module, name, None)
    return found if isinstance(found, nn.Module) else None
