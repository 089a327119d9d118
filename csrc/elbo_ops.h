// The operations, written once for all devices: check, allocate, call the kernels through a Device.
//
// A Device is constructed for a tensor and has the functions of cpu:: or cuda:: without their last arguments.

#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>

#include "elbo_checks.h"
#include "elbo_math.h"
#include "targets_launch.h"

namespace phasevae {

using OptionalTensor = std::optional<at::Tensor>;

template <class Device>
std::tuple<at::Tensor, at::Tensor> reparam_kl(const at::Tensor& mu, const at::Tensor& logvar, const at::Tensor& keys,
                                              int64_t step, const OptionalTensor& device_step, bool antithetic) {
  check_posterior(mu, logvar, "reparam_kl");
  const Stream stream = checked_stream(keys, mu, mu.size(0), step, device_step, "reparam_kl");
  const Device device(mu);
  at::Tensor z = at::empty({mu.size(0), antithetic ? 2 : 1, mu.size(1), mu.size(2)}, mu.options());
  at::Tensor kl = at::empty(mu.sizes(), mu.options());
  for_type_of(mu, [&](auto zero) {
    using T = decltype(zero);
    const Sample<T> out{z.mutable_data_ptr<T>(), kl.mutable_data_ptr<T>()};
    device.reparam_kl(posterior<T>(mu, logvar, stream, antithetic), out);
  });
  return {z, kl};
}

template <class Device>
std::tuple<at::Tensor, at::Tensor> reparam_kl_backward(const at::Tensor& grad_z, const at::Tensor& grad_kl,
                                                       const at::Tensor& mu, const at::Tensor& logvar,
                                                       const at::Tensor& z) {
  check_posterior(mu, logvar, "reparam_kl_backward");
  check_sample(z, grad_z, grad_kl, mu);
  const Device device(mu);
  at::Tensor grad_mu = at::empty(mu.sizes(), mu.options());
  at::Tensor grad_logvar = at::empty(mu.sizes(), mu.options());
  for_type_of(mu, [&](auto zero) {
    using T = decltype(zero);
    device.reparam_kl_backward(sampled<T>(mu, logvar, z), sample_gradient<T>(grad_z, grad_kl, grad_mu, grad_logvar));
  });
  return {grad_mu, grad_logvar};
}

template <class Device>
at::Tensor normals(const at::Tensor& keys, const at::Tensor& steps, int64_t rows, int64_t latents,
                   at::ScalarType dtype) {
  TORCH_CHECK(rows >= 0 && latents >= 0, "normals: rows and latents must not be negative, got ", rows, ", ", latents);
  const Stream streams = checked_streams(keys, steps, "normals");
  const Device device(keys);
  at::Tensor eps = at::empty({keys.size(0), rows, latents}, keys.options().dtype(dtype));
  check_floating(eps, "normals", "dtype");
  for_type_of(eps, [&](auto zero) {
    using T = decltype(zero);
    device.normals(streams, keys.size(0), rows, latents, eps.mutable_data_ptr<T>());
  });
  return eps;
}

template <class Device>
at::Tensor match_moments(const at::Tensor& z, const at::Tensor& mu, const at::Tensor& logvar) {
  check_posterior(mu, logvar, "match_moments");
  check_draws(z, mu, "match_moments");
  TORCH_CHECK(mu.size(2) <= kMostMatched, "match_moments: latents must be ", kMostMatched, " or fewer, got ",
              mu.size(2));
  const Device device(mu);
  const at::Tensor drawn = z.contiguous();
  at::Tensor matched = at::empty(z.sizes(), z.options());
  for_type_of(mu, [&](auto zero) {
    using T = decltype(zero);
    device.match_moments(Matching<T>{view_of<T>(mu), view_of<T>(logvar), drawn.const_data_ptr<T>(),
                                     matched.mutable_data_ptr<T>(), z.size(0), z.size(1), z.size(2), z.size(3)});
  });
  return matched;
}

template <class Device>
at::Tensor rao_blackwell_targets(const at::Tensor& x, const OptionalTensor& mean, const at::Tensor& mu,
                                 const at::Tensor& logvar, const at::Tensor& z, const at::Tensor& decoded,
                                 int64_t group) {
  check_targets(x, mean, mu, logvar, z, decoded, group);
  const Device device(mu);
  const at::Tensor rows = with_unit_columns(x), drawn = z.contiguous(), outputs = decoded.contiguous();
  const OptionalTensor means = mean ? OptionalTensor(mean->contiguous()) : mean;
  at::Tensor targets = at::empty(decoded.sizes(), decoded.options());
  for_type_of(mu, [&](auto zero) {
    using T = decltype(zero);
    device.targets(targets_arguments<T>(rows, means, mu, logvar, drawn, outputs, group, targets));
  });
  return targets;
}

template <class Device>
at::Tensor mean_over_rows(const at::Tensor& values, int64_t rows) {
  check_floating(values, "mean_over_rows", "values");
  TORCH_CHECK(values.dim() > 0, "mean_over_rows: values must have shape [M, ...], got ", values.sizes());
  const Device device(values);
  const at::Tensor numbers = values.contiguous();
  const int64_t models = values.size(0), size = models > 0 ? values.numel() / models : 0;
  at::Tensor means = at::empty({models}, values.options());
  for_type_of(values, [&](auto zero) {
    using T = decltype(zero);
    device.mean_over_rows(Values<T>{numbers.const_data_ptr<T>(), models, size, rows}, means.mutable_data_ptr<T>());
  });
  return means;
}

template <class Device, class Term>
at::Tensor nll(const at::Tensor& x, const at::Tensor& outputs, const at::Tensor& sigma2) {
  check_residual(x, outputs, sigma2, Term::kName);
  const Device device(outputs);
  const at::Tensor rows = with_unit_columns(x), decoded = outputs.contiguous(), variance = sigma2.contiguous();
  at::Tensor nll = at::empty(outputs.sizes().slice(0, 3), outputs.options());
  for_type_of(outputs, [&](auto zero) {
    using T = decltype(zero);
    device.nll(Term{}, residual<T>(rows, decoded, variance), nll.mutable_data_ptr<T>());
  });
  return nll;
}

template <class Device, class Term>
at::Tensor nll_backward(const at::Tensor& grad_nll, const at::Tensor& x, const at::Tensor& outputs,
                        const at::Tensor& sigma2) {
  check_residual(x, outputs, sigma2, Term::kName);
  check_like(grad_nll, outputs, outputs.scalar_type(), outputs.sizes().slice(0, 3), Term::kName, "grad_nll");
  const Device device(outputs);
  const at::Tensor rows = with_unit_columns(x), decoded = outputs.contiguous(), variance = sigma2.contiguous();
  at::Tensor grad_outputs = at::empty(outputs.sizes(), outputs.options());
  for_type_of(outputs, [&](auto zero) {
    using T = decltype(zero);
    const ResidualGradient<T> gradient{view_of<T>(grad_nll), grad_outputs.mutable_data_ptr<T>()};
    device.nll_backward(Term{}, residual<T>(rows, decoded, variance), gradient);
  });
  return grad_outputs;
}

template <class Device>
void adam_step(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& first_moment,
               const at::Tensor& second_moment, const at::Tensor& learning_rate, const at::Tensor& steps_done,
               double beta1, double beta2, double epsilon) {
  check_adam(parameters, gradients, first_moment, second_moment, learning_rate, steps_done);
  const Device device(parameters);
  for_type_of(parameters, [&](auto zero) {
    device.adam_step(adam_arguments<decltype(zero)>(parameters, gradients, first_moment, second_moment, learning_rate,
                                                    steps_done, beta1, beta2, epsilon));
  });
}

template <class Device>
void register_ops(torch::Library& library) {
  library.impl("reparam_kl", &reparam_kl<Device>);
  library.impl("reparam_kl_backward", &reparam_kl_backward<Device>);
  library.impl("normals", &normals<Device>);
  library.impl("match_moments", &match_moments<Device>);
  library.impl("rao_blackwell_targets", &rao_blackwell_targets<Device>);
  library.impl("gaussian_nll", &nll<Device, Gaussian>);
  library.impl("gaussian_nll_backward", &nll_backward<Device, Gaussian>);
  library.impl("bernoulli_nll", &nll<Device, Bernoulli>);
  library.impl("bernoulli_nll_backward", &nll_backward<Device, Bernoulli>);
  library.impl("adam_step", &adam_step<Device>);
}

}  // namespace phasevae
