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
#endif

namespace phasevae::cpu {
namespace {

using V = __m512;
constexpr int64_t kLanes = 16;
constexpr int64_t kTileRows = 8;
constexpr int kTileVectors = 2;

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

#include "mlp_block.h"

constexpr NetworkKernels kKernels{&forward, &backward};

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
