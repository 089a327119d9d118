// The kernels of a training step that exist on CUDA alone, emulated, and the Rao-Blackwellised targets, against the
// kernels of the CPU that compute the same in several operations.

#include <algorithm>

#include "buffers.h"
#include "compare.h"
#include "cuda_step_launch.h"
#include "elbo_math.h"
#include "targets_launch.h"

using namespace phasevae;

namespace {

template <class T>
void name(const char* what, int64_t m, int64_t b, int64_t n, int64_t d) {
  label = std::string(what) + (sizeof(T) == 4 ? " float" : " double") + " M=" + std::to_string(m) +
          " B=" + std::to_string(b) + " n=" + std::to_string(n) + " D=" + std::to_string(d);
  emulator::set_order(uint32_t(random_bits() % 4));
}

template <class T>
void compare_targets(int64_t m, int64_t groups, int64_t group, int64_t n, int64_t d, int64_t draws) {
  const int64_t b = groups * group, size = m * draws * b * d;
  name<T>("targets", m, b, n, d);
  const Strides s_x = strides(m, b, d, true), s_mu = strides(m, b, n), s_logvar = strides(m, b, n);
  const auto x = normals<T>(s_x.size(m, b, d)), mu = normals<T>(s_mu.size(m, b, n)), mean = normals<T>(d, 0.3);
  const auto logvar = normals<T>(s_logvar.size(m, b, n)), z = normals<T>(m * draws * b * n), decoded = normals<T>(size);
  const auto sigma2 = normals<T>(m);
  for (int64_t i = 0; i < m; ++i) {
    sigma2.get()[i] = std::exp(sigma2.get()[i]);
  }
  const Buffer<T> targets(size), expected(size), variates(2 * m * d), variates0(2 * m * d);
  Targets<T> in{s_x.of(x),
                between(0, 3) ? mean.get() : nullptr,
                s_mu.of(mu),
                s_logvar.of(logvar),
                z.get(),
                decoded.get(),
                expected.get(),
                m,
                draws,
                b,
                n,
                d,
                group};
  std::vector<T> scratch(cpu::targets_scratch(in));
  cpu::control_variates(in, variates0.get(), 0, m);
  cpu::targets(in, variates0.get(), scratch.data(), 0, m * groups);
  const auto allow = [&] {
    x.in(), mean.in(), mu.in(), logvar.in(), z.in(), decoded.in(), sigma2.in(), variates.out();
  };
  in.targets = targets.get();
  allow(), targets.out();
  finish(cuda::targets(in, variates.get(), nullptr));
  expect_equal("control variates", variates, variates0), expect_equal("targets", targets, expected);

  const Buffer<T> of_rows(size), of_targets(size), of_rows0(size), of_targets0(size), energy(m);
  std::vector<long double> sums(m), scale(m);
  for (int64_t at = 0; at < size; ++at) {
    const int64_t model = at / (draws * b * d), row = at / d % b;
    const T residual = decoded.get()[at] - in.x.data[model * s_x.model + row * s_x.row + at % d];
    const T factor = T(1) / T(draws * b) / sigma2.get()[model];
    of_rows0.get()[at] = residual * factor;
    of_targets0.get()[at] = (decoded.get()[at] - expected.get()[at]) * factor;
    sums[model] += 0.5L * residual * residual / (1.0L * draws * b * sigma2.get()[model]);
  }
  in.targets = nullptr;
  allow(), of_rows.out(), of_targets.out(), energy.out();
  const GaussianObjective<T> objective{in, sigma2.get(), of_rows.get(), of_targets.get(), energy.get()};
  finish(cuda::gaussian_objective(objective, variates.get(), nullptr));
  expect_equal("derivative of rows", of_rows, of_rows0), expect_equal("of targets", of_targets, of_targets0);
  expect_close("energy", energy, sums, sums);
}

template <class T>
void compare_sampling(int64_t m, int64_t b, int64_t n, int64_t draws, bool matched) {
  name<T>(matched ? "sampling, matched" : "sampling", m, b, n, draws);
  constexpr T kLow = -12, kHigh = 8;
  const int64_t size = m * b * n;
  const Buffer<int64_t> keys(m), step(1);
  for (int64_t i = 0; i < m; ++i) {
    keys.get()[i] = int64_t(random_bits());
  }
  *step.get() = between(0, 1 << 20);
  const auto encoded = normals<T>(2 * size, between(0, 1) ? 1 : 9), of_z = normals<T>(draws * size),
             of_kl = normals<T>(m);
  const Buffer<T> logvar(size), logvar0(size), z(draws * size), z0(z.size), drawn(z.size), kl(m), each(size);
  for (int64_t i = 0; i < size; ++i) {
    logvar0.get()[i] = std::clamp(encoded.get()[i / n * 2 * n + n + i % n], kLow, kHigh);
  }
  const Stream stream{keys.get(), 0, step.get(), 0};
  const View<T> of_mu{encoded.get(), 2 * b * n, 2 * n, 1}, of_logvar{logvar0.get(), b * n, n, 1};
  cpu::reparam_kl(Posterior<T>{of_mu, of_logvar, stream, m, b, n, draws}, {drawn.get(), each.get()}, 0, m * b);
  if (matched) {
    cpu::match_moments(Matching<T>{of_mu, of_logvar, drawn.get(), z0.get(), m, draws, b, n}, 0, m);
  } else {
    std::copy_n(drawn.get(), drawn.size, z0.get());
  }
  encoded.in(), keys.in(), step.in(), logvar.out(), z.out(), kl.out();
  finish(cuda::sample_posterior(
      Sampling<T>{encoded.get(), kLow, kHigh, stream, m, b, n, draws, matched, logvar.get(), z.get(), kl.get()},
      nullptr));
  expect_equal("log variance", logvar, logvar0), expect_equal("z", z, z0);
  std::vector<long double> sums(m);
  for (int64_t i = 0; i < size; ++i) {
    sums[i / (b * n)] += static_cast<long double>(each.get()[i]) / b;
  }
  expect_close("kl", kl, sums, sums);

  const Buffer<T> of_encoded(2 * size), expected(2 * size), g_mu(size), g_logvar(size);
  const View<T> plus{of_z.get(), draws * b * n, n, 1}, minus{of_z.get() + (draws - 1) * b * n, draws * b * n, n, 1};
  const Sampled<T> sampled{of_mu, of_logvar, {z0.get(), draws * b * n, n, 1}, m, b, n, draws};
  cpu::reparam_kl_backward(sampled, {{plus, minus}, {of_kl.get(), 1, 0, 0}, g_mu.get(), g_logvar.get()}, 0, m * b);
  for (int64_t i = 0; i < size; ++i) {
    const int64_t at = i / n * 2 * n + i % n;
    const T raw = encoded.get()[at + n];
    expected.get()[at] = g_mu.get()[i], expected.get()[at + n] = raw < kLow || raw > kHigh ? T(0) : g_logvar.get()[i];
  }
  encoded.in(), z0.in(), of_z.in(), of_kl.in(), of_encoded.out();
  finish(cuda::sample_posterior_backward(SamplingGradient<T>{encoded.get(), kLow, kHigh, z0.get(), of_z.get(),
                                                             of_kl.get(), of_encoded.get(), m, b, n, draws},
                                         nullptr));
  expect_equal("gradient of the encoder's output", of_encoded, expected);
}

template <class T>
void compare_inputs(int64_t m, int64_t streams, int64_t b, int64_t d) {
  name<T>("inputs", m, b, streams, d);
  const int64_t steps = between(1, 4), data = between(1, 50);
  const auto x = normals<T>(data * d), sigma2 = normals<T>(m);
  const auto factors = normals<double>(steps), rates = normals<double>(steps);
  const Buffer<int64_t> numbers(steps * streams * b), position(1), stream(m);
  std::generate_n(numbers.get(), numbers.size, [&] { return between(0, data - 1); });
  std::generate_n(stream.get(), m, [&] { return between(0, streams - 1); });
  const int64_t at = *position.get() = between(0, steps - 1), copies = streams == 1 ? 1 : m;
  const Buffer<T> batch(copies * b * d), batch0(batch.size), present(m), present0(m);
  const Buffer<double> scalars(2), scalars0(2);
  scalars0.get()[0] = factors.get()[at], scalars0.get()[1] = rates.get()[at];
  for (int64_t i = 0; i < m; ++i) {
    present0.get()[i] = sigma2.get()[i] * T(factors.get()[at]);
  }
  for (int64_t i = 0; i < batch.size; ++i) {
    const int64_t of_stream = streams == 1 ? 0 : stream.get()[i / (b * d)];
    batch0.get()[i] = x.get()[numbers.get()[(at * streams + of_stream) * b + i / d % b] * d + i % d];
  }
  x.in(), sigma2.in(), factors.in(), rates.in(), numbers.in(), position.in(), stream.in();
  batch.out(), present.out(), scalars.out();
  finish(cuda::step_inputs(StepInputs<T>{x.get(), numbers.get(), factors.get(), rates.get(), position.get(),
                                         streams == 1 ? nullptr : stream.get(), sigma2.get(), batch.get(),
                                         present.get(), scalars.get(), m, streams, b, d},
                           nullptr));
  expect_equal("batch", batch, batch0), expect_equal("sigma2", present, present0);
  expect_equal("scalars", scalars, scalars0);
}

template <class T>
void compare_end(int64_t m) {
  name<T>("end", m, 0, 0, 0);
  const auto energy = normals<T>(m), kl = normals<T>(m), penalty = normals<T>(m), sigma2 = normals<T>(m);
  const auto window = normals<double>(3 * m), factor = normals<double>(1), window0 = copy_of(window);
  const Buffer<int64_t> counters(2), counters0(2);
  counters.get()[0] = between(0, 99), counters.get()[1] = between(0, 99);
  counters0.get()[0] = counters.get()[0] + 1, counters0.get()[1] = counters.get()[1] + 1;
  for (int64_t i = 0; i < m; ++i) {
    window0.get()[i] += energy.get()[i] * T(2 * *factor.get()) * sigma2.get()[i];
    window0.get()[m + i] += kl.get()[i], window0.get()[2 * m + i] += penalty.get()[i];
  }
  energy.in(), kl.in(), penalty.in(), sigma2.in(), factor.in(), window.in_out(), counters.in_out();
  finish(cuda::end_step(StepEnd<T>{window.get(), energy.get(), kl.get(), penalty.get(), sigma2.get(), factor.get(),
                                   counters.get(), counters.get() + 1, m},
                        nullptr));
  expect_equal("window", window, window0), expect_equal("counters", counters, counters0);
}

template <class T>
void compare_steps_of(int rounds) {
  // Groups that fill a tile and leave one incomplete, one group alone, several parts of features and of latents.
  compare_targets<T>(2, 4, 16, 3, 5, 2), compare_targets<T>(1, 1, 9, 1, 1, 1), compare_targets<T>(1, 3, 65, 17, 66, 2);
  compare_sampling<T>(1, 1, 1, 1, false), compare_sampling<T>(3, 130, 5, 2, true),
      compare_sampling<T>(2, 300, 4, 2, true);
  compare_sampling<T>(2, 7, 19, 1, false), compare_end<T>(1), compare_end<T>(300);
  compare_inputs<T>(300, 1, 1, 3), compare_inputs<T>(3, 1, 70, 8), compare_inputs<T>(3, 2, 70, 5);
  for (int round = 0; round < rounds; ++round) {
    const int64_t m = between(1, 4), draws = between(1, 2), n = between(1, 9), d = between(1, between(0, 1) ? 9 : 70);
    compare_targets<T>(m, between(1, 5), between(1, 40), n, d, draws);
    compare_sampling<T>(m, between(1, 140), n, draws, between(0, 1));
    compare_inputs<T>(m, between(1, 3), between(1, 40), d);
  }
}

}  // namespace

void compare_steps(int rounds) { compare_steps_of<float>(rounds), compare_steps_of<double>(rounds); }
