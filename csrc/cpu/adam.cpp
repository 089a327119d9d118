// Adam for one thread's share of the parameters.

#include "../elbo_launch.h"
#include "../elbo_math.h"
#include "vectorised.h"

namespace phasevae::cpu {
namespace {

template <class T>
PHASEVAE_INLINE void update(const Adam<T>& in, int64_t begin, int64_t end) {
  const AdamFactors<T> factors = adam_factors<T>(*in.learning_rate, in.beta1, in.beta2, in.epsilon, *in.steps_done);
  const T* __restrict gradients = in.gradients;
  T* __restrict parameters = in.parameters;
  T* __restrict first = in.first_moment;
  T* __restrict second = in.second_moment;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    adam(factors, gradients[i], parameters[i], first[i], second[i]);
  }
}

}  // namespace

PHASEVAE_CLONES void adam_step(const Adam<float>& in, int64_t begin, int64_t end) { update(in, begin, end); }
void adam_step(const Adam<double>& in, int64_t begin, int64_t end) { update(in, begin, end); }

}  // namespace phasevae::cpu
