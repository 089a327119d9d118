// The schemas of the operations, and the Python module phasevae._C, which reports how it was built.

#include <pybind11/pybind11.h>
#include <torch/library.h>
#include <torch/version.h>

#include "cpu/parallel.h"

TORCH_LIBRARY(phasevae, library) {
  library.def(
      "reparam_kl(Tensor mu, Tensor logvar, Tensor keys, SymInt step, Tensor? device_step, bool antithetic)"
      " -> (Tensor z, Tensor kl)");
  library.def(
      "reparam_kl_backward(Tensor grad_z, Tensor grad_kl, Tensor mu, Tensor logvar, Tensor z)"
      " -> (Tensor grad_mu, Tensor grad_logvar)");
  library.def("normals(Tensor keys, Tensor steps, SymInt rows, SymInt latents, ScalarType dtype) -> Tensor");
  library.def("match_moments(Tensor z, Tensor mu, Tensor logvar) -> Tensor");
  library.def(
      "rao_blackwell_targets(Tensor x, Tensor? mean, Tensor mu, Tensor logvar, Tensor z, Tensor decoded, int group)"
      " -> Tensor");
  library.def("mean_over_rows(Tensor values, int rows) -> Tensor");
  library.def("gaussian_nll(Tensor x, Tensor xhat, Tensor sigma2) -> Tensor");
  library.def("gaussian_nll_backward(Tensor grad_nll, Tensor x, Tensor xhat, Tensor sigma2) -> Tensor");
  library.def("bernoulli_nll(Tensor x, Tensor logits, Tensor sigma2) -> Tensor");
  library.def("bernoulli_nll_backward(Tensor grad_nll, Tensor x, Tensor logits, Tensor sigma2) -> Tensor");
  library.def(
      "adam_step(Tensor(a!) parameters, Tensor gradients, Tensor(b!) first_moment, Tensor(c!) second_moment,"
      " Tensor learning_rate, Tensor steps_done, float beta1, float beta2, float epsilon) -> ()");
  library.def(
      "sample_posterior(Tensor encoded, Tensor keys, Tensor step, bool antithetic, bool matched, float low, float high)"
      " -> (Tensor z, Tensor logvar, Tensor kl)");
  library.def(
      "sample_posterior_backward(Tensor grad_z, Tensor grad_kl, Tensor encoded, Tensor z, float low, float high)"
      " -> Tensor");
  library.def(
      "gaussian_objective(Tensor x, Tensor? mean, Tensor mu, Tensor logvar, Tensor z, Tensor decoded, Tensor sigma2,"
      " int group) -> (Tensor of_rows, Tensor of_targets, Tensor energy)");
  library.def(
      "step_inputs(Tensor x, Tensor numbers, Tensor factors, Tensor rates, Tensor position, Tensor streams,"
      " Tensor sigma2) -> (Tensor batch, Tensor present, Tensor scalars)");
  library.def(
      "end_step(Tensor(a!) window, Tensor energy, Tensor kl, Tensor penalty, Tensor sigma2, Tensor factor,"
      " Tensor(b!) step, Tensor(c!) position) -> ()");
  library.def(
      "mlp_forward(Tensor input, Tensor parameters, int offset, int[] widths, bool keep, bool tf32=False)"
      " -> (Tensor output, Tensor tape)");
  library.def(
      "mlp_backward(Tensor input, Tensor parameters, int offset, int[] widths, Tensor tape, Tensor grad_output,"
      " Tensor? grad_for_input, bool with_input, Tensor(a!) gradients, bool tf32=False) -> Tensor");
  library.def(
      "train_steps(Tensor inputs, Tensor x, Tensor rows, Tensor streams, Tensor factors, Tensor rates, int first,"
      " Tensor sigma2, Tensor beta, Tensor of_kl, Tensor keys, Tensor? mean, Tensor? offset, int[] encoder,"
      " int[] decoder, str family, bool antithetic, bool is_matched, int group, float[] logvar_range, float[] adam,"
      " Tensor(a!) parameters, Tensor(b!) gradients, Tensor(c!) first_moment, Tensor(d!) second_moment,"
      " Tensor(e!) window, Tensor in_panels) -> ()");
  library.def(
      "arrange_weights(Tensor(a!)[] values, int[] encoder, int[] decoder, Tensor(b!) in_panels, bool into_panels)"
      " -> ()");
}

namespace phasevae {
bool has_network_kernels();
}

namespace {

pybind11::dict build_info() {
  pybind11::dict info;
  info["torch"] = TORCH_VERSION;
#ifdef __clang__
  info["compiler"] = __VERSION__;
#else
  info["compiler"] = "g++ " __VERSION__;
#endif
  info["cxx_standard"] = __cplusplus;
#ifdef INTRA_OP_PARALLEL
  info["parallel"] = true;
#else
  info["parallel"] = false;
#endif
#ifdef WITH_CUDA
  info["cuda"] = true;
#else
  info["cuda"] = false;
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Native kernels of phasevae: importing it registers the operations torch.ops.phasevae.*";
  module.def("has_network_kernels", &phasevae::has_network_kernels,
             "Whether this processor can run the operations mlp_forward and mlp_backward.");
  module.def("build_info", &build_info, "What the extension was compiled from and with, as a dict.");
}
