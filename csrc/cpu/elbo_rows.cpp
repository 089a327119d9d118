// The CPU kernels for one thread's share of the rows, in chunks that stay in the first-level cache.
//
// Each float kernel is compiled for several instruction sets; the processor decides at the first call.

#include <algorithm>

#include "../elbo_launch.h"
#include "../elbo_math.h"
#include "../elbo_residual.h"
#include "vectorised.h"

namespace phasevae::cpu {
namespace {

constexpr int64_t kCounters = 128;
constexpr int64_t kChunk = kCounters * kWordsPerCounter;

// A part of one model's [B, n]: whole rows, or a part of one row where a row is longer than a chunk.
struct Chunk {
  int64_t model, row, n_rows, column, n_columns;

  int64_t size() const { return n_rows * n_columns; }
};

// The chunks of rows [begin, end), numbered through all models, in order.
template <class Visit>
PHASEVAE_INLINE void for_each_chunk(int64_t rows, int64_t columns, int64_t begin, int64_t end, const Visit& visit) {
  const int64_t blocks = (columns + kWordsPerCounter - 1) / kWordsPerCounter;
  const int64_t rows_at_once = std::max<int64_t>(1, kCounters / blocks);
  for (int64_t at = begin; at < end;) {
    const int64_t model = at / rows, row = at % rows;
    const int64_t n_rows = std::min({rows_at_once, end - at, rows - row});
    for (int64_t column = 0; column < columns; column += kChunk) {
      visit(Chunk{model, row, n_rows, column, std::min(kChunk, columns - column)});
    }
    at += n_rows;
  }
}

// The chunk of a view as contiguous numbers: in place if it is contiguous, else gathered into `buffer`.
template <class T>
PHASEVAE_INLINE const T* contiguous(const View<T>& view, const Chunk& chunk, T* buffer) {
  const T* source = view.data + chunk.model * view.model + chunk.row * view.row + chunk.column * view.column;
  if (view.column == 1 && (chunk.n_rows == 1 || view.row == chunk.n_columns)) {
    return source;
  }
  for (int64_t row = 0; row < chunk.n_rows; ++row) {
    for (int64_t i = 0; i < chunk.n_columns; ++i) {
      buffer[row * chunk.n_columns + i] = source[row * view.row + i * view.column];
    }
  }
  return buffer;
}

// The chunk's noise, contiguous.
template <class T>
PHASEVAE_INLINE void draw(const Stream& stream, const Chunk& chunk, T* __restrict eps) {
  const uint64_t key = static_cast<uint64_t>(stream.keys[chunk.model]);
  const int64_t on_device = stream.device_steps ? stream.device_steps[chunk.model * stream.stride] : 0;
  const uint64_t step = static_cast<uint64_t>(stream.step + on_device);
  const int64_t blocks = (chunk.n_columns + kWordsPerCounter - 1) / kWordsPerCounter;
  const int64_t count = chunk.n_rows * blocks;
  uint32_t w0[kCounters], w1[kCounters], w2[kCounters], w3[kCounters];
  for (int64_t row = 0, q = 0; row < chunk.n_rows; ++row) {
    for (int64_t block = 0; block < blocks; ++block, ++q) {
      w0[q] = static_cast<uint32_t>(chunk.column / kWordsPerCounter + block);
      w1[q] = static_cast<uint32_t>(chunk.row + row);
    }
  }
  const uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  const uint32_t s0 = static_cast<uint32_t>(step), s1 = static_cast<uint32_t>(step >> 32);
  uint64_t m0 = kPhilox0, m1 = kPhilox1;
  // A compiler that knows the factors replaces the products by sums of shifts, which are slower.
  asm("" : "+r"(m0), "+r"(m1));
#pragma omp simd
  for (int64_t q = 0; q < count; ++q) {
    uint64_t c0 = w0[q], c1 = w1[q], c2 = s0, c3 = s1;
    philox(c0, c1, c2, c3, k0, k1, m0, m1);
    w0[q] = static_cast<uint32_t>(c0), w1[q] = static_cast<uint32_t>(c1);
    w2[q] = static_cast<uint32_t>(c2), w3[q] = static_cast<uint32_t>(c3);
  }
#pragma omp simd
  for (int64_t q = 0; q < count; ++q) {
    T e0, e1, e2, e3;
    box_muller(w0[q], w1[q], e0, e1);
    box_muller(w2[q], w3[q], e2, e3);
    eps[4 * q] = e0, eps[4 * q + 1] = e1, eps[4 * q + 2] = e2, eps[4 * q + 3] = e3;
  }
  const int64_t drawn = blocks * kWordsPerCounter;
  for (int64_t row = 1; row < chunk.n_rows && drawn != chunk.n_columns; ++row) {
    std::copy_n(eps + row * drawn, chunk.n_columns, eps + row * chunk.n_columns);
  }
}

template <class T>
PHASEVAE_INLINE void sample(const Posterior<T>& in, const Sample<T>& out, int64_t begin, int64_t end) {
  for_each_chunk(in.rows, in.latents, begin, end, [&](const Chunk& chunk) __attribute__((always_inline)) {
    T eps[kChunk], mu_buffer[kChunk], logvar_buffer[kChunk];
    draw(in.stream, chunk, eps);
    const T* __restrict mu = contiguous(in.mu, chunk, mu_buffer);
    const T* __restrict logvar = contiguous(in.logvar, chunk, logvar_buffer);
    const int64_t model_size = in.rows * in.latents, inside = chunk.row * in.latents + chunk.column;
    T* __restrict kl = out.kl + chunk.model * model_size + inside;
    T* __restrict plus = out.z + chunk.model * in.draws * model_size + inside;
    const int64_t size = chunk.size();
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) {
      const Width<T> w = width(logvar[i]);
      eps[i] *= w.scale;
      plus[i] = mu[i] + eps[i];
      kl[i] = T(0.5) * (mu[i] * mu[i] + w.excess);
    }
    if (in.draws == 2) {
      T* __restrict minus = plus + model_size;
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        minus[i] = mu[i] - eps[i];
      }
    }
  });
}

