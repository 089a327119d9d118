"""Find the encoder of a model, wrapped or compiled, and record what it returns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from phasevae.errors import InputError

if TYPE_CHECKING:
    from torch import nn


COMPILED = "_orig_mod"
"""Where a compiled module keeps the module that it compiles."""

WRAPPED = (COMPILED, "_forward_module", "module")
"""Where wrappers keep their module: torch.compile; Lightning Fabric; DataParallel and DistributedDataParallel."""


SPREAD_NAME = re.compile("var|std|sig|scale|lv", re.IGNORECASE)
"""Part of the name of a layer that makes the width of the posterior."""

HIDDEN_LAYERS = ("torch.nn.modules.activation", "torch.nn.modules.dropout", "torch.nn.modules.batchnorm")
"""An encoder that ends in a layer of these modules gives a hidden layer. Softplus is one way to make widths."""


def check_names(encoder: Any) -> str | tuple[str, str]:
    """Return the name of an encoder, or the names of two layers. Raises InputError for anything else."""
    pair = isinstance(encoder, tuple | list) and len(encoder) == 2 and all(isinstance(name, str) for name in encoder)
    if not (pair or isinstance(encoder, str)):
        raise InputError(f"encoder: {encoder!r}, must be the name of a submodule, or those of the two layers")
    return encoder


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


def on_both_forwards(mean: nn.Module, spread: nn.Module, record: Callable[[Any], None]) -> Callable[[], None]:
    """Call `record` with the outputs of two layers, of the mean and of the width, of each pass in training mode.

    Parameters
    ----------
    mean, spread : nn.Module
    record : function
        Takes the pair of outputs.

    Returns
    -------
    function
        Ends the recording.
    """
    # Replicas run in threads, each on its own device.
    waiting: dict[Any, dict[int, Any]] = {}

    def keep(place: int) -> Callable[[Any], None]:
        def record_part(output: Any) -> None:
            parts = waiting.setdefault(getattr(output, "device", None), {})
            parts[place] = output
            if len(parts) == 2:
                del waiting[getattr(output, "device", None)]
                record((parts[0], parts[1]))

        return record_part

    ends = [on_training_forward(module, keep(place)) for place, module in enumerate((mean, spread))]

    def end() -> None:
        for each in ends:
            each()

    return end


def hidden_layer(model: Any, encoder: nn.Module, n_latent: int, shape: tuple[int, ...]) -> str | None:
    """Return why a single tensor that an encoder gives is a hidden layer and not mu and logvar, and what to do.

    Parameters
    ----------
    model : nn.Module, or an object that wraps one
    encoder : nn.Module
        A submodule of it.
    n_latent : int
    shape : tuple of int
        Of the tensor, for one sample.

    Returns
    -------
    str, or None if nothing in the model shows that
    """
    from torch import nn

    if heads := _heads(model, encoder, n_latent, shape):
        mean, spread = heads
        return f"{mean} and {spread} take it; give encoder=({mean!r}, {spread!r}), or `select` if they do not"
    last = encoder
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if last is not encoder and type(last).__module__ in HIDDEN_LAYERS and not isinstance(last, nn.Softplus):
        return f"it ends in {type(last).__name__}; name the layers that give mu and logvar, encoder=(MEAN, LOGVAR)"
    return None


def _heads(model: Any, encoder: nn.Module, n_latent: int, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Return the names of two sibling layers outside the encoder that make latents of its output, or None."""
    from torch import nn

    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    own = {id(module) for module in encoder.modules()}
    takes = {*shape, math.prod(shape), 0}  # a lazy layer does not know yet what it takes: 0
    siblings: dict[str, list[str]] = {}
    for name, module in modules.items():
        parent, _, _ = name.rpartition(".")
        # The layers of a Sequential follow each other.
        if name and id(module) not in own and type(modules[parent]) is not nn.Sequential:
            width, latents, is_linear = _widths(module)
            if width in takes and latents and (latents == n_latent if is_linear else n_latent % latents == 0):
                siblings.setdefault(parent, []).append(_unwrapped(name))
    heads = next((names[:2] for names in siblings.values() if len(names) >= 2), None)
    if heads is None:
        return None
    mean, spread = sorted(heads, key=lambda name: bool(SPREAD_NAME.search(name.rpartition(".")[2])))
    return mean, spread


def _widths(module: nn.Module) -> tuple[int, int, bool]:
    """Return what a layer, or layers in sequence, take and give, and whether the last is linear. Others give 0."""
    from torch import nn

    layers = list(module.modules()) if isinstance(module, nn.Sequential) else [module]
    layers = [layer for layer in layers if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)]
    if not layers:
        return 0, 0, False
    first, last = layers[0], layers[-1]
    takes = first.in_features if isinstance(first, nn.Linear) else first.in_channels
    if isinstance(last, nn.Linear):
        return takes, last.out_features, True
    return takes, last.out_channels, False


def _unwrapped(name: str) -> str:
    """The name of a submodule in the model that the user wrote."""
    return ".".join(part for part in name.split(".") if part not in WRAPPED)


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
