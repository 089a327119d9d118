"""One trained VAE, and its file of weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from phasevae.architecture import Architecture
from phasevae.artifacts.tensors import check_tensors, read_tensors, write_tensors
from phasevae.datasets.conditions import Coding
from phasevae.datasets.sample_shape import SampleShape
from phasevae.errors import InputError
from phasevae.kernels.class_families import Categorical
from phasevae.kernels.family import Family
from phasevae.kernels.reconstructions import make_reconstruction
from phasevae.model import VAEEnsemble, padded
from phasevae.networks.own import OwnArchitecture
from phasevae.rows import Conditioning
from phasevae.sweeps.network_file import NetworkFile, network_of
from phasevae.wording import counted, plain

_WEIGHTS = "weights.safetensors"
_BELOW = f"*/{_WEIGHTS}", f"*/*/{_WEIGHTS}", f"*/*/*/{_WEIGHTS}"
"""Where a point may be below a folder of points, of a sweep or of results."""

_OF_LIKELIHOOD = "likelihood."
"""What the names of a likelihood's tensors begin with."""


class TrainedVAE:
    """One trained model. Data are in the units that `phasevae dataset` wrote; the model subtracts and adds their mean.

    With a likelihood other than the Gaussian one, `decode` gives the outputs of its decoder, such as logits.

    Attributes
    ----------
    sigma2, beta : float
        The decoder variance and the weight of KL that it was trained with.
    n_latent : int
    mean : Tensor [D]
        The mean of the data that the networks were trained without.
    metadata : dict
        What the file of the weights records in addition.
    family : Family or None
        The likelihood; None for a Gaussian decoder.
    coding : Coding or None
        How values of the condition become its columns; None for a model without a condition.
    """

    def __init__(
        self,
        ensemble: VAEEnsemble,
        mean: Tensor,
        metadata: dict,
        family: Family | None = None,
        offsets: Tensor | None = None,
    ):
        self._ensemble = ensemble
        # The mean is kept beside the layers, not folded into the first and last bias: where it is large compared with
        # the spread of the data, W x and W m agree in most digits, and their difference in float32 would be rounding.
        self.mean = mean
        self.metadata = metadata
        self.sigma2: float = metadata["sigma2"]
        self.beta: float = metadata["beta"]
        self.n_latent = ensemble.architecture.n_latent
        self.family = family
        self.coding = Coding.from_json(metadata["condition"]) if metadata.get("condition") else None
        self._offsets = offsets

    def __repr__(self) -> str:
        likelihood = self.metadata.get("likelihood")
        decoder = f"likelihood {likelihood['name']}" if likelihood else f"decoder variance {plain(self.sigma2)}"
        sizes = f"{counted(self.mean.numel(), 'feature')}, {counted(self.n_latent, 'latent')}"
        return f"<{type(self).__name__}: {sizes}, {decoder}, KL weight {plain(self.beta)}>"

    @torch.no_grad()
    def encode(self, x: np.ndarray | Tensor, condition: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
        """Return the posterior means and latent variances, each [N, n_latent], for x [N, D].

        The condition is one value for each row, or one for all, as in the data; an encoder that does not see it needs
        none.
        """
        batch = self._batch(x, self.mean.numel(), "x")
        if isinstance(self.family, Categorical):
            _check_classes(batch[0], self.family.options["n_classes"])
        inputs = batch - self.mean if self.family is None else self.family.inputs(batch)
        if bad := (~inputs[0].isfinite()).nonzero().tolist():
            raise InputError(_unusable(batch[0], *bad[0], same_columns=inputs.shape == batch.shape))
        unaware = not self._ensemble.architecture.encoder_sees_condition
        columns = None if unaware else self._columns(condition, inputs.shape[1])
        if columns is not None:
            inputs = torch.cat((inputs - columns @ self._offsets, columns), -1)
        mu, logvar = self._ensemble.encode(inputs)
        return mu[0], logvar[0].exp()

    @torch.no_grad()
    def decode(self, z: np.ndarray | Tensor, condition: ArrayLike | None = None) -> Tensor:
        """Return the decoder means f(z) [N, D], or the outputs [N, P] of another likelihood, for z [N, n_latent].

        The condition is as in `encode`.
        """
        batch = self._batch(z, self.n_latent, "z")
        columns = self._columns(condition, batch.shape[1])
        decoded = self._ensemble.decode(batch, columns)[0]
        if self.family is not None:
            return self.family.with_offset(decoded, None if columns is None else columns[0])
        return decoded + self.mean if columns is None else decoded + self.mean + columns[0] @ self._offsets

    def sample(self, n: int, seed: int = 0, condition: ArrayLike | None = None) -> Tensor:
        """Draw n new data points [n, D]: z from the prior, and x from the decoder's distribution given z.

        The condition is as in `encode`. Raises InputError if n or the seed is not a whole number, 0 or more.
        """
        n, seed = _whole_number("n", n), _whole_number("seed", seed)
        generator = torch.Generator().manual_seed(seed)
        mean = self.decode(self._prior(n, generator), condition)
        if self.family is not None:
            return self.family.draw(mean, np.random.default_rng(seed))
        return mean + self.sigma2**0.5 * torch.randn(mean.shape, generator=generator)

    def _columns(self, condition: ArrayLike | None, n: int) -> Tensor | None:
        """The columns [1, n, C] of a condition; None for a model without one."""
        if self.coding is None:
            if condition is not None:
                raise InputError("condition: must be left out, the model was trained without one")
            return None
        if condition is None:
            raise InputError("condition: missing, must be one value for each row or one for all")
        values = np.asarray(condition)
        if values.ndim == 0:
            values = np.full(n, values)
        columns = torch.from_numpy(self.coding.columns(self.coding.stored(values)))
        if len(columns) != n:
            raise InputError(f"condition: {len(columns)} values, must be {n}, one for each row")
        return columns[None]

    def _prior(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw latents [n, n_latent] from the prior."""
        return torch.randn(n, self.n_latent, generator=generator)

    @staticmethod
    def _batch(values: np.ndarray | Tensor, width: int, name: str) -> Tensor:
        try:
            # The array is copied because torch warns about memory-mapped arrays, which are read-only.
            array = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float32))
        except (TypeError, ValueError, OverflowError, RuntimeError):  # texts, or rows of different lengths
            raise InputError(f"{name}: of type {type(values).__name__}, must be numbers [rows, {width}]") from None
        batch = array.float()
        if batch.ndim != 2 or batch.shape[1] != width:
            raise InputError(f"{name}: shape {tuple(batch.shape)}, must be [rows, {width}]")
        return batch[None]


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        raise InputError(f"{name}: {value!r}, must be a whole number, 0 or more and below 2^63")
    return int(value)


def _check_classes(x: Tensor, n_classes: int) -> None:
    """Raise InputError that names the first value of x [N, D] that is no class number from 0 on."""
    known = (x >= 0) & (x < n_classes) & (x == x.floor())
    if wrong := (~known).nonzero().tolist():
        row, column = wrong[0]
        value = f"value {float(x[row, column]):g} at row {row}, column {column}"
        raise InputError(f"x: {value} (counted from 0), must be a class number from 0 to {n_classes - 1}")


def _unusable(x: Tensor, row: int, column: int, same_columns: bool) -> str:
    """Name the first value of x [N, D] that an encoder cannot take.

    Parameters
    ----------
    x : Tensor [N, D]
    row, column : int
        Where what the encoder sees is not finite.
    same_columns : bool
        Whether it sees a number for each of the D. If not, the column is known only where x itself is not finite.
    """
    if bad := (~x[row].isfinite()).nonzero().tolist():
        column, same_columns = bad[0][0], True
    if not same_columns:
        return f"x: row {row} (counted from 0), must have values that the likelihood can have"
    value = f"value {float(x[row, column]):g} at row {row}, column {column}"
    return f"x: {value} (counted from 0), must be a finite number that the likelihood can have"


def save_model(
    path: Path | str,
    ensemble: VAEEnsemble,
    index: int,
    mean: np.ndarray,
    metadata: dict,
    family: tuple[str, Family] | None = None,
    conditioning: Conditioning | None = None,
) -> None:
    """Write one model of an ensemble as safetensors.

    Parameters
    ----------
    path : Path or str
        The file.
    ensemble : VAEEnsemble
    index : int
        The number of the model.
    mean : array [D]
        The mean of the data, which the model was trained without.
    metadata : dict
        What to store with it, sigma2 and beta at least; the architecture is added.
    family : (str, Family), optional
        Name and reconstruction term of a likelihood other than the Gaussian one.
    conditioning : Conditioning, optional
        That of the rows of a model with a condition.
    """
    tensors = {**ensemble.tensors(index), "mean": mean}
    metadata = {**metadata, "architecture": ensemble.architecture.record()}
    if family is not None:
        name, term = family
        tensors |= {f"{_OF_LIKELIHOOD}{key}": array for key, array in term.arrays().items()}
        metadata["likelihood"] = {"name": name, "options": term.options}
    if conditioning is not None:
        tensors["offsets"] = conditioning.offsets.cpu().numpy()
        metadata["condition"] = conditioning.coding.to_json()
    write_tensors(path, tensors, metadata)


def weights_file(point: Path | str) -> Path:
    """Return the weights.safetensors of a point, from its folder or the path of the file itself.

    Raises InputError for a folder without one; it names a point below the folder if there is one.
    """
    path = Path(point)
    if not path.is_dir():
        return path
    file = path / _WEIGHTS
    if file.is_file():
        return file
    below = next((found.parent for pattern in _BELOW for found in sorted(path.glob(pattern))), None)
    raise InputError(
        f"{path}: holds no {_WEIGHTS}, must be the folder of a point{'' if below is None else f', such as {below}'}"
    )


def load_vae(
    point: Path | str, build: Callable[..., Any] | Path | str | None = None, trust_code: bool = False
) -> TrainedVAE:
    """Load a VAE with one level of latents; `phasevae.load` takes hierarchies as well.

    Parameters
    ----------
    point : Path or str
        The folder of a point, or its weights.safetensors.
    build : callable, Path or str, optional
        For networks of your own: the function that built them, or the Python file that defines it.
    trust_code : bool
        For networks of your own, instead of `build`: run the copy of the Python file that is stored with the weights.
        Like any program, run it only if you trust its origin.

    Raises
    ------
    InputError
        If the file is missing or damaged, has other layers than it records or two levels of latents, or holds networks
        of somebody's own and neither `build` nor `trust_code` is given.
    """
    path = weights_file(point)
    tensors, metadata = read_tensors(path)
    check_tensors(path, tensors, metadata, "weights", {})
    if "n_top" in metadata["architecture"]:
        raise InputError(f"{path}: has two levels of latents, must have one; phasevae.load takes both")
    architecture = _recorded_architecture(path, metadata["architecture"], build, trust_code)
    row = torch.from_numpy(architecture.row(tensors, str(path)))[None]
    mean, family = tensors.get("mean"), _family_of(tensors, metadata)
    if mean is None or (family is None and mean.shape != (architecture.dimension,)):
        raise InputError(
            f"{path}: the mean of the data is missing or not [{architecture.dimension}], train the point again"
        )
    offsets, n_condition = tensors.get("offsets"), architecture.n_condition
    if n_condition and (offsets is None or offsets.shape != (n_condition, mean.size)):
        raise InputError(f"{path}: offsets are missing or not [{n_condition}, {mean.size}]")
    return TrainedVAE(
        VAEEnsemble(architecture, padded(row, architecture)),
        torch.from_numpy(mean),
        metadata,
        family,
        None if offsets is None else torch.from_numpy(offsets),
    )


def _recorded_architecture(
    path: Path, record: Mapping[str, Any], build: Callable[..., Any] | Path | str | None, trust_code: bool
) -> Architecture | OwnArchitecture:
    """The architecture of a weights file; see `load_vae`."""
    sizes = record.get("n_outputs"), record.get("n_condition", 0), record.get("encoder_sees_condition", True)
    own = record.get("network")
    if own is None:
        return Architecture(record["dimension"], record["n_latent"], tuple(record["hidden"]), *sizes)
    if build is None and not trust_code:
        raise InputError(
            f"{path}: has the networks of {own['file']}: {own['build']}(); give build= (--network), the "
            "function or its file, or trust_code=True to run the copy of the file that is stored with the weights"
        )
    stored = NetworkFile(own["file"], own["build"], own["text"])
    file = stored if build is None else network_of(build, own["build"])
    sample = SampleShape(tuple(record["input_shape"]), record["channels_last"])
    return OwnArchitecture(file, sample, record["n_latent"], *sizes)


def _family_of(tensors: dict[str, np.ndarray], metadata: dict) -> Family | None:
    """The reconstruction term of a stored model; None for a Gaussian decoder."""
    if "likelihood" not in metadata:
        return None
    likelihood = metadata["likelihood"]
    of_family = {
        name.removeprefix(_OF_LIKELIHOOD): array for name, array in tensors.items() if name.startswith(_OF_LIKELIHOOD)
    }
    return make_reconstruction(likelihood["name"], of_family, likelihood["options"]).to("cpu", torch.float32)