template <class T>
PHASEVAE_INLINE void differentiate(const Sampled<T>& in, const SampleGradient<T>& g, int64_t begin, int64_t end) {
  for_each_chunk(in.rows, in.latents, begin, end, [&](const Chunk& chunk) __attribute__((always_inline)) {
    T mu_buffer[kChunk], logvar_buffer[kChunk], sample_buffer[kChunk], z_buffer[2][kChunk], kl_buffer[kChunk];
    const T* __restrict mu = contiguous(in.mu, chunk, mu_buffer);
    const T* __restrict logvar = contiguous(in.logvar, chunk, logvar_buffer);
    const T* __restrict z = contiguous(in.z, chunk, sample_buffer);
    const T* __restrict g_plus = contiguous(g.z[0], chunk, z_buffer[0]);
    const T* __restrict g_kl = contiguous(g.kl, chunk, kl_buffer);
    const int64_t size = chunk.size();
    const int64_t offset = (chunk.model * in.rows + chunk.row) * in.latents + chunk.column;
    T* __restrict mu_out = g.mu + offset;
    T* __restrict logvar_out = g.logvar + offset;
    if (in.draws == 2) {
      const T* __restrict g_minus = contiguous(g.z[1], chunk, z_buffer[1]);
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        mu_out[i] = g_plus[i] + g_minus[i] + g_kl[i] * mu[i];
        logvar_out[i] = T(0.5) * ((g_plus[i] - g_minus[i]) * (z[i] - mu[i]) + g_kl[i] * width(logvar[i]).slope);
      }
    } else {
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        mu_out[i] = g_plus[i] + g_kl[i] * mu[i];
        logvar_out[i] = T(0.5) * (g_plus[i] * (z[i] - mu[i]) + g_kl[i] * width(logvar[i]).slope);
      }
    }
  });
}

