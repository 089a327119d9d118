// The CUDA kernels, emulated, against the CPU kernels: shapes that leave warps and blocks incomplete, any strides.
//   compare [rounds] [seed] [first]    prints each failure, or the first; exits 1 if there was any

#include "compare.h"

#include "buffers.h"
#include "cuda_runtime.h"
#include "elbo_math.h"

using namespace phasevae;

namespace {

template <class T>
void compare_samples(int64_t m, int64_t b, int64_t n, int64_t draws) {
  const Buffer<int64_t> keys(m), steps(m);
  for (int64_t i = 0; i < m; ++i) {
    keys.get()[i] = int64_t(random_bits()), steps.get()[i] = int64_t(random_bits() >> 2);
  }
  const Stream stream{keys.get(), between(0, 5), m > 0 && between(0, 1) ? steps.get() : nullptr, between(0, 1)};
  const Strides s_mu = strides(m, b, n), s_logvar = strides(m, b, n), s_plus = strides(m, b, n),
                s_minus = strides(m, b, n), s_kl = strides(m, b, n);
  const auto mu = normals<T>(s_mu.size(m, b, n)), logvar = log_variances<T>(s_logvar.size(m, b, n));
  const Buffer<T> z(m * draws * b * n), kl(m * b * n), z0(z.size), kl0(kl.size);
  const Posterior<T> in{s_mu.of(mu), s_logvar.of(logvar), stream, m, b, n, draws};
  if (kl.size > 0) {
    cpu::reparam_kl(in, {z0.get(), kl0.get()}, 0, m * b);
  }
  keys.in(), steps.in(), mu.in(), logvar.in(), z.out(), kl.out();
  finish(cuda::reparam_kl(in, {z.get(), kl.get()}, nullptr));
  expect_equal("z", z, z0), expect_equal("kl", kl, kl0);

  const auto plus = normals<T>(s_plus.size(m, b, n)), g_kl = normals<T>(s_kl.size(m, b, n));
  const auto minus = normals<T>(draws == 2 ? s_minus.size(m, b, n) : 0);
  const Sampled<T> sampled{in.mu, in.logvar, {z0.get(), draws * b * n, n, 1}, m, b, n, draws};
  const Buffer<T> of_mu(kl.size), of_logvar(kl.size), of_mu0(kl.size), of_logvar0(kl.size);
  SampleGradient<T> g{{s_plus.of(plus), s_minus.of(minus)}, s_kl.of(g_kl), of_mu0.get(), of_logvar0.get()};
  if (kl.size > 0) {
    cpu::reparam_kl_backward(sampled, g, 0, m * b);
  }
  g.mu = of_mu.get(), g.logvar = of_logvar.get();
  mu.in(), logvar.in(), z0.in(), plus.in(), minus.in(), g_kl.in(), of_mu.out(), of_logvar.out();
  finish(cuda::reparam_kl_backward(sampled, g, nullptr));
  expect_equal("grad mu", of_mu, of_mu0), expect_equal("grad logvar", of_logvar, of_logvar0);

  const Buffer<T> eps(kl.size), eps0(kl.size);
  if (kl.size > 0) {
    cpu::normals(stream, b, n, eps0.get(), 0, m * b);
  }
  keys.in(), steps.in(), eps.out();
  finish(cuda::normals(stream, m, b, n, eps.get(), nullptr));
  expect_equal("noise", eps, eps0);
}

template <class T>
void compare_matching(int64_t m, int64_t b, int64_t n, int64_t draws) {
  const Strides s_mu = strides(m, b, n), s_logvar = strides(m, b, n);
  const auto mu = normals<T>(s_mu.size(m, b, n)), logvar = normals<T>(s_logvar.size(m, b, n));
  const auto z = normals<T>(m * draws * b * n);
  const Buffer<T> matched(z.size), matched0(z.size);
  Matching<T> in{s_mu.of(mu), s_logvar.of(logvar), z.get(), matched0.get(), m, draws, b, n};
  cpu::match_moments(in, 0, m);
  in.matched = matched.get();
  mu.in(), logvar.in(), z.in(), matched.out();
  finish(cuda::match_moments(in, nullptr));
  expect_equal("matched noise", matched, matched0);
}

// The value of a term against a sum of long double, since sums of other orders round differently.
template <class Term, class T>
void compare_errors(int64_t m, int64_t b, int64_t d, int64_t draws) {
  const Strides s_x = strides(m, b, d, true), s_g = strides(m, draws, b);
  const auto x = normals<T>(s_x.size(m, b, d)), outputs = normals<T>(m * draws * b * d, 3), sigma2 = normals<T>(m);
  const auto grad = normals<T>(s_g.size(m, draws, b));
  for (int64_t i = 0; i < m; ++i) {
    sigma2.get()[i] = std::exp(sigma2.get()[i]);
  }
  const Residual<T> in{s_x.of(x), outputs.get(), sigma2.get(), m, draws, b, d};
  const Buffer<T> nll(m * draws * b), of_outputs(outputs.size), of_outputs0(outputs.size);
  x.in(), outputs.in(), sigma2.in(), nll.out();
  finish(cuda::nll(Term{}, in, nll.get(), nullptr));
  std::vector<long double> expected(nll.size), scale(nll.size);
  for (int64_t at = 0; at < nll.size; ++at) {
    const int64_t model = at / (draws * b), row = at % b;
    for (int64_t i = 0; i < d; ++i) {
      const T value = in.x.data[model * s_x.model + row * s_x.row + i];
      const T term = Term::value(value, outputs.get()[at * d + i]);
      const T variance = sigma2.get()[model];
      expected[at] += std::is_same_v<Term, Gaussian> ? term / (2.0L * variance) : term / (1.0L * variance);
      scale[at] += (std::fabs(term) + std::fabs(value * outputs.get()[at * d + i])) / variance;
    }
  }
  expect_close("nll", nll, expected, scale);
  cpu::nll_backward(Term{}, in, {s_g.of(grad), of_outputs0.get()}, 0, nll.size);
  x.in(), outputs.in(), sigma2.in(), grad.in(), of_outputs.out();
  finish(cuda::nll_backward(Term{}, in, {s_g.of(grad), of_outputs.get()}, nullptr));
  expect_equal("grad outputs", of_outputs, of_outputs0);
}

template <class T>
void compare_adam(int64_t size) {
  const auto parameters = normals<T>(size), first = normals<T>(size, 0.1), second = normals<T>(size, 0.1);
  const auto gradients = normals<T>(size);
  const Buffer<double> rate(1);
  const Buffer<int64_t> steps(1);
  *rate.get() = std::exp(normal()), *steps.get() = between(0, 5000);
  for (int64_t i = 0; i < size; ++i) {
    second.get()[i] *= second.get()[i];
  }
  const auto parameters0 = copy_of(parameters), first0 = copy_of(first), second0 = copy_of(second);
  const auto factors = adam_factors<T>(static_cast<T>(*rate.get()), 0.9, 0.999, 1e-8, *steps.get());
  for (int64_t i = 0; i < size; ++i) {
    adam(factors, gradients.get()[i], parameters0.get()[i], first0.get()[i], second0.get()[i]);
  }
  parameters.in_out(), gradients.in(), first.in_out(), second.in_out(), rate.in(), steps.in();
  const Adam<T> in{
      parameters.get(), gradients.get(), first.get(), second.get(), rate.get(), steps.get(), 0.9, 0.999, 1e-8, size};
  finish(cuda::adam_step(in, nullptr));
  expect_equal("parameters", parameters, parameters0);
  expect_equal("first moment", first, first0), expect_equal("second moment", second, second0);
}

template <class T>
void compare_all(int64_t m, int64_t b, int64_t n) {
  for (int64_t draws : {1, 2}) {
    label = std::string(sizeof(T) == 4 ? "float" : "double") + " M=" + std::to_string(m) + " B=" + std::to_string(b) +
            " n=" + std::to_string(n) + " draws=" + std::to_string(draws);
    emulator::set_order(uint32_t(random_bits() % 4));
    compare_samples<T>(m, b, n, draws);
    compare_matching<T>(m, b, std::min<int64_t>(n, kMostMatched), draws);
    compare_errors<Gaussian, T>(m, b, n, draws);
    compare_errors<Bernoulli, T>(m, b, n, draws);
  }
  compare_adam<T>(m * b * n);
}

// Nothing to do is no error, and a row without features has the error 0.
void compare_empty() {
  label = "empty";
  compare_matching<float>(0, 3, 2, 2), compare_matching<float>(2, 0, 2, 2), compare_matching<float>(2, 3, 0, 2);
  compare_samples<float>(0, 3, 2, 2), compare_samples<float>(2, 0, 2, 2), compare_samples<float>(2, 3, 0, 2);
  compare_errors<Gaussian, float>(2, 3, 0, 2), compare_errors<Bernoulli, float>(2, 3, 0, 2);
  compare_adam<float>(0);
}

// A launch reports its own error, and neither takes nor leaves one for others.
void check_errors_of_launches() {
  label = "errors";
  emulator::set_last_error(1);
  compare_adam<float>(300);
  if (cudaGetLastError() != 1) {
    fail("a launch took the error of another call");
  }
  Adam<float> huge{};
  huge.size = int64_t{1} << 50;
  finish(cuda::adam_step(huge, nullptr), cudaErrorInvalidConfiguration);
  if (cudaGetLastError() != 0) {
    fail("a failed launch left its error for others");
  }
  ++checks;
}

// Warps touch no more sectors than their numbers fill, where rows are contiguous and their widths multiples of four.
void check_traffic() {
  label = "traffic";
  const int64_t m = 2, b = 64, n = 4, d = 8;
  const auto both = log_variances<float>(m * b * 2 * n), g = normals<float>(m * 2 * b * d);
  const Buffer<float> z(m * 2 * b * n), kl(m * b * n), sigma2 = normals<float>(m), nll(m * 2 * b), outputs(g.size);
  const Buffer<int64_t> keys(m);
  const View<float> mu{both.get(), b * 2 * n, 2 * n, 1}, logvar{both.get() + n, b * 2 * n, 2 * n, 1};
  const View<float> contiguous{g.get(), b * n, n, 1};
  const Posterior<float> posterior{mu, logvar, {keys.get(), 0, nullptr, 0}, m, b, n, 2};
  const Residual<float> residual{{g.get(), b * d, d, 1}, g.get(), sigma2.get(), m, 2, b, d};
  const auto check = [&](const char* what, int status) {
    finish(status);
    const emulator::Traffic stores = emulator::stores();
    if (stores.sectors != stores.fewest || stores.sectors == 0) {
      fail(std::string(what) + " stores to " + std::to_string(stores.sectors) + " sectors, its numbers fill " +
           std::to_string(stores.fewest));
    }
    ++checks;
    emulator::count_traffic(true);
  };
  const auto allow = [&] { both.in(), g.in(), keys.in(), sigma2.in(), z.out(), kl.out(), nll.out(), outputs.out(); };
  emulator::set_order(0);
  emulator::count_traffic(true);
  allow(), check("reparam_kl", cuda::reparam_kl(posterior, {z.get(), kl.get()}, nullptr));
  const SampleGradient<float> of_sample{{contiguous, contiguous}, contiguous, z.get(), kl.get()};
  const Sampled<float> sampled{mu, logvar, contiguous, m, b, n, 2};
  allow(), check("reparam_kl_backward", cuda::reparam_kl_backward(sampled, of_sample, nullptr));
  allow(), check("nll", cuda::nll(Gaussian{}, residual, nll.get(), nullptr));
  const ResidualGradient<float> gradient{{g.get(), 2 * b, b, 1}, outputs.get()};
  allow(), check("nll_backward", cuda::nll_backward(Gaussian{}, residual, gradient, nullptr));
  emulator::count_traffic(false);
}

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 10;
  random_bits.seed(count > 2 ? std::atoi(arguments[2]) : 0);
  stops_at_a_failure = count > 3;
  compare_networks(rounds);
  compare_steps(rounds);
  const int64_t shapes[][3] = {{1, 1, 1},  {1, 1, 2},  {3, 70, 5},  {1, 300, 5}, {2, 33, 130}, {2, 1, 32}, {1, 9, 33},
                               {5, 64, 4}, {2, 65, 8}, {1, 257, 1}, {4, 7, 31},  {2, 16, 17},  {3, 40, 12}};
  for (const auto& [m, b, n] : shapes) {
    compare_all<float>(m, b, n), compare_all<double>(m, b, n);
  }
  for (int round = 0; round < rounds; ++round) {
    const int64_t m = between(1, between(0, 4) ? 5 : 130), b = between(1, m > 5 ? 9 : 130);
    const int64_t n = between(1, between(0, 1) ? 9 : 130);
    compare_all<float>(m, b, n), compare_all<double>(m, b, n);
  }
  compare_empty();
  check_errors_of_launches();
  check_traffic();
  std::printf("%d passed, %d failed\n", checks - failures, failures);
  return failures != 0;
}
