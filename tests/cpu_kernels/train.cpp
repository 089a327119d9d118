// Trains small models by the CPU kernels, without torch, and prints a hash of the bits of all weights and moments.
//
// Whatever compiler and processor it is built for, it must print the same: every float operation of a step is a single
// rounded one, in an order that does not depend on the width of the registers.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "elbo_math.h"
#include "step_launch.h"

using namespace phasevae;

namespace {

constexpr int64_t kModels = 2, kRows = 200, kSteps = 12;

struct Case {
  const char* name;
  Family family;
  int64_t features, hidden1, hidden2, latents, batch, draws, group;
  bool is_matched;
  int64_t spare;  // floats at the end of a model's row
};

constexpr Case kCases[] = {
    {"gaussian, usual", Family::kGaussian, 8, 40, 24, 4, 128, 1, 1, false, 3},
    {"gaussian, targets and matched noise", Family::kGaussian, 8, 40, 24, 4, 128, 2, 16, true, 3},
    {"gaussian, odd widths", Family::kGaussian, 13, 37, 9, 7, 75, 2, 25, true, 3},
    {"gaussian, a wide row", Family::kGaussian, 70, 33, 17, 16, 64, 2, 32, true, 3},
    {"gaussian, five and seven vectors", Family::kGaussian, 5, 66, 100, 2, 64, 2, 16, true, 3},
    {"gaussian, weights of several panels", Family::kGaussian, 40, 80, 96, 16, 96, 2, 16, true, 3},
    {"gaussian, panels that begin at vectors", Family::kGaussian, 48, 80, 96, 16, 96, 2, 16, true, 0},
    {"bernoulli, targets and matched noise", Family::kBernoulli, 19, 40, 24, 3, 96, 2, 8, true, 3},
};

// Numbers in (-1, 1) of a linear congruential generator (Knuth).
class Numbers {
 public:
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int32_t>(state_ >> 40)) * 0x1p-23f - 1.0f;
  }

  std::vector<float> take(int64_t count, float scale) {
    std::vector<float> numbers(count);
    for (float& number : numbers) {
      number = scale * next();
    }
    return numbers;
  }

 private:
  uint64_t state_ = 1;
};

uint64_t hash_of(const float* numbers, int64_t count, uint64_t hash) {
  for (int64_t i = 0; i < count; ++i) {
    hash = (hash ^ static_cast<uint32_t>(bits_of(numbers[i]))) * 1099511628211u;  // FNV-1a, by words
  }
  return hash;
}

uint64_t train(const Case& of, const cpu::NetworkKernels& networks, bool in_panels) {
  Numbers numbers;
  const int64_t encoder[] = {of.features, of.hidden1, of.hidden2, 2 * of.latents};
  const int64_t decoder[] = {of.latents, of.hidden2, of.hidden1, of.features};
  Steps in{};
  in.encoder = {encoder, 3, nullptr, 0}, in.decoder = {decoder, 3, nullptr, 0};
  in.models = kModels, in.streams_of_rows = 1, in.steps = kSteps, in.batch = of.batch, in.draws = of.draws;
  in.latents = of.latents, in.n_inputs = in.features = of.features, in.group = of.group;
  in.row = parameters_of(in.encoder) + parameters_of(in.decoder) + of.spare;
  const int64_t size = kModels * in.row;
  // They begin at a whole vector, as torch's do.
  cpu::Scratch parameters(size), gradients(size), first(size), second(size);
  std::ranges::copy(numbers.take(size, 0.25f), parameters.get());
  std::fill_n(first.get(), size, 0.0f), std::fill_n(second.get(), size, 0.0f);
  in.parameters = parameters.get(), in.gradients = gradients.get();
  in.first_moment = first.get(), in.second_moment = second.get();
  in.encoder.parameters = in.parameters, in.decoder.parameters = in.parameters + parameters_of(in.encoder);
  in.encoder.model = in.decoder.model = in.row;

  std::vector<float> x = numbers.take(kRows * of.features, 1.5f);
  for (float& value : x) {
    value = of.family == Family::kBernoulli ? static_cast<float>(value > 0) : value;
  }
  std::vector<int64_t> rows(kSteps * of.batch);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] = static_cast<int64_t>(i * 37 % kRows);
  }
  const std::vector<float> mean = numbers.take(of.features, 0.1f), offset = numbers.take(of.features, 0.2f);
  const std::vector<int64_t> streams(kModels), keys{1234567890123, -42};
  const std::vector<double> factors(kSteps, 0.7), rates(kSteps, 0.01);
  const std::vector<float> sigma2{0.5f, 0.9f}, beta{1.0f, 1.5f}, of_kl{1.0f / of.batch, 1.5f / of.batch};
  std::vector<double> window(3 * kModels);
  in.inputs = in.x = x.data(), in.rows = rows.data(), in.streams = streams.data(), in.keys = keys.data();
  in.factors = factors.data(), in.rates = rates.data(), in.first = 3, in.window = window.data();
  in.sigma2 = sigma2.data(), in.beta = beta.data(), in.of_kl = of_kl.data();
  in.mean = mean.data(), in.offset = offset.data(), in.family = of.family, in.is_matched = of.is_matched;
  in.least_logvar = -12.0f, in.most_logvar = 8.0f, in.beta1 = 0.9, in.beta2 = 0.999, in.epsilon = 1e-8;

  in.encoder.in_panels = in.decoder.in_panels = in_panels;
  const cpu::StepMemory memory(in);
  for (int64_t model = 0; model < kModels; ++model) {
    const auto arrange = [&](bool into_panels) {
      for (float* const array : {in.parameters, in.gradients, in.first_moment, in.second_moment}) {
        networks.arrange(in.encoder, into_panels, array + model * in.row, memory.scratch);
        networks.arrange(in.decoder, into_panels, array + model * in.row + parameters_of(in.encoder), memory.scratch);
      }
    };
    if (in_panels) {
      arrange(true);
    }
    for (int64_t step = 0; step < kSteps; ++step) {
      cpu::train_step(in, networks, memory, model, step);
    }
    if (in_panels) {
      arrange(false);
    }
  }
  uint64_t hash = 14695981039346656037u;
  for (const float* const array : {in.parameters, in.first_moment, in.second_moment}) {
    hash = hash_of(array, size, hash);
  }
  return hash;
}

