// Moment-matched noise for one thread's share of the models, in chunks of rows that stay in the first-level cache.

#include <algorithm>

#include "../elbo_launch.h"
#include "../moments_math.h"
#include "vectors.h"

namespace phasevae::cpu {
namespace {

constexpr int64_t kChunk = 1024;  // numbers

// Some rows of a model: mean and deviation, contiguous.
template <class T>
struct Rows {
  int64_t first, count;
  T mu[kChunk], deviation[kChunk];
};

template <class T>
PHASEVAE_INLINE void read(const Matching<T>& in, int64_t model, int64_t first, Rows<T>& rows) {
  const int64_t n = in.latents;
  rows.first = first;
  rows.count = std::min(kChunk / n, in.rows - first);
  const T* mu = in.mu.data + model * in.mu.model + first * in.mu.row;
  const T* logvar = in.logvar.data + model * in.logvar.model + first * in.logvar.row;
  for (int64_t row = 0; row < rows.count; ++row) {
    for (int64_t k = 0; k < n; ++k) {
      rows.mu[row * n + k] = mu[row * in.mu.row + k * in.mu.column];
      rows.deviation[row * n + k] = logvar[row * in.logvar.row + k * in.logvar.column];
    }
  }
#pragma omp simd
  for (int64_t i = 0; i < rows.count * n; ++i) {
    rows.deviation[i] = deviation(rows.deviation[i]);
  }
}

template <class T>
PHASEVAE_INLINE void noise(const Matching<T>& in, int64_t model, int64_t draw, const Rows<T>& rows, T* __restrict eps) {
  const T* __restrict z = in.z + ((model * in.draws + draw) * in.rows + rows.first) * in.latents;
#pragma omp simd
  for (int64_t i = 0; i < rows.count * in.latents; ++i) {
    eps[i] = (z[i] - rows.mu[i]) / rows.deviation[i];
  }
}

// c = a b for matrices [n, n] with rows of `Width` numbers.
template <int Width, class T>
PHASEVAE_INLINE void multiply(const T* a, const T* b, int64_t n, T* c) {
  for (int64_t i = 0; i < n; ++i) {
    Vector<T, Width> sum = {};
    for (int64_t k = 0; k < n; ++k) {
      sum += a[i * Width + k] * load<Vector<T, Width>>(b + k * Width);
    }
    store(c + i * Width, sum);
  }
}

// C^(-1/2) of one model, with the sums of csrc/moments_math.h. A row of a matrix [n, n] is a vector; the numbers beyond
// its first n are never used.
template <int Width, class T>
PHASEVAE_INLINE void inverse_root(const Matching<T>& in, int64_t model, Rows<T>& rows, T* inverse) {
  using V = Vector<T, Width>;
  constexpr int kEntries = Width * Width;
  const int64_t n = in.latents, stripes = stripes_of(static_cast<int>(n)), entries = n * Width;
  T partial[kMomentThreads * 4] = {}, root[kEntries], step[kEntries], next[kEntries], eps[kChunk + Width];
  std::fill(eps + kChunk, eps + kChunk + Width, T(0));
  for (int64_t first = 0, stripe = 0; first < in.rows; first += rows.count) {
    read(in, model, first, rows);
    noise(in, model, 0, rows, eps);
    for (int64_t row = 0; row < rows.count; ++row, stripe = stripe + 1 == stripes ? 0 : stripe + 1) {
      T* sums = partial + stripe * entries;
      const T* e = eps + row * n;
      const V others = load<V>(e);
      for (int64_t i = 0; i < n; ++i) {
        store(sums + i * Width, load<V>(sums + i * Width) + e[i] * others);
      }
    }
  }
  for (int64_t s = 1; s < stripes; ++s) {
    for (int64_t i = 0; i < entries; ++i) {
      partial[i] += partial[s * entries + i];
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < Width; ++j) {
      root[i * Width + j] = partial[i * Width + j] / static_cast<T>(in.rows);
      inverse[i * Width + j] = i == j ? T(1) : T(0);
    }
  }
  for (int iteration = 0; iteration < kNewtonSchulzSteps; ++iteration) {
    multiply<Width>(inverse, root, n, next);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < Width; ++j) {
        step[i * Width + j] = newton_schulz(i == j, next[i * Width + j]);
      }
    }
    multiply<Width>(root, step, n, next);
    std::copy_n(next, entries, root);
    multiply<Width>(step, inverse, n, next);
    std::copy_n(next, entries, inverse);
  }
}

template <int Width, class T>
PHASEVAE_INLINE void match_model(const Matching<T>& in, int64_t model) {
  using V = Vector<T, Width>;
  const int64_t n = in.latents;
  Rows<T> rows;
  T inverse[Width * Width], eps[kChunk], matched[kChunk + Width];
  inverse_root<Width>(in, model, rows, inverse);
  for (int64_t first = 0; first < in.rows; first += rows.count) {
    read(in, model, first, rows);
    for (int64_t draw = 0; draw < in.draws; ++draw) {
      noise(in, model, draw, rows, eps);
      for (int64_t row = 0; row < rows.count; ++row) {
        V sum = {};
        for (int64_t k = 0; k < n; ++k) {
          sum += eps[row * n + k] * load<V>(inverse + k * Width);
        }
        // Beyond its first n numbers this is overwritten by the next row.
        store(matched + row * n, sum);
      }
      T* __restrict out = in.matched + ((model * in.draws + draw) * in.rows + first) * n;
#pragma omp simd
      for (int64_t i = 0; i < rows.count * n; ++i) {
        out[i] = rows.mu[i] + rows.deviation[i] * matched[i];
      }
    }
  }
}

template <class T>
PHASEVAE_INLINE void match(const Matching<T>& in, int64_t begin, int64_t end) {
  for (int64_t model = begin; model < end && in.latents > 0; ++model) {
    if (in.latents <= 4) {
      match_model<4>(in, model);
    } else if (in.latents <= 8) {
      match_model<8>(in, model);
    } else {
      match_model<kMostMatched>(in, model);
    }
  }
}

}  // namespace

PHASEVAE_CLONES void match_moments(const Matching<float>& in, int64_t begin, int64_t end) { match(in, begin, end); }
void match_moments(const Matching<double>& in, int64_t begin, int64_t end) { match(in, begin, end); }

}  // namespace phasevae::cpu
