"""A VAE whose networks the user defines: the architecture that a training, a checkpoint and a weights file refer to."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from phasevae.datasets.sample_shape import SampleShape
from phasevae.errors import InputError
from phasevae.kernels import noise
from phasevae.kernels.adam import padded_length
from phasevae.kernels.module_network import Field, ModuleNetwork, fields_of, tensors_of
from phasevae.networks.loading import call_build, load_function
from phasevae.networks.modules import RowDecoder, RowEncoder
from phasevae.networks.trial import TRIAL_ROWS, Habits, check_tensors, initialise_lazy, tried
from phasevae.sweeps.network_file import NetworkFile

_log = logging.getLogger("phasevae")

PARTS = ("encoder", "decoder")

_WIDENING = 16
"""A pass through a network of the user is taken to hold this many times the numbers of a sample."""


@dataclass(frozen=True)
class OwnArchitecture:
    """The networks of a user's function, with the interface of `phasevae.architecture.Architecture`.

    Attributes
    ----------
    source : NetworkFile
        The file and its function `build(input_shape, n_latent) -> (encoder, decoder)`.
    sample : SampleShape
        The shape in which the networks see a row.
    n_latent : int
    n_outputs : int
        P, the decoder's outputs for a row.
    n_condition : int
        C, the numbers of the condition, which both networks take as their second argument.
    encoder_sees_condition : bool
        Without it the decoder alone takes the condition.
    habits : (Habits, Habits)
        Of encoder and decoder, from `tried_on`.
    """

    source: NetworkFile
    sample: SampleShape
    n_latent: int
    n_outputs: int
    n_condition: int = 0
    encoder_sees_condition: bool = True
    habits: tuple[Habits, Habits] = (Habits(False, False), Habits(False, False))

    @property
    def dimension(self) -> int:
        """D, the encoder's inputs without the condition."""
        return self.sample.size

    @functools.cached_property
    def networks(self) -> tuple[ModuleNetwork, ModuleNetwork]:
        """The encoder and the decoder; the parameters of the decoder follow those of the encoder."""
        made, offset = [], 0
        for module, habits in zip(self._template, self.habits, strict=True):
            widest = _WIDENING * max(self.sample.size, self.n_outputs, self.n_latent)
            made.append(ModuleNetwork(module, offset, module.label, habits.is_random, habits.changes_buffers, widest))
            offset = made[-1].end
        return tuple(made)

    @property
    def n_parameters(self) -> int:
        """The numbers of one model: its parameters and its buffers."""
        return self.networks[1].end

    @property
    def row_length(self) -> int:
        """The numbers of one model in a buffer, padded."""
        return padded_length(self.n_parameters)

    def initial(self, seeds: Sequence[int]) -> Tensor:
        """Return the initial rows [models, n_parameters] in float32, a model for each seed: as the function builds it.

        Raises InputError if the function builds other networks for another seed.
        """
        rows = {}
        for seed in dict.fromkeys(map(int, seeds)):
            modules = self._built(seed)
            expected = [(name, entry.shape) for _, name, entry in self._entries]
            built = [
                (f"{part}.{_own_name(entry.name)}", entry.shape)
                for part, module in zip(PARTS, modules, strict=True)
                for entry in fields_of(module)
            ]
            if built != expected:
                raise InputError(f"{self.source.label}: builds other networks for another seed, must build the same")
            rows[seed] = torch.cat([_row_of(module) for module in modules])
        if len(rows) > 1 and all(torch.equal(row, rows[int(seeds[0])]) for row in rows.values()):
            _log.warning("%s: builds the same weights for every seed; does it seed torch itself?", self.source.label)
        return torch.stack([rows[int(seed)] for seed in seeds])

    def tensors(self, row: np.ndarray) -> dict[str, np.ndarray]:
        """Return the parameters and buffers in a row by name, such as "encoder.conv.weight"."""
        return {
            name: row[entry.offset : entry.offset + entry.size].reshape(_stored(entry))
            for _, name, entry in self._entries
        }

    def row(self, tensors: Mapping[str, np.ndarray], place: str) -> np.ndarray:
        """Return the row [n_parameters] of tensors by name; an InputError with the `place` if one is missing."""
        for _, name, entry in self._entries:
            if name not in tensors or tensors[name].shape != _stored(entry):
                raise InputError(f"{place}: {name} is missing or not {list(_stored(entry))}")
        return np.concatenate([tensors[name].ravel() for _, name, _ in self._entries])

    def record(self) -> dict[str, Any]:
        """Return what a weights file holds to build the networks again, the text of the user's file included."""
        return {
            "dimension": self.dimension,
            "n_latent": self.n_latent,
            "hidden": [],
            "n_outputs": self.n_outputs,
            "n_condition": self.n_condition,
            "encoder_sees_condition": self.encoder_sees_condition,
            "input_shape": list(self.sample.shape),
            "channels_last": self.sample.channels_last,
            "network": {"file": self.source.name, "build": self.source.build, "text": self.source.text},
        }

    def tried_on(self, rows: Tensor) -> OwnArchitecture:
        """Try the networks on a few rows and return the architecture that knows their habits.

        Parameters
        ----------
        rows : Tensor [N, D + C]
            Inputs of the encoder, on the device and in the type of the training.

        Raises
        ------
        InputError
            One line that names file and function, for everything that would go wrong in a training
            (`phasevae.networks.trial.tried`).
        """
        encoder, decoder = self._template
        again = self._built(0)
        for module, other in zip(self._template, again, strict=True):
            if not all(torch.equal(a, b) for a, b in zip(_values(module), _values(other), strict=True)):
                raise InputError(f"{self.source.label}: builds other weights for the same torch seed, must use torch's")
        inputs = rows[:TRIAL_ROWS]
        latents = torch.randn(len(inputs), self.n_latent, generator=torch.Generator().manual_seed(0)).to(inputs)
        seen = inputs[:, self.dimension :]
        condition = seen if self.encoder_sees_condition else inputs.new_zeros(len(inputs), self.n_condition)
        latents = torch.cat((latents, condition), 1)
        habits = (
            tried(encoder, inputs, self.source, encoder.label, self.sample.shape),
            tried(decoder, latents, self.source, decoder.label),
        )
        return dataclasses.replace(
            self, source=dataclasses.replace(self.source, function=self._function), habits=habits
        )

    @functools.cached_property
    def _function(self) -> Callable[..., Any]:
        return self.source.function or load_function(self.source)

    @functools.cached_property
    def _template(self) -> tuple[RowEncoder, RowDecoder]:
        """The modules of seed 0, whose own values no model uses."""
        return self._built(0)

    @functools.cached_property
    def _entries(self) -> list[tuple[str, str, Field]]:
        """The part, the name in files and the field of each parameter and buffer."""
        return [
            (part, f"{part}.{_own_name(entry.name)}", entry)
            for part, network in zip(PARTS, self.networks, strict=True)
            for entry in network.fields
        ]

    def _built(self, seed: int) -> tuple[RowEncoder, RowDecoder]:
        """Build the networks of a seed and check what can be checked without running them."""
        label = self.source.label
        optional = {"n_condition": self.n_condition, "n_outputs": self.n_outputs}
        key = noise.key("init", seed)
        built = call_build(self._function, self.source, key, (self.sample.shape, self.n_latent), **optional)
        pair = built if isinstance(built, tuple | list) else (built,)
        if len(pair) != 2 or not all(isinstance(module, nn.Module) for module in pair):
            raise InputError(
                f"{label}: returned {'a ' + type(built).__name__ if len(pair) != 2 else 'no modules'}, "
                "must return (encoder, decoder), two of torch.nn.Module"
            )
        shared = {id(tensor) for tensor in pair[0].parameters()} & {id(tensor) for tensor in pair[1].parameters()}
        if shared:
            raise InputError(f"{label}: encoder and decoder share parameters, must have their own")
        encoder = RowEncoder(pair[0], self.sample, self.n_latent, f"{label}: encoder")
        decoder = RowDecoder(pair[1], self.sample, self.n_latent, self.n_outputs, f"{label}: decoder")
        seen = self.n_condition if self.encoder_sees_condition else 0
        widths = self.dimension + seen, self.n_latent + self.n_condition
        for module, width in zip((encoder, decoder), widths, strict=True):
            initialise_lazy(module, width, self.source, key, self.sample.shape if module is encoder else ())
            check_tensors(module, module.label)
        return encoder, decoder


def _own_name(name: str) -> str:
    """The name of a tensor in the user's module, from that in the module around it."""
    return name.removeprefix("inner.")


def _stored(entry: Field) -> tuple[int, ...]:
    """The shape of a parameter or buffer in a file, where a single number has one axis."""
    return entry.shape or (1,)


def _values(module: nn.Module) -> list[Tensor]:
    return list(tensors_of(module).values())


def _row_of(module: nn.Module) -> Tensor:
    return torch.cat([tensor.detach().cpu().float().flatten() for tensor in _values(module)])
