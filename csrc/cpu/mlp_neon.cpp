// The kernels of the networks for 64-bit ARM, all of whose processors have NEON.

#include <cstring>

#include "../mlp_launch.h"
#include "vectorised.h"

#ifdef __aarch64__

#include <arm_neon.h>

namespace phasevae::cpu {
namespace {

using V = float32x4_t;
constexpr int64_t kLanes = 4;
constexpr int kTileVectors = 4;
constexpr int tile_rows(int) { return 4; }

PHASEVAE_INLINE V zero() { return vdupq_n_f32(0.0f); }
PHASEVAE_INLINE V load(const float* from) { return vld1q_f32(from); }
PHASEVAE_INLINE void store(float* to, V value) { vst1q_f32(to, value); }
// A product takes its factor from a register of one number.
PHASEVAE_INLINE float broadcast(float value) { return value; }
PHASEVAE_INLINE V sum(V a, V b) { return vaddq_f32(a, b); }
PHASEVAE_INLINE V multiply_add(float a, V b, V c) { return vfmaq_n_f32(c, b, a); }
PHASEVAE_INLINE V without(V a, uint32x4_t where) {
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), where));
}
// As with AVX: NaN stays NaN, and -0 stays -0.
PHASEVAE_INLINE V relu(V a) { return without(a, vcltzq_f32(a)); }
PHASEVAE_INLINE V where_positive(V test, V a) { return without(a, vclezq_f32(test)); }
PHASEVAE_INLINE V root(V a) { return vsqrtq_f32(a); }
PHASEVAE_INLINE V cut_off(V a, float least) { return without(a, vcltq_f32(vabsq_f32(a), vdupq_n_f32(least))); }

// Transposes a block of 4 by 4 numbers.
PHASEVAE_INLINE void transpose(const float* from, int64_t from_row, float* to, int64_t to_row) {
  const float32x4x2_t a = vtrnq_f32(load(from), load(from + from_row));
  const float32x4x2_t b = vtrnq_f32(load(from + 2 * from_row), load(from + 3 * from_row));
  for (int i = 0; i < 2; ++i) {
    store(to + i * to_row, vcombine_f32(vget_low_f32(a.val[i]), vget_low_f32(b.val[i])));
    store(to + (i + 2) * to_row, vcombine_f32(vget_high_f32(a.val[i]), vget_high_f32(b.val[i])));
  }
}

#include "mlp_block.h"

constexpr NetworkKernels kKernels{&forward, &backward, &arrange};

}  // namespace

const NetworkKernels* network_kernels_neon() { return &kKernels; }

}  // namespace phasevae::cpu

#else

namespace phasevae::cpu {

const NetworkKernels* network_kernels_neon() { return nullptr; }

}  // namespace phasevae::cpu

#endif
