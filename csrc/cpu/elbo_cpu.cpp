// The operations on the CPU: the rows are divided among torch's threads.

#include <vector>

#include "../elbo_ops.h"
#include "parallel.h"

namespace phasevae {
namespace {

// About 20 microseconds of work; for less it does not pay to wake a thread.
constexpr int64_t kGrain = 16384;

template <class F>
void share_rows(int64_t rows, int64_t columns, const F& work) {
  if (rows > 0 && columns > 0) {
    at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / columns), work);
  }
}

struct Cpu {
  explicit Cpu(const at::Tensor&) {}

  template <class T>
  void reparam_kl(const Posterior<T>& in, const Sample<T>& out) const {
    share_rows(in.models * in.rows, in.latents, [&](int64_t b, int64_t e) { cpu::reparam_kl(in, out, b, e); });
  }

  template <class T>
  void reparam_kl_backward(const Sampled<T>& in, const SampleGradient<T>& gradient) const {
    share_rows(in.models * in.rows, in.latents,
               [&](int64_t b, int64_t e) { cpu::reparam_kl_backward(in, gradient, b, e); });
  }

  template <class T>
  void normals(const Stream& in, int64_t models, int64_t rows, int64_t latents, T* eps) const {
    share_rows(models * rows, latents, [&](int64_t b, int64_t e) { cpu::normals(in, rows, latents, eps, b, e); });
  }

  template <class T>
  void match_moments(const Matching<T>& in) const {
    at::parallel_for(0, in.models, 1, [&](int64_t b, int64_t e) { cpu::match_moments(in, b, e); });
  }

  template <class T>
  void targets(const Targets<T>& in) const {
    std::vector<T> variates(in.models * 2 * in.features);
    at::parallel_for(0, in.models, 1, [&](int64_t b, int64_t e) { cpu::control_variates(in, variates.data(), b, e); });
    at::parallel_for(0, in.models * in.rows / in.group, 1, [&](int64_t b, int64_t e) {
      std::vector<T> scratch(cpu::targets_scratch(in));
      cpu::targets(in, variates.data(), scratch.data(), b, e);
    });
  }

  template <class Term, class T>
  void nll(Term term, const Residual<T>& in, T* nll) const {
    // A row without features has an error as well, 0.
    const int64_t columns = std::max<int64_t>(1, in.features);
    share_rows(in.models * in.draws * in.rows, columns, [&](int64_t b, int64_t e) { cpu::nll(term, in, nll, b, e); });
  }

  template <class Term, class T>
  void nll_backward(Term term, const Residual<T>& in, const ResidualGradient<T>& gradient) const {
    share_rows(in.models * in.draws * in.rows, in.features,
               [&](int64_t b, int64_t e) { cpu::nll_backward(term, in, gradient, b, e); });
  }

  template <class T>
  void mean_over_rows(const Values<T>& in, T* means) const {
    share_rows(in.models, std::max<int64_t>(1, in.size),
               [&](int64_t b, int64_t e) { cpu::mean_over_rows(in, means, b, e); });
  }

  template <class T>
  void adam_step(const Adam<T>& in) const {
    share_rows(in.size, 1, [&](int64_t b, int64_t e) { cpu::adam_step(in, b, e); });
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(phasevae, CPU, library) {
  register_ops<Cpu>(library);
  library.impl("mean_over_rows", &mean_over_rows<Cpu>);
}

}  // namespace phasevae
