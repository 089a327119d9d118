// The operations that exist on CUDA alone: what is elementwise in a training step, in few launches.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "cuda_device.h"
#include "cuda_step_launch.h"
#include "elbo_checks.h"

namespace phasevae {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

void check_contiguous(const at::Tensor& t, const char* op, const char* name) {
  TORCH_CHECK(t.is_contiguous(), op, ": ", name, " must be contiguous, got strides ", t.strides());
}

void check_encoded(const at::Tensor& encoded, const char* op) {
  check_floating(encoded, op, "encoded");
  TORCH_CHECK(encoded.dim() == 3 && encoded.size(2) % 2 == 0, op, ": encoded must have shape [M, B, 2 n], got ",
              encoded.sizes());
  check_contiguous(encoded, op, "encoded");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> sample_posterior(const at::Tensor& encoded, const at::Tensor& keys,
                                                                const at::Tensor& step, bool antithetic, bool matched,
                                                                double low, double high) {
  const char* op = "sample_posterior";
  check_encoded(encoded, op);
  const int64_t models = encoded.size(0), rows = encoded.size(1), n = encoded.size(2) / 2, draws = antithetic ? 2 : 1;
  TORCH_CHECK(!matched || n <= kMostMatched, op, ": latents must be ", kMostMatched, " or fewer, got ", n);
  const Stream stream = checked_stream(keys, encoded, models, 0, step, op);
  const CudaDevice device(encoded);
  at::Tensor z = at::empty({models, draws, rows, n}, encoded.options());
  at::Tensor logvar = at::empty({models, rows, n}, encoded.options());
  at::Tensor kl = at::empty({models}, encoded.options());
  for_type_of(encoded, [&](auto zero) {
    using T = decltype(zero);
    const Sampling<T> in{encoded.const_data_ptr<T>(),
                         static_cast<T>(low),
                         static_cast<T>(high),
                         stream,
                         models,
                         rows,
                         n,
                         draws,
                         matched,
                         logvar.mutable_data_ptr<T>(),
                         z.mutable_data_ptr<T>(),
                         kl.mutable_data_ptr<T>()};
    device.check(op, cuda::sample_posterior(in, device.stream()));
  });
  return {z, logvar, kl};
}

at::Tensor sample_posterior_backward(const at::Tensor& grad_z, const at::Tensor& grad_kl, const at::Tensor& encoded,
                                     const at::Tensor& z, double low, double high) {
  const char* op = "sample_posterior_backward";
  check_encoded(encoded, op);
  const int64_t models = encoded.size(0), rows = encoded.size(1), n = encoded.size(2) / 2;
  TORCH_CHECK(z.dim() == 4 && (z.size(1) == 1 || z.size(1) == 2), op, ": z must have shape [M, 1 or 2, B, n], got ",
              z.sizes());
  check_like(z, encoded, encoded.scalar_type(), {models, z.size(1), rows, n}, op, "z");
  check_like(grad_z, encoded, encoded.scalar_type(), z.sizes(), op, "grad_z");
  check_like(grad_kl, encoded, encoded.scalar_type(), {models}, op, "grad_kl");
  check_contiguous(z, op, "z");
  const CudaDevice device(encoded);
  const at::Tensor of_z = grad_z.contiguous(), of_kl = grad_kl.contiguous();
  at::Tensor grad_encoded = at::empty(encoded.sizes(), encoded.options());
  for_type_of(encoded, [&](auto zero) {
    using T = decltype(zero);
    const SamplingGradient<T> in{encoded.const_data_ptr<T>(),
                                 static_cast<T>(low),
                                 static_cast<T>(high),
                                 z.const_data_ptr<T>(),
                                 of_z.const_data_ptr<T>(),
                                 of_kl.const_data_ptr<T>(),
                                 grad_encoded.mutable_data_ptr<T>(),
                                 models,
                                 rows,
                                 n,
                                 z.size(1)};
    device.check(op, cuda::sample_posterior_backward(in, device.stream()));
  });
  return grad_encoded;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> gaussian_objective(const at::Tensor& x, const OptionalTensor& mean,
                                                                  const at::Tensor& mu, const at::Tensor& logvar,
                                                                  const at::Tensor& z, const at::Tensor& decoded,
                                                                  const at::Tensor& sigma2, int64_t group) {
  const char* op = "gaussian_objective";
  check_targets(x, mean, mu, logvar, z, decoded, group);
  check_like(sigma2, mu, mu.scalar_type(), {mu.size(0)}, op, "sigma2");
  const CudaDevice device(mu);
  const at::Tensor rows = with_unit_columns(x), drawn = z.contiguous(), outputs = decoded.contiguous();
  const at::Tensor variance = sigma2.contiguous();
  const OptionalTensor means = mean ? OptionalTensor(mean->contiguous()) : mean;
  at::Tensor of_rows = at::empty(decoded.sizes(), decoded.options());
  at::Tensor of_targets = at::empty(decoded.sizes(), decoded.options());
  at::Tensor energy = at::empty({mu.size(0)}, decoded.options());
  const at::Tensor variates = at::empty({mu.size(0), 2, decoded.size(3)}, decoded.options());
  for_type_of(mu, [&](auto zero) {
    using T = decltype(zero);
    const Targets<T> targets = targets_arguments<T>(rows, means, mu, logvar, drawn, outputs, group, of_targets);
    const GaussianObjective<T> in{targets, variance.const_data_ptr<T>(), of_rows.mutable_data_ptr<T>(),
                                  of_targets.mutable_data_ptr<T>(), energy.mutable_data_ptr<T>()};
    device.check(op, cuda::gaussian_objective(in, variates.mutable_data_ptr<T>(), device.stream()));
  });
  return {of_rows, of_targets, energy};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> step_inputs(const at::Tensor& x, const at::Tensor& numbers,
                                                           const at::Tensor& factors, const at::Tensor& rates,
                                                           const at::Tensor& position, const at::Tensor& streams,
                                                           const at::Tensor& sigma2) {
  const char* op = "step_inputs";
  check_floating(x, op, "x");
  TORCH_CHECK(x.dim() == 2, op, ": x must have shape [N, D], got ", x.sizes());
  TORCH_CHECK(numbers.dim() == 3, op, ": numbers must have shape [steps, S, B], got ", numbers.sizes());
  const int64_t steps = numbers.size(0), n_streams = numbers.size(1), rows = numbers.size(2), models = streams.numel();
  check_like(numbers, x, at::kLong, numbers.sizes(), op, "numbers");
  check_like(factors, x, at::kDouble, {steps}, op, "factors");
  check_like(rates, x, at::kDouble, {steps}, op, "rates");
  check_like(position, x, at::kLong, {1}, op, "position");
  check_like(streams, x, at::kLong, {models}, op, "streams");
  check_like(sigma2, x, x.scalar_type(), {models}, op, "sigma2");
  for (const auto& [t, name] :
       {std::pair{&x, "x"}, std::pair{&numbers, "numbers"}, std::pair{&factors, "factors"}, std::pair{&rates, "rates"},
        std::pair{&streams, "streams"}, std::pair{&sigma2, "sigma2"}}) {
    check_contiguous(*t, op, name);
  }
  const CudaDevice device(x);
  const bool is_shared = n_streams == 1;
  at::Tensor batch = at::empty({is_shared ? 1 : models, rows, x.size(1)}, x.options());
  at::Tensor present = at::empty({models}, x.options());
  at::Tensor scalars = at::empty({2}, factors.options());
  for_type_of(x, [&](auto zero) {
    using T = decltype(zero);
    const StepInputs<T> in{x.const_data_ptr<T>(),
                           numbers.const_data_ptr<int64_t>(),
                           factors.const_data_ptr<double>(),
                           rates.const_data_ptr<double>(),
                           position.const_data_ptr<int64_t>(),
                           is_shared ? nullptr : streams.const_data_ptr<int64_t>(),
                           sigma2.const_data_ptr<T>(),
                           batch.mutable_data_ptr<T>(),
                           present.mutable_data_ptr<T>(),
                           scalars.mutable_data_ptr<double>(),
                           models,
                           n_streams,
                           rows,
                           x.size(1)};
    device.check(op, cuda::step_inputs(in, device.stream()));
  });
  return {batch, present, scalars};
}

void end_step(at::Tensor& window, const at::Tensor& energy, const at::Tensor& kl, const at::Tensor& penalty,
              const at::Tensor& sigma2, const at::Tensor& factor, at::Tensor& step, at::Tensor& position) {
  const char* op = "end_step";
  check_floating(energy, op, "energy");
  const int64_t models = energy.numel();
  for (const auto& [t, name] : {std::pair{&energy, "energy"}, std::pair{&kl, "kl"}, std::pair{&penalty, "penalty"},
                                std::pair{&sigma2, "sigma2"}}) {
    check_like(*t, energy, energy.scalar_type(), {models}, op, name);
    check_contiguous(*t, op, name);
  }
  check_like(window, energy, at::kDouble, {3, models}, op, "window");
  check_contiguous(window, op, "window");
  check_like(factor, energy, at::kDouble, {}, op, "factor");
  check_like(step, energy, at::kLong, {}, op, "step");
  check_like(position, energy, at::kLong, {1}, op, "position");
  const CudaDevice device(energy);
  for_type_of(energy, [&](auto zero) {
    using T = decltype(zero);
    const StepEnd<T> in{
        window.mutable_data_ptr<double>(), energy.const_data_ptr<T>(),           kl.const_data_ptr<T>(),
        penalty.const_data_ptr<T>(),       sigma2.const_data_ptr<T>(),           factor.const_data_ptr<double>(),
        step.mutable_data_ptr<int64_t>(),  position.mutable_data_ptr<int64_t>(), models};
    device.check(op, cuda::end_step(in, device.stream()));
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(phasevae, CUDA, library) {
  library.impl("sample_posterior", &sample_posterior);
  library.impl("sample_posterior_backward", &sample_posterior_backward);
  library.impl("gaussian_objective", &gaussian_objective);
  library.impl("step_inputs", &step_inputs);
  library.impl("end_step", &end_step);
}

}  // namespace phasevae
