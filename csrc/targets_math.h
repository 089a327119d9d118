// Rao-Blackwellised targets and their control variate: formulas and the order of sums, shared by host and device.
//
// The target of a draw z is sum_b w_b x_b / sum_b w_b - v over the rows b of its group, with w_b = q(z | x_b) relative
// to the largest of them, and the control variate v of its half of the batch; see
// phasevae/training/variance_reduction.py.

#pragma once

#include "elbo_math.h"

namespace phasevae {

// Sums over the rows of a half, and the sum of the weights, are those of stripes (csrc/elbo_math.h). The products
// w_b x_b are summed in order.

// -1/2 over the variance.
template <class T>
PHASEVAE_INLINE T falloff(T logvar) {
  return T(-0.5) * exponential(-logvar);
}

// What a latent adds to log q(z | x_b), which starts with -1/2 the sum of the log variances, taken in order.
template <class T>
PHASEVAE_INLINE T log_density(T z, T mu, T falloff) {
  const T distance = z - mu;
  return distance * distance * falloff;
}

// The unexplained fraction of a feature's variance in one half times the deviation of the mean in the other half.
// squares: the sum of (x - mean)^2; products: that of (x - decoded)(x - mean); deviations: that of x - mean in the
// other half, of `rows` rows.
template <class T>
PHASEVAE_INLINE T control_variate(T squares, T products, T deviations, int64_t rows) {
  constexpr T kTiny = sizeof(T) == sizeof(float) ? T(0x1p-126) : T(0x1p-1022);
  const T unexplained = products / (squares < kTiny ? kTiny : squares);
  const T above = unexplained < T(0) ? T(0) : unexplained;
  return (above > T(1) ? T(1) : above) * (deviations / static_cast<T>(rows));
}

}  // namespace phasevae
