"""Elementary functions of float32 tensors as polynomials.

They are made of sums, products and square roots, which are rounded the same way everywhere, unlike the logarithm of a
library. csrc/elbo_math.h has the same polynomials in the same order, so PyTorch and the native kernels give the same
bits. Coefficients: Moshier, Cephes.
"""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

_SQRT_HALF = 0x3F3504F3
_MANTISSA = 0x007FFFFF
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_LOG2 = (0.693359375, -2.12194440e-4)  # log 2 in two parts, the first with few bits
_ROUND = 12582912.0  # 1.5 * 2^23: adding it leaves an integer in the low bits
_SERIES = tuple(1.0 / math.factorial(k) for k in range(12, 1, -1))


def log_positive(x: Tensor) -> Tensor:
    """Natural logarithm of positive normal numbers."""
    shifted = x.view(torch.int32) - _SQRT_HALF
    exponent = (shifted >> 23).to(x.dtype)
    f = ((shifted & _MANTISSA) + _SQRT_HALF).view(x.dtype) - 1.0
    f2 = f * f
    y = _polynomial(_LOG, f) * f * f2 + exponent * _LOG2[1] - f2 * 0.5
    return (f + y) + exponent * _LOG2[0]


def cos_sin_turns(u: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi u for u in [0, 1]."""
    quarter = (4.0 * u + 0.5).to(torch.int32)
    angle = (4.0 * u - quarter.to(u.dtype)) * (math.pi / 2)
    a2 = angle * angle
    sine = _polynomial(_SIN, a2) * a2 * angle + angle
    cosine = _polynomial(_COS, a2) * a2 * a2 - a2 * 0.5 + 1.0
    odd = (quarter & 1).bool()
    cosine, sine = torch.where(odd, sine, cosine), torch.where(odd, cosine, sine)
    return (
        torch.where(((quarter + 1) & 2).bool(), -cosine, cosine),
        torch.where((quarter & 2).bool(), -sine, sine),
    )


def root(x: Tensor) -> Tensor:
    """Square root, correctly rounded.

    That of float32 may be wrong by a bit, depending on the library of torch. The root in float64 cannot be: the root of
    a float32 number is never that close to the middle between two float32 numbers.
    """
    return x.double().sqrt_().to(x.dtype)


def exponential(x: Tensor) -> Tensor:
    """e^x, with 0 and infinity beyond the range; NaN stays NaN."""
    clamped = x.clamp(-104.0, 89.0)
    shifted = clamped * math.log2(math.e) + _ROUND
    exponent = shifted - _ROUND
    r = (clamped - exponent * _LOG2[0]) - exponent * _LOG2[1]
    y = _polynomial(_EXP, r) * r * r + r + 1.0
    # 2^exponent in two factors: each is a normal number even where the result is not.
    k = shifted.view(torch.int32) - _bits(_ROUND)
    half = k >> 1
    low, high = (((power + 127) << 23).view(x.dtype) for power in (half, k - half))
    return y * low * high


def width(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return e^(t/2), e^t - 1 - t without cancellation, and its derivative e^t - 1 for log variances t."""
    scale = exponential(0.5 * t)
    small = t.abs() < 1.0
    near = torch.where(small, t, 0.0)
    series = _polynomial(_SERIES, near) * near * near
    far = scale * scale - 1.0
    return scale, torch.where(small, series, far - t), torch.where(small, near + series, far)


def softplus(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln(1 + e^t) without cancellation, and its derivative."""
    e = exponential(-t.abs())
    u = 1.0 + e
    rounded = u - 1.0
    # ln(1 + e) with the digits of e that 1 + e has lost.
    log = torch.where(rounded == 0.0, e, log_positive(u) * (e / rounded))
    return t.clamp(min=0.0) + log, torch.where(t < 0.0, e, 1.0) / u


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Evaluate a polynomial from the highest power down, with one rounding for each product and each sum."""
    y = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        y = y.mul_(x).add_(coefficient)
    return y


def _bits(value: float) -> int:
    return struct.unpack("<i", struct.pack("<f", value))[0]
