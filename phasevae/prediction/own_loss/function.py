"""A user's loss function `loss(recon, x, mu, logvar)`: loaded, called, and differentiated by its first argument."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phasevae.errors import InputError
from phasevae.prediction.own_loss.rows import Rows, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def load_function(address: str) -> Callable[..., Any]:
    """Return the function of a Python file.

    Parameters
    ----------
    address : str
        FILE.py:FUNCTION. Modules beside the file can be imported by it.

    Raises
    ------
    InputError
        If there is no such file or function, or the file cannot be run.
    """
    file, _, name = address.rpartition(":")
    path = Path(file).expanduser()
    if not file or not name.isidentifier():
        raise InputError(f"loss-function: {address!r}, must be FILE.py:FUNCTION")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: must be a Python file, named *.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # it stays, for imports within functions
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except SystemExit:
        raise InputError(f"{path}: ends the program when it is imported, must only define the loss") from None
    except Exception as error:
        raise InputError(f"{path}: cannot be run ({_one_line(error)})") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{path}: has no function {name!r}")
    return function


@dataclass(frozen=True)
class LossFunction:
    """A loss function with the shapes of everything that it takes.

    Outputs of the decoder are flattened here: [b, P], all heads one after the other.
    """

    function: Callable[..., Any]
    target: Rows
    output_shapes: tuple[Shape, ...]  # of one sample, for each head
    n_latent: int
    several_heads: bool = False  # the function takes a tuple
    single: bool = False  # computed in float32, for functions with float32 weights that do not mix with float64
    is_likelihood: bool = False  # the user's function is a likelihood, to which the package adds KL

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def n_outputs(self) -> int:
        return sum(self.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of outputs of each head."""
        return tuple(int(np.prod(shape)) for shape in self.output_shapes)

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.float32 if self.single else torch.float64

    def value(self, outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar.

        Parameters
        ----------
        outputs : tensor [b, P]
        x : tensor
            As `Rows.tensor` of the target gives it.
        mu, logvar : tensors [b, n_latent]

        Raises
        ------
        InputError
            If the function fails or gives no scalar.
        """
        import torch

        heads = [
            part.reshape(len(outputs), *shape)
            for part, shape in zip(outputs.split(self.sizes, 1), self.output_shapes, strict=True)
        ]
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", "Using a target size")  # shapes that broadcast by mistake
                value = self.function(tuple(heads) if self.several_heads else heads[0], x, mu, logvar)
        except InputError:
            raise
        except Exception as error:  # whatever a user's function raises
            raise LossFailedError(
                f"loss {self.name}: fails for outputs of shape {self._shapes(len(outputs))} and x of shape "
                f"{tuple(x.shape)} ({_one_line(error)}){_hint(error, self.target.whole)}"
            ) from None
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            what = f"a tensor of shape {tuple(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"
            raise InputError(f"loss {self.name}: returns {what}, must be a scalar tensor")
        return value.reshape(())

    def collapsed_value(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return the loss of a batch with collapsed latents, a scalar, for outputs [b, P]."""
        zeros = self.zeros(len(outputs))
        return self.value(outputs, x, zeros, zeros)

    def output_gradient(self, outputs: Tensor, x: Tensor, mu: Tensor | None = None, graph: bool = False) -> Tensor:
        """Return the gradient of the loss by the outputs, [b, P], with mu = logvar = 0 unless mu is given.

        Parameters
        ----------
        outputs : tensor [b, P]
        x : tensor
        mu : tensor [b, n_latent], optional
        graph : bool
            Whether the gradient will be differentiated again; `outputs` must then be a leaf.

        Raises
        ------
        InputError
            If the loss does not depend on the outputs differentiably.
        """
        import torch

        outputs = outputs if graph else outputs.detach().requires_grad_()
        mu = self.zeros(len(outputs)) if mu is None else mu
        with torch.enable_grad():
            value = self.value(outputs, x, mu, torch.zeros_like(mu))
            gradient = None
            if value.requires_grad:
                (gradient,) = torch.autograd.grad(value, outputs, create_graph=graph, allow_unused=True)
        if gradient is None:
            raise InputError(
                f"loss {self.name}: is not differentiable by the reconstruction, must be made of torch operations"
            )
        return gradient

    def zeros(self, b: int) -> Tensor:
        """Return mu or logvar of collapsed latents, [b, n_latent]."""
        import torch

        return torch.zeros(b, self.n_latent, dtype=self.dtype)

    def x(self, block: NDArray) -> Tensor:
        """Return a block [b, D] of the target as the function takes it."""
        return self.target.tensor(block, self.dtype)

    def outputs(self, constant: NDArray, b: int) -> Tensor:
        """Return the outputs of a decoder that gives every row the same, [b, P]."""
        import torch

        return torch.as_tensor(constant, dtype=self.dtype).expand(b, -1).contiguous()

    def loss_at(self, constant: NDArray, block: NDArray) -> float:
        """Return the loss of a block at a constant decoder and collapsed latents; NaN where it fails."""
        try:
            return float(self.collapsed_value(self.outputs(constant, len(block)), self.x(block)).detach())
        except LossFailedError:
            return math.nan

    def gradient_at(self, constant: NDArray, block: NDArray) -> NDArray[np.float64]:
        """Return the gradient of the loss of a block by the outputs of each row, [b, P], at a constant decoder."""
        return self.output_gradient(self.outputs(constant, len(block)), self.x(block)).double().numpy()

    def hessian_at(self, constant: NDArray, block: NDArray, directions: NDArray) -> NDArray[np.float64]:
        """Return products of the second derivative with directions, summed over the rows of a block.

        The samples of a batch are independent, so each direction gets a copy of the rows in one large batch.

        Parameters
        ----------
        constant : array [P]
            Output of the constant decoder.
        block : array [b, D]
        directions : array [P, k]

        Returns
        -------
        array [P, k]
            Zero where the loss has no second derivative, as L1; in units of a batch of k b rows.
        """
        import torch

        k, b = directions.shape[1], len(block)
        outputs = self.outputs(constant, k * b).requires_grad_()
        gradient = self.output_gradient(outputs, self.x(np.tile(block, (k, 1))), graph=True)
        if not gradient.requires_grad:
            return np.zeros(directions.shape)
        each = torch.as_tensor(directions.T.copy(), dtype=self.dtype).repeat_interleave(b, 0)
        try:
            (product,) = torch.autograd.grad(gradient, outputs, each, allow_unused=True)
        except RuntimeError as error:  # an operation without a second derivative needs finite differences, as a kink
            if "memory" in str(error):
                raise
            product = None
        if product is None:
            return np.zeros(directions.shape)
        return product.double().reshape(k, b, -1).sum(1).numpy().T

    def _shapes(self, b: int) -> str:
        return " and ".join(str((b, *shape)) for shape in self.output_shapes)


class LossFailedError(InputError):
    """The loss function raised an error."""


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _hint(error: Exception, whole: bool) -> str:
    """What may be wrong where a function fails on samples that are whole numbers, or not."""
    text = str(error).lower()
    if not whole and "long" in text:
        return "; classes and tokens must be whole numbers, as in a .npy array of integers"
    if any(word in text for word in ("size", "shape", "dimension", "broadcast", "class")):
        return "; give output_shape if the network's output has another shape"
    return ""