// Whether the update at the end of a backward pass is that of the operation, for a layer of these widths.
bool updates_as_the_operation(const cpu::NetworkKernels& networks, int64_t fan_in, int64_t fan_out) {
  constexpr int64_t kBatch = 150;
  Numbers numbers;
  const int64_t widths[] = {fan_in, fan_out};
  const int64_t size = (fan_in + 1) * fan_out, steps_done = 4;
  const double rate = 0.01;
  const std::vector<float> input = numbers.take(kBatch * fan_in, 1.0f), slopes = numbers.take(kBatch * fan_out, 1.0f);
  const std::vector<float> start = numbers.take(size, 0.25f);
  std::vector<float> gradients(size), together[3], apart[3];
  for (std::vector<float>* const arrays : {together, apart}) {
    arrays[0] = start, arrays[1] = std::vector<float>(size, 0.125f), arrays[2] = std::vector<float>(size, 0.5f);
    const Update update{adam_factors<float>(rate, 0.9, 0.999, 1e-8, steps_done), arrays[0].data(), arrays[1].data(),
                        arrays[2].data()};
    const Network network{widths, 1, arrays[0].data(), size};
    NetworkBackward pass{
        network,          1,    kBatch, {input.data(), 0, fan_in}, nullptr, {slopes.data(), 0, fan_out}, {}, nullptr,
        gradients.data(), size, 1};
    pass.update = arrays == together ? &update : nullptr;
    networks.backward(pass, 0, 1, cpu::Scratch(cpu::backward_scratch(network)).get());
    if (arrays == apart) {
      cpu::adam_step(Adam<float>{arrays[0].data(), gradients.data(), arrays[1].data(), arrays[2].data(), &rate,
                                 &steps_done, 0.9, 0.999, 1e-8, size},
                     0, size);
    }
  }
  for (int i = 0; i < 3; ++i) {
    if (std::memcmp(together[i].data(), apart[i].data(), size * sizeof(float)) != 0 || together[i] == start) {
      return false;
    }
  }
  return true;
}

// The kernels that this processor can run.
std::vector<const cpu::NetworkKernels*> kernels() {
  std::vector<const cpu::NetworkKernels*> found{cpu::network_kernels_neon()};
#ifdef __x86_64__
  found.push_back(__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") ? cpu::network_kernels_v4()
                                                                                           : nullptr);
  found.push_back(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? cpu::network_kernels_v3()
                                                                                  : nullptr);
#endif
  std::erase(found, nullptr);
  return found;
}

}  // namespace

int main() {
  if (kernels().empty()) {
    std::fprintf(stderr, "no kernels of the networks for this compiler and processor\n");
    return 1;
  }
  for (const cpu::NetworkKernels* each : kernels()) {
    for (const auto& [fan_in, fan_out] : {std::pair{40, 80}, {37, 70}, {100, 7}, {3, 17}, {1, 1}}) {
      if (!updates_as_the_operation(*each, fan_in, fan_out)) {
        std::fprintf(stderr, "%d x %d: the update of a pass is not that of adam_step\n", fan_in, fan_out);
        return 1;
      }
    }
  }
  for (const Case& of : kCases) {
    const uint64_t hash = train(of, *kernels().front(), false);
    for (const cpu::NetworkKernels* others : kernels()) {
      if (train(of, *others, false) != hash || train(of, *others, true) != hash) {
        std::fprintf(stderr, "%s: instruction sets of this processor differ, or weights in panels\n", of.name);
        return 1;
      }
    }
    std::printf("%016llx %s\n", static_cast<unsigned long long>(hash), of.name);
  }
}
