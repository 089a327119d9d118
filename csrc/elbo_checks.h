// Checks of the tensors, and the arguments of the kernels made from them. The same for CPU and CUDA.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <optional>
#include <utility>

#include "elbo_launch.h"
#include "targets_launch.h"

namespace phasevae {

inline void check_floating(const at::Tensor& t, const char* op, const char* name) {
  TORCH_CHECK(t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble, op, ": ", name,
              " must be float32 or float64, got ", t.scalar_type());
}

inline void check_like(const at::Tensor& t, const at::Tensor& first, at::ScalarType dtype, at::IntArrayRef shape,
                       const char* op, const char* name) {
  TORCH_CHECK(t.device() == first.device(), op, ": ", name, " must be on ", first.device(), ", got ", t.device());
  TORCH_CHECK(t.scalar_type() == dtype, op, ": ", name, " must be ", dtype, ", got ", t.scalar_type());
  TORCH_CHECK(t.sizes() == shape, op, ": ", name, " must have shape ", shape, ", got ", t.sizes());
}

template <class T>
View<T> view_of(const at::Tensor& t) {
  return {t.const_data_ptr<T>(), t.stride(0), t.stride(1), t.stride(2)};
}

// `keys` must outlive the result.
inline Stream checked_stream(const at::Tensor& keys, const at::Tensor& first, int64_t models, int64_t step,
                             const std::optional<at::Tensor>& device_step, const char* op) {
  check_like(keys, first, at::kLong, {models}, op, "keys");
  TORCH_CHECK(keys.is_contiguous(), op, ": keys must be contiguous");
  const int64_t* shared = nullptr;
  if (device_step) {
    check_like(*device_step, first, at::kLong, {}, op, "device_step");
    shared = device_step->const_data_ptr<int64_t>();
  }
  return {keys.const_data_ptr<int64_t>(), step, shared, 0};
}

// Streams with a step each. `keys` and `steps` must outlive the result.
inline Stream checked_streams(const at::Tensor& keys, const at::Tensor& steps, const char* op) {
  TORCH_CHECK(keys.dim() == 1, op, ": keys must have shape [M], got ", keys.sizes());
  for (const auto& [t, name] : {std::pair{&keys, "keys"}, std::pair{&steps, "steps"}}) {
    check_like(*t, keys, at::kLong, keys.sizes(), op, name);
    TORCH_CHECK(t->is_contiguous(), op, ": ", name, " must be contiguous");
  }
  return {keys.const_data_ptr<int64_t>(), 0, steps.const_data_ptr<int64_t>(), 1};
}

inline void check_posterior(const at::Tensor& mu, const at::Tensor& logvar, const char* op) {
  check_floating(mu, op, "mu");
  TORCH_CHECK(mu.dim() == 3, op, ": mu must have shape [M, B, n], got ", mu.sizes());
  check_like(logvar, mu, mu.scalar_type(), mu.sizes(), op, "logvar");
}

template <class T>
Posterior<T> posterior(const at::Tensor& mu, const at::Tensor& logvar, const Stream& stream, bool antithetic) {
  return {view_of<T>(mu), view_of<T>(logvar), stream, mu.size(0), mu.size(1), mu.size(2), antithetic ? 2 : 1};
}

inline void check_draws(const at::Tensor& z, const at::Tensor& mu, const char* op) {
  TORCH_CHECK(z.dim() == 4 && (z.size(1) == 1 || z.size(1) == 2), op, ": z must have shape [M, 1 or 2, B, n], got ",
              z.sizes());
  check_like(z, mu, mu.scalar_type(), {mu.size(0), z.size(1), mu.size(1), mu.size(2)}, op, "z");
}

inline void check_sample(const at::Tensor& z, const at::Tensor& grad_z, const at::Tensor& grad_kl,
                         const at::Tensor& mu) {
  const char* op = "reparam_kl_backward";
  check_draws(z, mu, op);
  check_like(grad_z, mu, mu.scalar_type(), z.sizes(), op, "grad_z");
  check_like(grad_kl, mu, mu.scalar_type(), mu.sizes(), op, "grad_kl");
}

// The first draw of samples [M, A, B, n].
template <class T>
View<T> first_draw(const at::Tensor& z) {
  return {z.const_data_ptr<T>(), z.stride(0), z.stride(2), z.stride(3)};
}

template <class T>
Sampled<T> sampled(const at::Tensor& mu, const at::Tensor& logvar, const at::Tensor& z) {
  return {view_of<T>(mu), view_of<T>(logvar), first_draw<T>(z), mu.size(0), mu.size(1), mu.size(2), z.size(1)};
}

template <class T>
SampleGradient<T> sample_gradient(const at::Tensor& grad_z, const at::Tensor& grad_kl, const at::Tensor& grad_mu,
                                  const at::Tensor& grad_logvar) {
  const View<T> plus = first_draw<T>(grad_z);
  View<T> minus = plus;
  minus.data += grad_z.size(1) == 2 ? grad_z.stride(1) : 0;
  return {{plus, minus}, view_of<T>(grad_kl), grad_mu.mutable_data_ptr<T>(), grad_logvar.mutable_data_ptr<T>()};
}

inline void check_residual(const at::Tensor& x, const at::Tensor& xhat, const at::Tensor& sigma2, const char* op) {
  check_floating(xhat, op, "xhat");
  TORCH_CHECK(xhat.dim() == 4, op, ": xhat must have shape [M, A, B, D], got ", xhat.sizes());
  const bool shared = x.dim() == 3 && x.size(0) == 1;
  check_like(x, xhat, xhat.scalar_type(), {shared ? 1 : xhat.size(0), xhat.size(2), xhat.size(3)}, op, "x");
  check_like(sigma2, xhat, xhat.scalar_type(), {xhat.size(0)}, op, "sigma2");
}

// Of tensors that are contiguous (x: in its last dimension).
template <class T>
Residual<T> residual(const at::Tensor& x, const at::Tensor& xhat, const at::Tensor& sigma2) {
  View<T> rows = view_of<T>(x);
  rows.model = x.size(0) == 1 ? 0 : rows.model;
  return {rows,        xhat.const_data_ptr<T>(), sigma2.const_data_ptr<T>(), xhat.size(0), xhat.size(1), xhat.size(2),
          xhat.size(3)};
}

inline at::Tensor with_unit_columns(const at::Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) < 2 ? x : x.contiguous();
}

