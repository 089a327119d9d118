// The operations, written once for all devices: check, allocate, call the kernels through a Device.
//
// A Device is constructed for a tensor and has the functions of cpu:: or cuda:: without their last arguments.

#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <tuple>

#include "elbo_checks.h"

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
at::Tensor gaussian_nll(const at::Tensor& x, const at::Tensor& xhat, const at::Tensor& sigma2) {
  check_residual(x, xhat, sigma2, "gaussian_nll");
  const Device device(xhat);
  const at::Tensor rows = with_unit_columns(x), estimate = xhat.contiguous(), variance = sigma2.contiguous();
  at::Tensor nll = at::empty(xhat.sizes().slice(0, 3), xhat.options());
  for_type_of(xhat, [&](auto zero) {
    using T = decltype(zero);
    device.gaussian_nll(residual<T>(rows, estimate, variance), nll.mutable_data_ptr<T>());
  });
  return nll;
}

template <class Device>
at::Tensor gaussian_nll_backward(const at::Tensor& grad_nll, const at::Tensor& x, const at::Tensor& xhat,
                                 const at::Tensor& sigma2) {
  check_residual(x, xhat, sigma2, "gaussian_nll_backward");
  check_like(grad_nll, xhat, xhat.scalar_type(), xhat.sizes().slice(0, 3), "gaussian_nll_backward", "grad_nll");
  const Device device(xhat);
  const at::Tensor rows = with_unit_columns(x), estimate = xhat.contiguous(), variance = sigma2.contiguous();
  at::Tensor grad_xhat = at::empty(xhat.sizes(), xhat.options());
  for_type_of(xhat, [&](auto zero) {
    using T = decltype(zero);
    const ResidualGradient<T> gradient{view_of<T>(grad_nll), grad_xhat.mutable_data_ptr<T>()};
    device.gaussian_nll_backward(residual<T>(rows, estimate, variance), gradient);
  });
  return grad_xhat;
}

template <class Device>
at::Tensor bernoulli_nll(const at::Tensor& x, const at::Tensor& logits, const at::Tensor& sigma2) {
  check_residual(x, logits, sigma2, "bernoulli_nll");
  const Device device(logits);
  const at::Tensor rows = with_unit_columns(x), outputs = logits.contiguous(), variance = sigma2.contiguous();
  at::Tensor nll = at::empty(logits.sizes().slice(0, 3), logits.options());
  for_type_of(logits, [&](auto zero) {
    using T = decltype(zero);
    device.bernoulli_nll(residual<T>(rows, outputs, variance), nll.mutable_data_ptr<T>());
  });
  return nll;
}

template <class Device>
at::Tensor bernoulli_nll_backward(const at::Tensor& grad_nll, const at::Tensor& x, const at::Tensor& logits,
                                  const at::Tensor& sigma2) {
  check_residual(x, logits, sigma2, "bernoulli_nll_backward");
  check_like(grad_nll, logits, logits.scalar_type(), logits.sizes().slice(0, 3), "bernoulli_nll_backward", "grad_nll");
  const Device device(logits);
  const at::Tensor rows = with_unit_columns(x), outputs = logits.contiguous(), variance = sigma2.contiguous();
  at::Tensor grad_logits = at::empty(logits.sizes(), logits.options());
  for_type_of(logits, [&](auto zero) {
    using T = decltype(zero);
    const ResidualGradient<T> gradient{view_of<T>(grad_nll), grad_logits.mutable_data_ptr<T>()};
    device.bernoulli_nll_backward(residual<T>(rows, outputs, variance), gradient);
  });
  return grad_logits;
}

template <class Device>
void register_ops(torch::Library& library) {
  library.impl("reparam_kl", &reparam_kl<Device>);
  library.impl("reparam_kl_backward", &reparam_kl_backward<Device>);
  library.impl("normals", &normals<Device>);
  library.impl("gaussian_nll", &gaussian_nll<Device>);
  library.impl("gaussian_nll_backward", &gaussian_nll_backward<Device>);
  library.impl("bernoulli_nll", &bernoulli_nll<Device>);
  library.impl("bernoulli_nll_backward", &bernoulli_nll_backward<Device>);
}

}  // namespace phasevae
