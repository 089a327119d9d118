// The rows of a residual, for host and device.

#pragma once

#include "elbo_launch.h"
#include "elbo_math.h"

namespace phasevae {

// One row of x and xhat.
template <class T>
struct Rows {
  int64_t model, draw, row;
  const T* x;
  const T* xhat;
};

template <class T>
PHASEVAE_INLINE Rows<T> rows_at(const Residual<T>& in, int64_t at) {
  const int64_t model = at / (in.draws * in.rows), row = at % in.rows;
  return {model, at / in.rows % in.draws, row, in.x.data + model * in.x.model + row * in.x.row,
          in.xhat + at * in.features};
}

// The incoming gradient [M, A, B] over sigma2: the factor of (xhat - x) in the derivative of |x - xhat|^2 / (2 sigma2),
// and of (chance - x) in that of a cross entropy.
template <class T>
PHASEVAE_INLINE T slope(const Residual<T>& in, const ResidualGradient<T>& g, const Rows<T>& rows) {
  return g.nll.data[rows.model * g.nll.model + rows.draw * g.nll.row + rows.row * g.nll.column] / in.sigma2[rows.model];
}

}  // namespace phasevae
