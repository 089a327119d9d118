// Rao-Blackwellised targets for one thread's share: the weights of a few draws at a time, which stay in the cache.

#include <algorithm>
#include <limits>

#include "../targets_launch.h"
#include "../targets_math.h"
#include "vectors.h"

namespace phasevae::cpu {
namespace {

constexpr int kAtOnce = kDrawsAtOnce;
static_assert(kStripes == 16, "the padding of the scratch memory");

template <int N>
struct Count {
  static constexpr int value = N;
};

// Calls visit(first, width as a constant) for parts of the features that are as wide as a vector.
template <class Visit>
PHASEVAE_INLINE void for_each_part(int64_t features, const Visit& visit) {
  int64_t first = 0;
  for (; first + 16 <= features; first += 16) {
    visit(first, Count<16>());
  }
  if (first + 8 <= features) {
    visit(first, Count<8>());
    first += 8;
  }
  if (first + 4 <= features) {
    visit(first, Count<4>());
    first += 4;
  }
  for (; first < features; ++first) {
    visit(first, Count<1>());
  }
}

template <class V>
struct HalfSums {
  V squares, products, deviations;
};

// The sums of csrc/targets_math.h over the rows [begin, end) of a half, for `Width` features.
template <class T, int Width>
PHASEVAE_INLINE HalfSums<Vector<T, Width>> half_sums(const Targets<T>& in, int64_t model, int64_t feature,
                                                     int64_t begin, int64_t end) {
  using V = Vector<T, Width>;
  HalfSums<V> stripes[kStripes] = {};
  const V mean = load<V>(in.mean + feature);
  const T share = T(1) / static_cast<T>(in.draws);
  const int64_t draw = in.rows * in.features;
  const T* of_rows = in.x.data + model * in.x.model + feature;
  const T* decoded = in.decoded + model * in.draws * draw + feature;
  for (int64_t row = begin; row < end; ++row) {
    const V x = load<V>(of_rows + row * in.x.row);
    V average = load<V>(decoded + row * in.features);
    for (int64_t a = 1; a < in.draws; ++a) {
      average += load<V>(decoded + a * draw + row * in.features);
    }
    HalfSums<V>& sums = stripes[(row - begin) % kStripes];
    const V centred = x - mean;
    sums.squares += centred * centred;
    sums.products += (x - average * share) * centred;
    sums.deviations += centred;
  }
  for (int half = kStripes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      stripes[i].squares += stripes[i + half].squares;
      stripes[i].products += stripes[i + half].products;
      stripes[i].deviations += stripes[i + half].deviations;
    }
  }
  return stripes[0];
}

template <class T>
PHASEVAE_INLINE void find_variates(const Targets<T>& in, T* variates, int64_t begin, int64_t end) {
  if (!has_control_variate(in)) {
    std::fill(variates + begin * 2 * in.features, variates + end * 2 * in.features, T(0));
    return;
  }
  const int64_t split = first_half(in), after = in.rows - split;
  for (int64_t model = begin; model < end; ++model) {
    for_each_part(in.features, [&](int64_t feature, auto width) PHASEVAE_LAMBDA {
      constexpr int kWidth = width.value;
      const auto first = half_sums<T, kWidth>(in, model, feature, 0, split);
      const auto second = half_sums<T, kWidth>(in, model, feature, split, in.rows);
      T* to = variates + model * 2 * in.features + feature;
      for (int i = 0; i < kWidth; ++i) {
        to[i] = control_variate<T>(first.squares[i], first.products[i], second.deviations[i], after);
        to[in.features + i] = control_variate<T>(second.squares[i], second.products[i], first.deviations[i], split);
      }
    });
  }
}

// What log q(z | x_b) needs of the rows b of a group, [n, pitch] and [pitch]; zero probability beyond the group.
template <class T>
struct GroupDensity {
  T *mu, *falloff, *constant;
  int64_t pitch;
};

template <class T>
PHASEVAE_INLINE void transpose_group(const Targets<T>& in, int64_t model, int64_t row, const GroupDensity<T>& to) {
  const T* mu = in.mu.data + model * in.mu.model + row * in.mu.row;
  const T* logvar = in.logvar.data + model * in.logvar.model + row * in.logvar.row;
  std::fill_n(to.constant, to.pitch, T(0));
  for (int64_t k = 0; k < in.latents; ++k) {
    T* __restrict of_mu = to.mu + k * to.pitch;
    T* __restrict of_falloff = to.falloff + k * to.pitch;
    for (int64_t b = 0; b < in.group; ++b) {
      of_mu[b] = mu[b * in.mu.row + k * in.mu.column];
      of_falloff[b] = logvar[b * in.logvar.row + k * in.logvar.column];
    }
    std::fill(of_mu + in.group, of_mu + to.pitch, T(0));
    std::fill(of_falloff + in.group, of_falloff + to.pitch, T(0));
    T* __restrict constant = to.constant;
#pragma omp simd
    for (int64_t b = 0; b < to.pitch; ++b) {
      constant[b] += of_falloff[b];
      of_falloff[b] = falloff(of_falloff[b]);
    }
  }
#pragma omp simd
  for (int64_t b = 0; b < to.pitch; ++b) {
    to.constant[b] *= T(-0.5);
  }
  std::fill(to.constant + in.group, to.constant + to.pitch, -std::numeric_limits<T>::infinity());
}

// The weights of the rows of a group for the draw z [n]; returns one over their sum.
template <class T>
PHASEVAE_INLINE T weigh(const GroupDensity<T>& rows, int64_t latents, const T* z, T* __restrict weights) {
  using V = Vector<T, kStripes>;
  V largest = V{} - std::numeric_limits<T>::infinity();
  for (int64_t b = 0; b < rows.pitch; b += kStripes) {
    V logit = load<V>(rows.constant + b);
    for (int64_t k = 0; k < latents; ++k) {
      const V distance = z[k] - load<V>(rows.mu + k * rows.pitch + b);
      logit += distance * distance * load<V>(rows.falloff + k * rows.pitch + b);
    }
    store(weights + b, logit);
    largest = logit > largest ? logit : largest;
  }
  T most = largest[0];
  for (int i = 1; i < kStripes; ++i) {
    most = largest[i] > most ? largest[i] : most;
  }
  T stripes[kStripes] = {};
  for (int64_t b = 0; b < rows.pitch; b += kStripes) {
#pragma omp simd
    for (int i = 0; i < kStripes; ++i) {
      weights[b + i] = exponential(weights[b + i] - most);
      stripes[i] += weights[b + i];
    }
  }
  return T(1) / sum_of_stripes(stripes);
}

// The targets of `Draws` draws that lie behind each other: the averages of the rows of a group, less the variate.
template <int Draws, class T>
PHASEVAE_INLINE void average(const Targets<T>& in, const T* x, const T* variate, const T* weights, int64_t pitch,
                             const T* scale, T* to) {
  for_each_part(in.features, [&](int64_t feature, auto width) PHASEVAE_LAMBDA {
    using V = Vector<T, width.value>;
    V sums[Draws] = {};
    for (int64_t b = 0; b < in.group; ++b) {
      const V row = load<V>(x + b * in.x.row + feature);
      PHASEVAE_UNROLL
      for (int r = 0; r < Draws; ++r) {
        sums[r] += weights[r * pitch + b] * row;
      }
    }
    const V less = load<V>(variate + feature);
    PHASEVAE_UNROLL
    for (int r = 0; r < Draws; ++r) {
      store(to + r * in.features + feature, sums[r] * scale[r] - less);
    }
  });
}

template <class T>
PHASEVAE_INLINE void average_groups(const Targets<T>& in, const T* variates, T* scratch, int64_t begin, int64_t end) {
  const int64_t pitch = (in.group + kStripes - 1) / kStripes * kStripes, groups = in.rows / in.group;
  const GroupDensity<T> density{scratch, scratch + in.latents * pitch, scratch + 2 * in.latents * pitch, pitch};
  T* const weights = density.constant + pitch;
  for (int64_t at = begin; at < end; ++at) {
    const int64_t model = at / groups, first = at % groups * in.group;
    const T* x = in.x.data + model * in.x.model + first * in.x.row;
    const T* variate = variates + (2 * model + (first < first_half(in) ? 0 : 1)) * in.features;
    transpose_group(in, model, first, density);
    for (int64_t draw = 0; draw < in.draws; ++draw) {
      for (int64_t row = 0; row < in.group; row += kAtOnce) {
        const int64_t count = std::min<int64_t>(kAtOnce, in.group - row);
        const int64_t place = (model * in.draws + draw) * in.rows + first + row;
        T scale[kAtOnce];
        for (int64_t r = 0; r < count; ++r) {
          scale[r] = weigh(density, in.latents, in.z + (place + r) * in.latents, weights + r * pitch);
        }
        T* to = in.targets + place * in.features;
        if (count == kAtOnce) {
          average<kAtOnce>(in, x, variate, weights, pitch, scale, to);
          continue;
        }
        for (int64_t r = 0; r < count; ++r) {
          average<1>(in, x, variate, weights + r * pitch, pitch, scale + r, to + r * in.features);
        }
      }
    }
  }
}

}  // namespace

#define PHASEVAE_TARGETS(T, CLONES)                                                                      \
  CLONES void control_variates(const Targets<T>& in, T* variates, int64_t begin, int64_t end) {          \
    find_variates(in, variates, begin, end);                                                             \
  }                                                                                                      \
  CLONES void targets(const Targets<T>& in, const T* variates, T* scratch, int64_t begin, int64_t end) { \
    average_groups(in, variates, scratch, begin, end);                                                   \
  }

PHASEVAE_TARGETS(float, PHASEVAE_CLONES)
PHASEVAE_TARGETS(double, )

#undef PHASEVAE_TARGETS

}  // namespace phasevae::cpu
