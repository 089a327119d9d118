// The launch of moment-matched noise on CUDA.

#include "moments.h"

namespace phasevae::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) match_moments_kernel(Matching<T> in) {
  match_moments_of_block(in);
}

}  // namespace

template <class T>
int match_moments(const Matching<T>& in, void* stream) {
  const bool is_empty = in.draws * in.rows * in.latents == 0;
  return launch(match_moments_kernel<T>, is_empty ? 0 : in.models, stream, in);
}

template int match_moments<float>(const Matching<float>&, void*);
template int match_moments<double>(const Matching<double>&, void*);

}  // namespace phasevae::cuda
