// The formulas of the ELBO operations, shared by host and device.
//
// float uses polynomials without branches or calls: a loop over them becomes SIMD code, and host and device round the
// same way. double, which is not used for training, calls the C library. Coefficients: Moshier, Cephes.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define PHASEVAE_INLINE __host__ __device__ __forceinline__
#else
#define PHASEVAE_INLINE inline __attribute__((always_inline))
#endif

namespace phasevae {

PHASEVAE_INLINE int32_t bits_of(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

PHASEVAE_INLINE float float_of(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// ---- Random numbers: Philox4x32-10 (Salmon et al. 2011) and Box-Muller, as defined in phasevae/kernels/noise.py ----

constexpr int kWordsPerCounter = 4;

constexpr uint64_t kPhilox0 = 0xD2511F53u;
constexpr uint64_t kPhilox1 = 0xCD9E8D57u;

// A Lane is an unsigned integer whose low 32 bits are the word: 64-bit lanes save a SIMD unit all shuffling.
template <class Lane>
PHASEVAE_INLINE void philox(Lane& c0, Lane& c1, Lane& c2, Lane& c3, uint32_t k0, uint32_t k1,
                            uint64_t multiplier0 = kPhilox0, uint64_t multiplier1 = kPhilox1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = multiplier0 * static_cast<uint32_t>(c0);
    const uint64_t p1 = multiplier1 * static_cast<uint32_t>(c2);
    c0 = static_cast<Lane>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<Lane>(p1);
    c2 = static_cast<Lane>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<Lane>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// In (0, 1]; rounding can reach 1.
template <class T>
PHASEVAE_INLINE T unit(uint32_t word) {
  return (static_cast<T>(word) + T(0.5)) * T(0x1p-32);
}

// Natural logarithm of a positive normal number.
PHASEVAE_INLINE float log_positive(float x) {
  constexpr int32_t kSqrtHalf = 0x3f3504f3;
  const int32_t shifted = bits_of(x) - kSqrtHalf;
  const float exponent = static_cast<float>(shifted >> 23);
  const float f = float_of((shifted & 0x007fffff) + kSqrtHalf) - 1.0f;  // x = 2^exponent (1 + f)
  const float f2 = f * f;
  float y = 7.0376836292e-2f;
  y = y * f - 1.1514610310e-1f;
  y = y * f + 1.1676998740e-1f;
  y = y * f - 1.2420140846e-1f;
  y = y * f + 1.4249322787e-1f;
  y = y * f - 1.6668057665e-1f;
  y = y * f + 2.0000714765e-1f;
  y = y * f - 2.4999993993e-1f;
  y = y * f + 3.3333331174e-1f;
  y = y * f * f2 - 2.12194440e-4f * exponent - 0.5f * f2;
  return (f + y) + 0.693359375f * exponent;
}

PHASEVAE_INLINE double log_positive(double x) { return std::log(x); }

// cos and sin of 2 pi u for u in [0, 1]: the quarter turn is split off exactly.
PHASEVAE_INLINE void cos_sin_turns(float u, float& cosine, float& sine) {
  const int32_t quarter = static_cast<int32_t>(4.0f * u + 0.5f);
  const float angle = (4.0f * u - static_cast<float>(quarter)) * 1.57079632679f;
  const float a2 = angle * angle;
  const float s = ((-1.9515295891e-4f * a2 + 8.3321608736e-3f) * a2 - 1.6666654611e-1f) * a2 * angle + angle;
  const float c =
      ((2.443315711809948e-5f * a2 - 1.388731625493765e-3f) * a2 + 4.166664568298827e-2f) * a2 * a2 - 0.5f * a2 + 1.0f;
  const bool odd = quarter & 1;
  cosine = odd ? s : c;
  sine = odd ? c : s;
  cosine = (quarter + 1) & 2 ? -cosine : cosine;
  sine = quarter & 2 ? -sine : sine;
}

PHASEVAE_INLINE void cos_sin_turns(double u, double& cosine, double& sine) {
  const double angle = u * 6.283185307179586;
  cosine = std::cos(angle);
  sine = std::sin(angle);
}

template <class T>
PHASEVAE_INLINE void box_muller(uint32_t first, uint32_t second, T& a, T& b) {
  const T radius = std::sqrt(T(-2) * log_positive(unit<T>(first)));
  T cosine, sine;
  cos_sin_turns(unit<T>(second), cosine, sine);
  a = radius * cosine;
  b = radius * sine;
}

// ---- The posterior's width and its KL divergence ----

// e^x for every float, with 0 and infinity beyond the range; NaN stays NaN.
PHASEVAE_INLINE float exponential(float x) {
  const float above = x > 89.0f ? 89.0f : x;
  const float clamped = above < -104.0f ? -104.0f : above;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float shifted = clamped * 1.44269504088896341f + kRound;
  const float exponent = shifted - kRound;
  const float r = (clamped - exponent * 0.693359375f) + exponent * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  // 2^exponent in two factors: each is a normal number even where the result is not.
  const int32_t k = bits_of(shifted) - bits_of(kRound);
  const int32_t half = k >> 1;
  const float low = float_of(static_cast<int32_t>(static_cast<uint32_t>(half + 127) << 23));
  const float high = float_of(static_cast<int32_t>(static_cast<uint32_t>(k - half + 127) << 23));
  return y * low * high;
}

PHASEVAE_INLINE double exponential(double x) { return std::exp(x); }

PHASEVAE_INLINE constexpr double factorial(int n) { return n < 2 ? 1.0 : n * factorial(n - 1); }

// sum over k = First..Last of t^(k - First) / k!
template <class T, int First, int Last>
PHASEVAE_INLINE T taylor(T t) {
  constexpr T coefficient = static_cast<T>(1.0 / factorial(First));
  if constexpr (First == Last) {
    return coefficient;
  } else {
    return taylor<T, First + 1, Last>(t) * t + coefficient;
  }
}

// For a log variance t: e^(t/2), e^t - 1 - t without cancellation, and its derivative e^t - 1.
template <class T>
struct Width {
  T scale, excess, slope;
};

PHASEVAE_INLINE Width<float> width(float t) {
  const float scale = exponential(0.5f * t);
  const bool small = t > -1.0f && t < 1.0f;
  const float near = small ? t : 0.0f;
  const float series = taylor<float, 2, 12>(near) * near * near;
  const float far = scale * scale - 1.0f;
  return {scale, small ? series : far - t, small ? near + series : far};
}

PHASEVAE_INLINE Width<double> width(double t) {
  const double slope = std::expm1(t);
  const bool small = t > -0.5 && t < 0.5;
  return {std::exp(0.5 * t), small ? taylor<double, 2, 14>(t) * t * t : slope - t, slope};
}

// ---- The cross entropy of logits ----

// ln(1 + e^x) without cancellation, and its derivative.
template <class T>
struct Softplus {
  T value, slope;
};

PHASEVAE_INLINE Softplus<float> softplus(float x) {
  const float e = exponential(x < 0.0f ? x : -x);
  const float u = 1.0f + e, rounded = u - 1.0f;
  // ln(1 + e) with the digits of e that 1 + e has lost.
  const float log = rounded == 0.0f ? e : log_positive(u) * (e / rounded);
  return {(x > 0.0f ? x : 0.0f) + log, (x < 0.0f ? e : 1.0f) / u};
}

PHASEVAE_INLINE Softplus<double> softplus(double x) {
  const double e = std::exp(x < 0.0 ? x : -x);
  return {(x > 0.0 ? x : 0.0) + std::log1p(e), (x < 0.0 ? e : 1.0) / (1.0 + e)};
}

// ---- Long sums ----

// Number i of a sum belongs to stripe i % kStripes. The sum of a stripe is taken in order, then `sum_of_stripes` adds
// the stripes.
constexpr int kStripes = 16;

// Adds the stripes pairwise: the first half of them and the second, until one is left. Changes them.
template <class T>
PHASEVAE_INLINE T sum_of_stripes(T* stripes) {
  for (int half = kStripes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      stripes[i] += stripes[i + half];
    }
  }
  return stripes[0];
}

// ---- Reconstruction terms: a sum over features of one row, over sigma2 ----

// |x - mean|^2 / (2 sigma2).
struct Gaussian {
  static constexpr const char* kName = "gaussian_nll";

  template <class T>
  PHASEVAE_INLINE static T value(T x, T mean) {
    const T residual = mean - x;
    return residual * residual;
  }

  template <class T>
  PHASEVAE_INLINE static T slope(T x, T mean) {
    return mean - x;
  }

  template <class T>
  PHASEVAE_INLINE static T scaled(T sum, T sigma2) {
    return T(0.5) / sigma2 * sum;
  }
};

// The cross entropy of logits, over sigma2.
struct Bernoulli {
  static constexpr const char* kName = "bernoulli_nll";

  template <class T>
  PHASEVAE_INLINE static T value(T x, T logit) {
    return softplus(logit).value - x * logit;
  }

  template <class T>
  PHASEVAE_INLINE static T slope(T x, T logit) {
    return softplus(logit).slope - x;
  }

  template <class T>
  PHASEVAE_INLINE static T scaled(T sum, T sigma2) {
    return sum / sigma2;
  }
};

// ---- Adam (Kingma & Ba 2015), as in torch.optim.Adam ----

// Factors of the update that follows `steps_done` others. The gains are 1 - beta, subtracted in double: rounding 0.999
// to float first would change the difference by 1e-5 of its value. The correction of the second moment is a factor of
// the step and of epsilon, which saves a division for each number. The rate is rounded to T, as torch's fused Adam does
// on CUDA.
template <class T>
struct AdamFactors {
  T gain1, beta2, gain2, step_size, epsilon;
};

template <class T>
PHASEVAE_INLINE AdamFactors<T> adam_factors(double rate, double beta1, double beta2, double epsilon,
                                            int64_t steps_done) {
  const double t = static_cast<double>(steps_done) + 1.0;
  const double root_of_correction = std::sqrt(1.0 - std::pow(beta2, t));
  return {static_cast<T>(1.0 - beta1), static_cast<T>(beta2), static_cast<T>(1.0 - beta2),
          static_cast<T>(static_cast<T>(rate) / (1.0 - std::pow(beta1, t)) * root_of_correction),
          static_cast<T>(epsilon * root_of_correction)};
}

// The operations of adam_math.h on numbers.
template <class T>
PHASEVAE_INLINE T cut_off(T moment, T least) {
  return std::abs(moment) < least ? T(0) : moment;
}

template <class T>
PHASEVAE_INLINE T root(T a) {
  return std::sqrt(a);
}

#include "adam_math.h"

}  // namespace phasevae
