// One row of a reconstruction term, for host and device.

#pragma once

#include "elbo_launch.h"
#include "elbo_math.h"

namespace phasevae {

template <class T>
struct Rows {
  int64_t model, draw, row;
  const T* x;
  const T* outputs;
};

// Row `at` of the M * A * B rows. Index: a type that holds their number.
template <class T, class Index>
PHASEVAE_INLINE Rows<T> rows_at(const Residual<T>& in, Index at) {
  const Index draws = static_cast<Index>(in.draws), rows = static_cast<Index>(in.rows);
  const Index draw = at / rows, model = draw / draws;
  const int64_t row = at - draw * rows, of_model = model;
  return {of_model, static_cast<int64_t>(draw - model * draws), row, in.x.data + of_model * in.x.model + row * in.x.row,
          in.outputs + static_cast<int64_t>(at) * in.features};
}

// The incoming gradient [M, A, B] over sigma2: the factor of Term::slope.
template <class T>
PHASEVAE_INLINE T slope(const Residual<T>& in, const ResidualGradient<T>& g, const Rows<T>& rows) {
  return g.nll.data[rows.model * g.nll.model + rows.draw * g.nll.row + rows.row * g.nll.column] / in.sigma2[rows.model];
}

}  // namespace phasevae
