"""The encoder and the decoder of any trained VAE in one form: of a point, a module, a library or two functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phasevae.errors import InputError
from phasevae.prediction.encoder_outputs import PosteriorReader, named_posterior
from phasevae.prediction.own_loss.function import load_function
from phasevae.stored import load
from phasevae.trained import TrainedVAE

_PYTHAE_FILES = ("model.pt", "model_config.json")
_RECONSTRUCTIONS = ("reconstruction", "recon_x", "recon", "x_hat", "xhat", "mean", "loc", "logits", "probs", "sample")
_BLOCK = 2048
_FEW = 8

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Networks:
    """The networks of one VAE, for flattened samples and latents.

    Attributes
    ----------
    encode : callable
        From x [B, D] to mu and log variance, each [B, n].
    decode : callable
        From z [B, n] to what the decoder gives, [B, P].
    n_latent : int
    """

    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decode: Callable[[Tensor], Tensor]
    n_latent: int


def load_trained(model: Any) -> Any:
    """Return a trained model from its path, or the object itself.

    Parameters
    ----------
    model : object
        The folder or the weights of a point; the folder of a pythae model; or FILE.py:NAME, a function without
        arguments that returns the trained module, or the module itself. Anything else is taken as it is.

    Raises
    ------
    InputError
        If there is no such model.
    """
    if not isinstance(model, str | Path):
        return model
    path = Path(model).expanduser()
    if all((path / name).is_file() for name in _PYTHAE_FILES):
        return _of_pythae(path)
    if ".py:" in str(model):
        made = load_function(str(model))
        return made if isinstance(made, nn.Module) else _called(str(model), made)
    if not path.exists():
        raise InputError(
            f"{model}: no such file, must be a trained point, FILE.py:NAME or the folder of a pythae model"
        )
    return load(path)


@contextlib.contextmanager
def networks_of(
    model: Any,
    encode: Callable[..., Any] | None,
    decode: Callable[..., Any] | None,
    few: Tensor,
    shape: Shape,
) -> Iterator[Networks]:
    """Give the networks of a model, which does not train meanwhile.

    Parameters
    ----------
    model : object
        A `TrainedVAE`, or an object with methods or modules `encode` or `encoder`, and `decode` or `decoder`; None
        where both functions are given.
    encode, decode : callable, optional
        Instead of the model's: from samples to the posterior, and from latents to the reconstruction.
    few : Tensor [B, D]
        Some samples.
    shape : tuple of int
        Shape of one sample.

    Raises
    ------
    InputError
        For a model that lacks a part, or whose outputs are not understood.
    """
    if isinstance(model, TrainedVAE):
        yield _of_trained(model)
        return
    encode = encode or _part(model, "encode", "encoder")
    decode = decode or _part(model, "decode", "decoder")
    owners = [getattr(part, "__self__", part) for part in (model, encode, decode)]
    modules = [owner for owner in owners if isinstance(owner, nn.Module)]
    was_training = [module for top in modules for module in top.modules() if module.training]
    for module in modules:
        module.eval()
    try:
        yield _of_functions(encode, decode, few[:_FEW], shape, _device(modules))
    finally:
        for module in was_training:
            module.training = True


def _of_trained(model: TrainedVAE) -> Networks:
    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        mu, variance = model.encode(x)
        return mu, variance.log()

    return Networks(encode, model.decode, model.n_latent)


@torch.no_grad()
def _of_functions(
    encode: Callable[..., Any], decode: Callable[..., Any], few: Tensor, shape: Shape, device: torch.device
) -> Networks:
    def posterior_of(x: Tensor) -> Any:
        return _tried("encode", encode, x.reshape(len(x), *shape).to(device))

    output = posterior_of(few)
    n_latent = _n_latent(output)
    reader = PosteriorReader(n_latent)
    mu, _ = next(iter(reader(output).values()))
    latent_shape = tuple(mu.shape[1:])

    def encoded(x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [next(iter(reader(posterior_of(block)).values())) for block in x.split(_BLOCK)]
        mu, logvar = (
            torch.cat([part.flatten(1).float().cpu() for part in column]) for column in zip(*parts, strict=True)
        )
        return mu, logvar

    def decoded(z: Tensor) -> Tensor:
        blocks = (block.reshape(len(block), *latent_shape).to(device) for block in z.split(_BLOCK))
        return torch.cat(
            [_reconstruction(_tried("decode", decode, block)).flatten(1).float().cpu() for block in blocks]
        )

    return Networks(encoded, decoded, n_latent)


def _part(model: Any, *names: str) -> Callable[..., Any]:
    for name in names:
        if callable(part := getattr(model, name, None)):
            return part
    kind = type(model).__name__
    raise InputError(f"model: {kind} has neither {' nor '.join(names)}; give the function {names[0]}")


def _tried(name: str, function: Callable[..., Any], batch: Tensor) -> Any:
    try:
        return function(batch)
    except InputError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        raise InputError(f"{name}: fails for a batch of shape {tuple(batch.shape)} ({words})") from None


def _n_latent(output: Any) -> int:
    """The number of latents of an encoder's output."""
    named = named_posterior(output)
    if named is not None:
        return named[0].flatten(1).shape[1]
    arrays = [output] if isinstance(output, Tensor) else list(output) if isinstance(output, tuple | list) else []
    arrays = [array for array in arrays if isinstance(array, Tensor) and array.ndim > 1]
    if not arrays:
        raise InputError(f"encode: gives a {type(output).__name__}, must be mu and logvar")
    sizes = [array.flatten(1).shape[1] for array in arrays]
    repeated = next((size for size in sizes if sizes.count(size) > 1), None)
    return repeated or sizes[0] // 2


def _reconstruction(output: Any) -> Tensor:
    """The reconstruction in a decoder's output: a tensor, the first of a tuple, or under a usual name."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output:
        return _reconstruction(output[0])
    for name in _RECONSTRUCTIONS:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    raise InputError(f"decode: gives a {type(output).__name__}, must be a tensor; give `decode`, which returns it")


def _device(modules: list[nn.Module]) -> torch.device:
    return next((tensor.device for module in modules for tensor in module.parameters()), torch.device("cpu"))


def _of_pythae(path: Path) -> Any:
    try:
        from pythae.models import AutoModel
    except ImportError:
        raise InputError(f"{path}: is a pythae model, needs the package pythae") from None
    return AutoModel.load_from_folder(str(path))


def _called(address: str, function: Callable[..., Any]) -> Any:
    try:
        return function()
    except Exception as error:
        words = " ".join(str(error).split())
        raise InputError(f"{address}: fails when it is called without arguments ({words})") from None
