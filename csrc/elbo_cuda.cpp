// The operations on CUDA. The only file that needs a CUDA build of torch, for the current device and stream.

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "elbo_ops.h"

namespace phasevae {
namespace {

// Makes the tensor's device current for as long as it lives, and launches on torch's current stream there.
class Cuda {
 public:
  explicit Cuda(const at::Tensor& t) : guard_(t.device()), stream_(c10::cuda::getCurrentCUDAStream().stream()) {}

  template <class T>
  void reparam_kl(const Posterior<T>& in, const Sample<T>& out) const {
    check("reparam_kl", cuda::reparam_kl(in, out, stream_));
  }

  template <class T>
  void reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& gradient) const {
    check("reparam_kl_backward", cuda::reparam_kl_backward(in, gradient, stream_));
  }

  template <class T>
  void normals(const Stream& in, int64_t models, int64_t rows, int64_t latents, T* eps) const {
    check("normals", cuda::normals(in, models, rows, latents, eps, stream_));
  }

  template <class T>
  void match_moments(const Matching<T>& in) const {
    check("match_moments", cuda::match_moments(in, stream_));
  }

  template <class Term, class T>
  void nll(Term term, const Residual<T>& in, T* nll) const {
    check(Term::kName, cuda::nll(term, in, nll, stream_));
  }

  template <class Term, class T>
  void nll_backward(Term term, const Residual<T>& in, const ResidualGradient<T>& gradient) const {
    check(Term::kName, cuda::nll_backward(term, in, gradient, stream_));
  }

  template <class T>
  void adam_step(const Adam<T>& in) const {
    check("adam_step", cuda::adam_step(in, stream_));
  }

 private:
  static void check(const char* op, int error) {
    TORCH_CHECK(error == 0, op, ": the CUDA kernel could not be launched: ", cuda::error_string(error));
  }

  c10::cuda::CUDAGuard guard_;
  void* stream_;
};

}  // namespace

TORCH_LIBRARY_IMPL(phasevae, CUDA, library) { register_ops<Cuda>(library); }

}  // namespace phasevae
