// The operations of csrc/elbo_ops.h on CUDA.

#include "cuda_device.h"
#include "elbo_ops.h"

namespace phasevae {
namespace {

class Cuda : CudaDevice {
 public:
  explicit Cuda(const at::Tensor& t) : CudaDevice(t), options_(t.options()) {}

  template <class T>
  void reparam_kl(const Posterior<T>& in, const Sample<T>& out) const {
    check("reparam_kl", cuda::reparam_kl(in, out, stream()));
  }

  template <class T>
  void reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& gradient) const {
    check("reparam_kl_backward", cuda::reparam_kl_backward(in, gradient, stream()));
  }

  template <class T>
  void normals(const Stream& in, int64_t models, int64_t rows, int64_t latents, T* eps) const {
    check("normals", cuda::normals(in, models, rows, latents, eps, stream()));
  }

  template <class T>
  void match_moments(const Matching<T>& in) const {
    check("match_moments", cuda::match_moments(in, stream()));
  }

  template <class T>
  void targets(const Targets<T>& in) const {
    const at::Tensor variates = at::empty({in.models, 2, in.features}, options_);
    check("rao_blackwell_targets", cuda::targets(in, variates.mutable_data_ptr<T>(), stream()));
  }

  template <class Term, class T>
  void nll(Term term, const Residual<T>& in, T* nll) const {
    check(Term::kName, cuda::nll(term, in, nll, stream()));
  }

  template <class Term, class T>
  void nll_backward(Term term, const Residual<T>& in, const ResidualGradient<T>& gradient) const {
    check(Term::kName, cuda::nll_backward(term, in, gradient, stream()));
  }

  template <class T>
  void adam_step(const Adam<T>& in) const {
    check("adam_step", cuda::adam_step(in, stream()));
  }

 private:
  at::TensorOptions options_;
};

}  // namespace

TORCH_LIBRARY_IMPL(phasevae, CUDA, library) { register_ops<Cuda>(library); }

}  // namespace phasevae