template <class T>
PHASEVAE_INLINE void draw_all(const Stream& in, int64_t rows, int64_t latents, T* out, int64_t begin, int64_t end) {
  for_each_chunk(rows, latents, begin, end, [&](const Chunk& chunk) __attribute__((always_inline)) {
    T eps[kChunk];
    draw(in, chunk, eps);
    std::copy_n(eps, chunk.size(), out + (chunk.model * rows + chunk.row) * latents + chunk.column);
  });
}

template <class Term, class T>
PHASEVAE_INLINE void sum_terms(const Residual<T>& in, T* nll, int64_t begin, int64_t end) {
  for (int64_t at = begin; at < end; ++at) {
    const Rows<T> rows = rows_at(in, at);
    const T* __restrict x = rows.x;
    const T* __restrict outputs = rows.outputs;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < in.features; ++i) {
      sum += Term::value(x[i], outputs[i]);
    }
    nll[at] = Term::scaled(sum, in.sigma2[rows.model]);
  }
}

template <class Term, class T>
PHASEVAE_INLINE void differentiate_terms(const Residual<T>& in, const ResidualGradient<T>& g, int64_t begin,
                                         int64_t end) {
  for (int64_t at = begin; at < end; ++at) {
    const Rows<T> rows = rows_at(in, at);
    const T* __restrict x = rows.x;
    const T* __restrict outputs = rows.outputs;
    T* __restrict out = g.outputs + at * in.features;
    const T factor = slope(in, g, rows);
#pragma omp simd
    for (int64_t i = 0; i < in.features; ++i) {
      out[i] = factor * Term::slope(x[i], outputs[i]);
    }
  }
}

template <class T>
PHASEVAE_INLINE void average(const Values<T>& in, T* means, int64_t begin, int64_t end) {
  for (int64_t model = begin; model < end; ++model) {
    const T* __restrict values = in.data + model * in.size;
    T stripes[kStripes] = {};
    int64_t first = 0;
    for (; first + kStripes <= in.size; first += kStripes) {
#pragma omp simd
      for (int i = 0; i < kStripes; ++i) {
        stripes[i] += values[first + i];
      }
    }
    for (int i = 0; first + i < in.size; ++i) {
      stripes[i] += values[first + i];
    }
    means[model] = sum_of_stripes(stripes) / static_cast<T>(in.rows);
  }
}

}  // namespace

#define PHASEVAE_TERM(Term, T, CLONES)                                                                              \
  CLONES void nll(Term, const Residual<T>& in, T* nll, int64_t begin, int64_t end) {                                \
    sum_terms<Term>(in, nll, begin, end);                                                                           \
  }                                                                                                                 \
  CLONES void nll_backward(Term, const Residual<T>& in, const ResidualGradient<T>& g, int64_t begin, int64_t end) { \
    differentiate_terms<Term>(in, g, begin, end);                                                                   \
  }

#define PHASEVAE_KERNELS(T, CLONES)                                                                               \
  CLONES void reparam_kl(const Posterior<T>& in, const Sample<T>& out, int64_t begin, int64_t end) {              \
    sample(in, out, begin, end);                                                                                  \
  }                                                                                                               \
  CLONES void reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& g, int64_t begin, int64_t end) { \
    differentiate(in, g, begin, end);                                                                             \
  }                                                                                                               \
  CLONES void normals(const Stream& in, int64_t rows, int64_t n, T* eps, int64_t begin, int64_t end) {            \
    draw_all(in, rows, n, eps, begin, end);                                                                       \
  }                                                                                                               \
  CLONES void mean_over_rows(const Values<T>& in, T* means, int64_t begin, int64_t end) {                         \
    average(in, means, begin, end);                                                                               \
  }                                                                                                               \
  PHASEVAE_TERM(Gaussian, T, CLONES)                                                                              \
  PHASEVAE_TERM(Bernoulli, T, CLONES)

PHASEVAE_KERNELS(float, PHASEVAE_CLONES)
PHASEVAE_KERNELS(double, )

#undef PHASEVAE_KERNELS
#undef PHASEVAE_TERM

}  // namespace phasevae::cpu
