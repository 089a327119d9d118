// The kernels of the networks for processors with AVX2.

#include <cstring>

#include "../mlp_launch.h"
#include "vectorised.h"

#ifdef PHASEVAE_VECTORISED

#include <immintrin.h>

// Up to the end of the file, where the templates are instantiated.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#else
#pragma GCC target("arch=x86-64-v3")
#endif

namespace phasevae::cpu {
namespace {

using V = __m256;
constexpr int64_t kLanes = 8;
constexpr int kTileVectors = 3;
constexpr int tile_rows(int) { return 4; }

PHASEVAE_INLINE V zero() { return _mm256_setzero_ps(); }
PHASEVAE_INLINE V load(const float* from) { return _mm256_loadu_ps(from); }
PHASEVAE_INLINE void store(float* to, V value) { _mm256_storeu_ps(to, value); }
PHASEVAE_INLINE V broadcast(float value) { return _mm256_set1_ps(value); }
PHASEVAE_INLINE V sum(V a, V b) { return _mm256_add_ps(a, b); }
PHASEVAE_INLINE V multiply_add(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
// In this order of the arguments NaN stays NaN.
PHASEVAE_INLINE V relu(V a) { return _mm256_max_ps(zero(), a); }
PHASEVAE_INLINE V where_positive(V test, V a) { return _mm256_and_ps(_mm256_cmp_ps(test, zero(), _CMP_NLE_UQ), a); }
PHASEVAE_INLINE V root(V a) { return _mm256_sqrt_ps(a); }
PHASEVAE_INLINE V cut_off(V a, float least) {
  return _mm256_and_ps(_mm256_cmp_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a), _mm256_set1_ps(least), _CMP_NLT_UQ),
                       a);
}

// Transposes a block of 8 by 8 numbers.
PHASEVAE_INLINE void transpose(const float* from, int64_t from_row, float* to, int64_t to_row) {
  V a[8], b[8];
  PHASEVAE_UNROLL
  for (int i = 0; i < 8; ++i) {
    a[i] = load(from + i * from_row);
  }
  PHASEVAE_UNROLL
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  PHASEVAE_UNROLL
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
  // a[4 i + j] has columns j and j + 4 of rows 4 i to 4 i + 3.
  PHASEVAE_UNROLL
  for (int j = 0; j < 4; ++j) {
    store(to + j * to_row, _mm256_permute2f128_ps(a[j], a[4 + j], 0x20));
    store(to + (j + 4) * to_row, _mm256_permute2f128_ps(a[j], a[4 + j], 0x31));
  }
}

#include "mlp_block.h"

constexpr NetworkKernels kKernels{&forward, &backward, &arrange};

}  // namespace

const NetworkKernels* network_kernels_v3() { return &kKernels; }

}  // namespace phasevae::cpu

#ifdef __clang__
#pragma clang attribute pop
#endif

#else

namespace phasevae::cpu {

const NetworkKernels* network_kernels_v3() { return nullptr; }

}  // namespace phasevae::cpu

#endif
