"""Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror & Shaw, SC 2011), keyed by their purpose.

A number is a function of (purpose, identity, step, row, coordinate) alone. So the noise of a model does not depend on
the other models of its ensemble, and a resumed training draws what the interrupted training would have drawn.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from phasevae.kernels import float32

PURPOSES = ("init", "order", "noise", "measure", "likelihood", "residual")
LARGEST_PERMUTATION = 2**20
"""Of more numbers no permutation is drawn where that can be avoided."""

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def key(purpose: str, identity: object) -> int:
    """Return the key of a stream: the first 8 bytes, little endian, of sha256("phasevae1|purpose|identity").

    Parameters
    ----------
    purpose : str
        One of PURPOSES.
    identity : object
        What the stream belongs to; its `str` counts.

    Returns
    -------
    int
        Signed, 64 bits.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r}, must be one of {', '.join(PURPOSES)}")
    head = hashlib.sha256(f"phasevae1|{purpose}|{identity}".encode()).digest()[:8]
    return int.from_bytes(head, "little", signed=True)


def point_key(
    purpose: str, seed: int, sigma2: float, beta: float, beta_top: float | None = None, level: int = 1
) -> int:
    """Return the key of a point's stream; its identity is "seed,sigma2,beta" with the shortest exact floats.

    That of a hierarchy is "seed,sigma2,beta,beta_top,level", with a stream for each level of latents.
    """
    levels = "" if beta_top is None else f",{float(beta_top)!r},{int(level)}"
    return key(purpose, f"{int(seed)},{float(sigma2)!r},{float(beta)!r}{levels}")


def philox(keys: Tensor, counter: tuple[Tensor | int, Tensor | int, Tensor | int, Tensor | int]) -> list[Tensor]:
    """Compute Philox4x32-10: four random 32-bit words per counter.

    Parameters
    ----------
    keys : Tensor
        int64 of any shape.
    counter : four Tensors or ints
        32-bit words, broadcast against the keys.

    Returns
    -------
    list of four Tensors
        int64 of the broadcast shape, with values in [0, 2^32).
    """
    k0, k1 = keys & _MASK, (keys >> 32) & _MASK
    c0, c1, c2, c3 = (torch.as_tensor(word, dtype=torch.int64, device=keys.device) for word in counter)
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2^64, which leaves exactly the 64 bits of the unsigned product.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return [c0, c1, c2, c3]


def words(keys: Tensor, rows: Tensor, n: int, step: int | Tensor) -> Tensor:
    """Draw random 32-bit words for each stream and row.

    Parameters
    ----------
    keys : Tensor [M]
        int64, the streams.
    rows : Tensor [R]
        int64, row numbers.
    n : int
        Words per row.
    step : int, Tensor [] or Tensor [M]
        Which draw of the streams, or of each stream; a tensor is int64.

    Returns
    -------
    Tensor [M, R, n]
        int64.
    """
    blocks = torch.arange((n + 3) // 4, dtype=torch.int64, device=keys.device)
    step = step.view(-1, 1, 1) if isinstance(step, Tensor) else step
    counter = (blocks, rows[:, None], step & _MASK, step >> 32)
    return torch.stack(philox(keys[:, None, None], counter), dim=-1).flatten(2)[..., :n]


def uniforms(keys: Tensor, rows: Tensor, n: int, step: int | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw uniform numbers (word + 1/2) / 2^32 in (0, 1], since rounding can reach 1; arguments as in `words`."""
    return _unit(words(keys, rows, n, step), dtype)


def normals(keys: Tensor, rows: Tensor, n: int, step: int | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers by Box-Muller on consecutive pairs of uniforms; arguments as in `words`."""
    unit = _unit(words(keys, rows, 4 * ((n + 3) // 4), step), dtype).unflatten(-1, (-1, 2))
    if dtype == torch.float32:
        radius = float32.root(-2 * float32.log_positive(unit[..., 0]))
        cosine, sine = float32.cos_sin_turns(unit[..., 1])
    else:
        angle = unit[..., 1] * (2 * math.pi)
        radius, cosine, sine = (-2 * unit[..., 0].log()).sqrt_(), angle.cos(), angle.sin()
    return torch.stack((radius * cosine, radius * sine), dim=-1).flatten(-2)[..., :n]


def permutation(stream: int, epoch: int, n: int) -> Tensor:
    """Draw a permutation of range(n) on the CPU.

    Parameters
    ----------
    stream : int
        A key, as `key` returns it.
    epoch : int
        Which permutation of the stream.
    n : int
        Its length.

    Returns
    -------
    Tensor [n]
        int64.
    """
    keys = torch.tensor([stream], dtype=torch.int64)
    return words(keys, torch.zeros(1, dtype=torch.int64), n, epoch).flatten().argsort(stable=True)


def subset(stream: int, count: int, n: int) -> Tensor:
    """Draw different numbers of range(n) on the CPU.

    Parameters
    ----------
    stream : int
        A key, as `key` returns it.
    count : int
        How many; all n if there are fewer.
    n : int
        Up to LARGEST_PERMUTATION they are the first of `permutation`. Beyond that there is one of each of `count` equal
        parts of range(n), in ascending order: a permutation takes 120 bytes a number.

    Returns
    -------
    Tensor [count]
        int64.
    """
    if n <= LARGEST_PERMUTATION:
        return permutation(stream, 0, n)[:count]
    starts = torch.arange(count + 1) * n // count
    drawn = words(torch.tensor([stream]), torch.zeros(1, dtype=torch.int64), count, 0).flatten()
    return starts[:-1] + drawn % starts.diff()


def _unit(drawn: Tensor, dtype: torch.dtype) -> Tensor:
    return drawn.to(dtype).add_(0.5).mul_(2.0**-32)
