// The kernels of the networks for processors with AVX-512.

#include <cstring>

#include "../mlp_launch.h"
#include "vectorised.h"

#ifdef PHASEVAE_VECTORISED

#include <immintrin.h>

// Up to the end of the file, where the templates are instantiated.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#else
#pragma GCC target("arch=x86-64-v4")
// Of the operands that its own header leaves undefined on purpose (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace phasevae::cpu {
namespace {

using V = __m512;
constexpr int64_t kLanes = 16;
// Some of these processors load one vector or broadcast number in a cycle, and do two products: tiles must have few
// loads for their products.
constexpr int kTileVectors = 4;
constexpr int tile_rows(int vectors) { return vectors == 4 ? 6 : 8; }

PHASEVAE_INLINE V zero() { return _mm512_setzero_ps(); }
PHASEVAE_INLINE V load(const float* from) { return _mm512_loadu_ps(from); }
PHASEVAE_INLINE void store(float* to, V value) { _mm512_storeu_ps(to, value); }
PHASEVAE_INLINE V broadcast(float value) { return _mm512_set1_ps(value); }
PHASEVAE_INLINE V sum(V a, V b) { return _mm512_add_ps(a, b); }
PHASEVAE_INLINE V multiply_add(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
// In this order of the arguments NaN stays NaN.
PHASEVAE_INLINE V relu(V a) { return _mm512_maskz_max_ps(0xffff, zero(), a); }
PHASEVAE_INLINE V where_positive(V test, V a) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(test, zero(), _CMP_NLE_UQ), a);
}
PHASEVAE_INLINE V root(V a) { return _mm512_sqrt_ps(a); }
PHASEVAE_INLINE V cut_off(V a, float least) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_abs_ps(a), _mm512_set1_ps(least), _CMP_NLT_UQ), a);
}

// Transposes a block of 16 by 16 numbers.
PHASEVAE_INLINE void transpose(const float* from, int64_t from_row, float* to, int64_t to_row) {
  V a[16], b[16];
  PHASEVAE_UNROLL
  for (int i = 0; i < 16; ++i) {
    a[i] = load(from + i * from_row);
  }
  PHASEVAE_UNROLL
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  PHASEVAE_UNROLL
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
  // a[4 i + j] has columns j, j + 4, j + 8 and j + 12 of rows 4 i to 4 i + 3.
  PHASEVAE_UNROLL
  for (int j = 0; j < 4; ++j) {
    const V low01 = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x44), high01 = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xee);
    const V low23 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x44);
    const V high23 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xee);
    store(to + j * to_row, _mm512_shuffle_f32x4(low01, low23, 0x88));
    store(to + (j + 4) * to_row, _mm512_shuffle_f32x4(low01, low23, 0xdd));
    store(to + (j + 8) * to_row, _mm512_shuffle_f32x4(high01, high23, 0x88));
    store(to + (j + 12) * to_row, _mm512_shuffle_f32x4(high01, high23, 0xdd));
  }
}

#include "mlp_block.h"

constexpr NetworkKernels kKernels{&forward, &backward, &arrange};

}  // namespace

const NetworkKernels* network_kernels_v4() { return &kKernels; }

}  // namespace phasevae::cpu

#ifdef __clang__
#pragma clang attribute pop
#endif

#else

namespace phasevae::cpu {

const NetworkKernels* network_kernels_v4() { return nullptr; }

}  // namespace phasevae::cpu

#endif
