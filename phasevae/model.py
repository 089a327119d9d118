"""Deep Gaussian VAEs (Eqs. 14-16): M models of one architecture as one ensemble.

The parameters of all models are in one buffer [M, P]: the optimiser sees one tensor, and `phasevae.kernels.mlp`
computes all models at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from phasevae.artifacts.tensors import check_tensors, read_tensors, write_tensors
from phasevae.datasets.conditions import Coding
from phasevae.datasets.sample_shape import SampleShape
from phasevae.errors import InputError
from phasevae.kernels import noise
from phasevae.kernels.adam import padded_length
from phasevae.kernels.family import Family
from phasevae.kernels.mlp import Layer, Network
from phasevae.kernels.reconstructions import make_reconstruction
from phasevae.networks.own import OwnArchitecture
from phasevae.rows import Conditioning
from phasevae.sweeps.network_file import NetworkFile, NetworkSpec, network_of

_OF_LIKELIHOOD = "likelihood."
"""What the names of a likelihood's tensors begin with."""

LOGVAR_RANGE = (-12.0, 8.0)
"""The encoder's log variance is clamped to this range (Li, arXiv:2610.11257)."""


@dataclass(frozen=True)
class Architecture:
    """The widths of one VAE: encoder D + C - hidden - 2 n_latent, decoder n_latent + C - reversed hidden - P.

    Attributes
    ----------
    dimension : int
        D, the encoder's inputs without the condition.
    n_latent : int
    hidden : tuple of int
        Widths of the encoder's hidden layers.
    n_outputs : int, optional
        P, the decoder's outputs; as many as the encoder's inputs by default.
    n_condition : int
        C, the numbers of the condition.
    encoder_sees_condition : bool
        Without it the encoder has D inputs.
    """

    dimension: int
    n_latent: int
    hidden: tuple[int, ...]
    n_outputs: int | None = None
    n_condition: int = 0
    encoder_sees_condition: bool = True

    @property
    def parts(self) -> dict[str, Network]:
        """The networks by name, in the order of the buffer: the decoder's parameters follow those of the encoder."""
        n_outputs = self.dimension if self.n_outputs is None else self.n_outputs
        n_inputs = self.dimension + (self.n_condition if self.encoder_sees_condition else 0)
        encoder = Network([n_inputs, *self.hidden, 2 * self.n_latent], 0)
        widths = [self.n_latent + self.n_condition, *reversed(self.hidden), n_outputs]
        return {"encoder": encoder, "decoder": Network(widths, encoder.end)}

    @property
    def networks(self) -> tuple[Network, Network]:
        """The encoder of the data and the decoder to them."""
        parts = self.parts
        return parts["encoder"], parts["decoder"]

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name, in the order of the buffer."""
        return {f"{part}.{i}": layer for part, network in self.parts.items() for i, layer in enumerate(network.layers)}

    @property
    def n_parameters(self) -> int:
        """The number of parameters of one model."""
        return list(self.parts.values())[-1].end

    @property
    def row_length(self) -> int:
        """The numbers of one model in a buffer: its parameters, and zeros up to a multiple of a cache line."""
        return padded_length(self.n_parameters)

    def initial(self, seeds: Sequence[int]) -> Tensor:
        """Return initial parameters [models, n_parameters] in float64: uniform in +-1/sqrt(fan_in), a model a seed."""
        keys = torch.tensor([noise.key("init", int(seed)) for seed in seeds], dtype=torch.int64)
        unit = noise.uniforms(keys, torch.zeros(1, dtype=torch.int64), self.n_parameters, 0, torch.float64)
        bound = torch.cat(
            [
                torch.full(((layer.fan_in + 1) * layer.fan_out,), layer.fan_in**-0.5, dtype=torch.float64)
                for layer in self.layers.values()
            ]
        )
        return (2 * unit[:, 0] - 1) * bound

    def tensors(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """Return weights [in, out] and biases [out] in a row of parameters by the name of the layer."""
        result = {}
        for name, (fan_in, fan_out, offset) in self.layers.items():
            end = offset + fan_in * fan_out
            result[f"{name}.weight"] = row[offset:end].reshape(fan_in, fan_out)
            result[f"{name}.bias"] = row[end : end + fan_out]
        return result

    def row(self, tensors: Mapping[str, np.ndarray], place: str) -> np.ndarray:
        """Return the parameters [n_parameters] of tensors by name; an InputError with the `place` if one is missing."""
        parts = []
        for name, (fan_in, fan_out, _) in self.layers.items():
            weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
            if weight is None or bias is None or weight.shape != (fan_in, fan_out) or bias.shape != (fan_out,):
                raise InputError(f"{place}: layer {name} is missing or not [{fan_in}, {fan_out}]")
            parts += [weight.ravel(), bias]
        return np.concatenate(parts)

    def record(self) -> dict[str, Any]:
        """Return what a weights file holds to build the networks again."""
        return {
            "dimension": self.dimension,
            "n_latent": self.n_latent,
            "hidden": list(self.hidden),
            "n_outputs": self.n_outputs,
            "n_condition": self.n_condition,
            "encoder_sees_condition": self.encoder_sees_condition,
        }


class VAEEnsemble:
    """M independent VAEs of one architecture in one flat buffer of parameters.

    The results of `encode` and `decode` are not differentiable.

    Parameters
    ----------
    architecture : Architecture or OwnArchitecture
    parameters : Tensor [M, P]
        P is `architecture.row_length`.

    Attributes
    ----------
    encoder, decoder : Network or ModuleNetwork
        The networks, whose parameters are in `parameters`.

    Raises
    ------
    InputError
        If the shape of `parameters` is not that of the architecture.
    """

    def __init__(self, architecture: Architecture | OwnArchitecture, parameters: Tensor):
        if parameters.ndim != 2 or parameters.shape[1] != architecture.row_length:
            raise InputError(
                f"parameters: shape {tuple(parameters.shape)}, must be [models, {architecture.row_length}]"
            )
        self.architecture = architecture
        self.parameters = parameters
        self.encoder, self.decoder = architecture.networks

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and log variance, each [M, B, n], for inputs x [M, B, E], or [1, B, E] shared by all models."""
        return posterior(self.encoder.forward(self.parameters, x)[0])

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the outputs of the decoder [M, B, P] for z [M, B, n] and a condition [M or 1, B, C]."""
        return self.decoder.forward(self.parameters, decoder_input(z, condition))[0]

    def member(self, index: int) -> VAEEnsemble:
        """Return one model as an ensemble that shares its parameters."""
        return VAEEnsemble(self.architecture, self.parameters[index : index + 1])

    def tensors(self, index: int) -> dict[str, np.ndarray]:
        """Return the parameters of one model by name, as float32 arrays."""
        return self.architecture.tensors(self.parameters[index].detach().cpu().float().numpy())


def decoder_input(z: Tensor, condition: Tensor | None) -> Tensor:
    """Append the condition [M or 1, B, C], if there is one, to latents [M, B, n]."""
    return z if condition is None else torch.cat((z, condition.expand(z.shape[0], -1, -1)), -1)


def posterior(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """Return mu and log variance, each [M, B, n], from the output [M, B, 2 n] of an encoder."""
    mu, logvar = encoded.chunk(2, dim=-1)
    return mu, logvar.clamp(*LOGVAR_RANGE)


def initialise(
    architecture: Architecture | OwnArchitecture,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VAEEnsemble:
    """Initialise an ensemble.

    Parameters
    ----------
    architecture : Architecture or OwnArchitecture
    seeds : sequence of int
        One model each. A model depends on its seed alone, not on the other seeds.
    device : torch.device or str
    dtype : torch.dtype

    Returns
    -------
    VAEEnsemble
    """
    return VAEEnsemble(architecture, padded(architecture.initial(seeds), architecture).to(device=device, dtype=dtype))


def padded(rows: Tensor, architecture: Architecture | OwnArchitecture) -> Tensor:
    """Append zeros to the parameters [M, n_parameters] of models, up to the length of a row of the buffer."""
    return torch.nn.functional.pad(rows, (0, architecture.row_length - rows.shape[1]))


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

    @torch.no_grad()
    def encode(self, x: np.ndarray | Tensor, condition: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
        """Return the posterior means and latent variances, each [N, n_latent], for x [N, D].

        The condition is one value for each row, or one for all, as in the data; an encoder that does not see it needs
        none.
        """
        batch = self._batch(x, self.mean.numel(), "x")
        inputs = batch - self.mean if self.family is None else self.family.inputs(batch)
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
            return self.family.with_offset(decoded)
        return decoded + self.mean if columns is None else decoded + self.mean + columns[0] @ self._offsets

    def sample(self, n: int, seed: int = 0, condition: ArrayLike | None = None) -> Tensor:
        """Draw n new data points [n, D]: z from the prior, and x from the decoder's distribution given z.

        The condition is as in `encode`.
        """
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
        # The array is copied because torch warns about memory-mapped arrays, which are read-only.
        batch = values.float() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float32))
        if batch.ndim != 2 or batch.shape[1] != width:
            raise InputError(f"{name}: shape {tuple(batch.shape)}, must be [rows, {width}]")
        return batch[None]


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


def load(
    point: Path | str, build: Callable[..., Any] | Path | str | None = None, trust_code: bool = False
) -> TrainedVAE:
    """Load a trained model from the folder of a point, or from its weights.safetensors.

    Parameters
    ----------
    point : Path or str
    build : callable, Path or str, optional
        For networks of your own: the function that built them, or the Python file that defines it.
    trust_code : bool
        For networks of your own, instead of `build`: run the copy of the Python file that is stored with the weights.
        Like any program, run it only if you trust its origin.

    Raises
    ------
    InputError
        If the file is missing or damaged, has other layers than it records, or holds networks of somebody's own and
        neither `build` nor `trust_code` is given.
    """
    path = Path(point)
    path = path / "weights.safetensors" if path.is_dir() else path
    tensors, metadata = read_tensors(path)
    check_tensors(path, tensors, metadata, "weights", {})
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
    """The architecture of a weights file; see `load`."""
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


def architecture_of(
    spec: NetworkSpec | None,
    hidden: Sequence[int],
    dimension: int,
    n_latent: int,
    n_outputs: int,
    n_condition: int = 0,
    encoder_sees_condition: bool = True,
) -> Architecture | OwnArchitecture:
    """Return the architecture of a training.

    Parameters
    ----------
    spec : NetworkSpec or None
        The user's own networks; None for the MLP of `hidden`.
    hidden : sequence of int
        Widths of the encoder's hidden layers.
    dimension, n_latent, n_outputs, n_condition, encoder_sees_condition
        See `Architecture`.

    Raises
    ------
    InputError
        If the user's networks are for samples of another size, or come without their file.
    """
    if spec is None:
        return Architecture(dimension, n_latent, tuple(hidden), n_outputs, n_condition, encoder_sees_condition)
    if spec.file is None:
        raise InputError(f"network: the file with {spec.build}() is missing, must be given")
    if spec.sample.size != dimension:
        shape = " x ".join(map(str, spec.input_shape))
        raise InputError(f"network: samples of {shape} numbers, must be of {dimension} as the data are")
    return OwnArchitecture(spec.file, spec.sample, n_latent, n_outputs, n_condition, encoder_sees_condition)


def _family_of(tensors: dict[str, np.ndarray], metadata: dict) -> Family | None:
    """The reconstruction term of a stored model; None for a Gaussian decoder."""
    if "likelihood" not in metadata:
        return None
    likelihood = metadata["likelihood"]
    of_family = {
        name.removeprefix(_OF_LIKELIHOOD): array for name, array in tensors.items() if name.startswith(_OF_LIKELIHOOD)
    }
    return make_reconstruction(likelihood["name"], of_family, likelihood["options"]).to("cpu", torch.float32)