inline void check_targets(const at::Tensor& x, const std::optional<at::Tensor>& mean, const at::Tensor& mu,
                          const at::Tensor& logvar, const at::Tensor& z, const at::Tensor& decoded, int64_t group) {
  const char* op = "rao_blackwell_targets";
  check_posterior(mu, logvar, op);
  check_draws(z, mu, op);
  TORCH_CHECK(decoded.dim() == 4, op, ": decoded must have shape [M, A, B, D], got ", decoded.sizes());
  const auto dtype = mu.scalar_type();
  check_like(decoded, mu, dtype, {z.size(0), z.size(1), z.size(2), decoded.size(3)}, op, "decoded");
  const bool shared = x.dim() == 3 && x.size(0) == 1;
  check_like(x, mu, dtype, {shared ? 1 : mu.size(0), mu.size(1), decoded.size(3)}, op, "x");
  if (mean) {
    check_like(*mean, mu, dtype, {decoded.size(3)}, op, "mean");
  }
  TORCH_CHECK(group > 0 && mu.size(1) % group == 0, op, ": group must be a divisor of the ", mu.size(1), " rows, got ",
              group);
}

// Of tensors that are contiguous (x: in its last dimension).
template <class T>
Targets<T> targets_arguments(const at::Tensor& x, const std::optional<at::Tensor>& mean, const at::Tensor& mu,
                             const at::Tensor& logvar, const at::Tensor& z, const at::Tensor& decoded, int64_t group,
                             const at::Tensor& targets) {
  View<T> rows = view_of<T>(x);
  rows.model = x.size(0) == 1 ? 0 : rows.model;
  return {rows,
          mean ? mean->const_data_ptr<T>() : nullptr,
          view_of<T>(mu),
          view_of<T>(logvar),
          z.const_data_ptr<T>(),
          decoded.const_data_ptr<T>(),
          targets.mutable_data_ptr<T>(),
          z.size(0),
          z.size(1),
          z.size(2),
          z.size(3),
          decoded.size(3),
          group};
}

inline void check_adam(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& first_moment,
                       const at::Tensor& second_moment, const at::Tensor& learning_rate, const at::Tensor& steps_done) {
  const char* op = "adam_step";
  check_floating(parameters, op, "parameters");
  const auto dtype = parameters.scalar_type();
  check_like(gradients, parameters, dtype, parameters.sizes(), op, "gradients");
  check_like(first_moment, parameters, dtype, parameters.sizes(), op, "first_moment");
  check_like(second_moment, parameters, dtype, parameters.sizes(), op, "second_moment");
  check_like(learning_rate, parameters, at::kDouble, {}, op, "learning_rate");
  check_like(steps_done, parameters, at::kLong, {}, op, "steps_done");
  for (const at::Tensor& t : {parameters, gradients, first_moment, second_moment}) {
    TORCH_CHECK(t.is_contiguous(), op, ": tensors must be contiguous, got strides ", t.strides());
  }
}

template <class T>
Adam<T> adam_arguments(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& first_moment,
                       const at::Tensor& second_moment, const at::Tensor& learning_rate, const at::Tensor& steps_done,
                       double beta1, double beta2, double epsilon) {
  return {parameters.mutable_data_ptr<T>(),
          gradients.const_data_ptr<T>(),
          first_moment.mutable_data_ptr<T>(),
          second_moment.mutable_data_ptr<T>(),
          learning_rate.const_data_ptr<double>(),
          steps_done.const_data_ptr<int64_t>(),
          beta1,
          beta2,
          epsilon,
          parameters.numel()};
}

// Calls f with a value of the tensor's type, float or double.
template <class F>
void for_type_of(const at::Tensor& t, const F& f) {
  if (t.scalar_type() == at::kFloat) {
    f(float{});
  } else {
    f(double{});
  }
}

}  // namespace phasevae
