// The networks' passes on CUDA, emulated: bit for bit those of the CPU; with TF32 products of rounded numbers.

#include <array>

#include "buffers.h"
#include "compare.h"
#include "cpu/scratch.h"
#include "mlp_launch.h"

using namespace phasevae;

namespace {

const cpu::NetworkKernels* kernels_of_the_cpu() {
  return __builtin_cpu_supports("x86-64-v4")   ? cpu::network_kernels_v4()
         : __builtin_cpu_supports("x86-64-v3") ? cpu::network_kernels_v3()
                                               : nullptr;
}

// Numbers [M or 1, R, width], whose rows have others between them or begin where four are not aligned.
struct Given {
  Given(int64_t models, int64_t rows, int64_t width)
      : skipped(between(0, 3)),
        row(width + between(0, 3)),
        model(between(0, 3) ? rows * row : 0),
        buffer(normals<float>(skipped + (models - 1) * model + (rows - 1) * row + width)) {}
  Rows get() const { return {buffer.get() + skipped, model, row}; }

  int64_t skipped, row, model;
  Buffer<float> buffer;
};

std::string words(const std::vector<int64_t>& numbers) {
  std::string all;
  for (const int64_t number : numbers) {
    all += (all.empty() ? "" : "-") + std::to_string(number);
  }
  return all;
}

// A network of several models, and what its passes on CUDA read and write.
struct Passes {
  Passes(int64_t m, int64_t r, const std::vector<int64_t>& all, bool with_input, bool has_own)
      : models(m),
        rows(r),
        widths(all),
        offset(between(0, 5)),
        network{widths.data(), static_cast<int64_t>(widths.size()) - 1, nullptr, 0},
        input(m, r, widths.front()),
        grad(m, r, widths.back()),
        own(m, r, widths.back()),
        parameters(0),
        output(m * r * widths.back()),
        tape(cuda::tape_size(network, m, r)),
        of_input(with_input ? m * r * widths.front() : 0),
        gradients(0),
        scratch(0) {
    network.model = offset + parameters_of(network) + between(0, 5);
    parameters = normals<float>(models * network.model, 0.3), gradients = Buffer<float>(parameters.size);
    network.parameters = parameters.get() + offset;
    std::fill_n(gradients.get(), gradients.size, 7.0f);
    back = {network,
            models,
            rows,
            input.get(),
            tape.get(),
            grad.get(),
            has_own ? own.get() : Rows{},
            with_input ? of_input.get() : nullptr,
            gradients.get() + offset,
            network.model,
            between(0, 1) ? cuda::gradient_splits(network, m, r) : 1};
    scratch = Buffer<float>(cuda::backward_scratch(back));
  }
  Passes(const Passes&) = delete;

  void run(bool with_tf32) const {
    label = std::string(with_tf32 ? "TF32, " : "") + "network " + words(widths) + " M=" + std::to_string(models) +
            " R=" + std::to_string(rows) + " splits=" + std::to_string(back.splits);
    emulator::set_order(uint32_t(random_bits() % 4));
    parameters.in(), input.buffer.in(), output.out(), tape.out();
    finish(
        cuda::mlp_forward({network, rows, input.get(), output.get(), tape.get()}, models, nullptr, with_tf32, nullptr));
    const Buffer<float> same(output.size), by_turns(cuda::forward_scratch(network, models, rows));
    parameters.in(), input.buffer.in(), same.out(), by_turns.out();
    const NetworkForward without_tape{network, rows, input.get(), same.get(), nullptr};
    finish(cuda::mlp_forward(without_tape, models, by_turns.get(), with_tf32, nullptr));
    expect_equal("output without a tape", same, output);
    parameters.in(), input.buffer.in(), grad.buffer.in(), own.buffer.in();
    tape.in(), scratch.out(), gradients.in_out(), of_input.out();
    finish(cuda::mlp_backward(back, scratch.get(), with_tf32, nullptr));
  }

  int64_t models, rows;
  std::vector<int64_t> widths;
  int64_t offset;
  Network network;
  Given input, grad, own;
  Buffer<float> parameters, output, tape, of_input, gradients, scratch;
  NetworkBackward back;
};

void compare_with_the_cpu(const Passes& passes, const cpu::NetworkKernels& kernels) {
  const Network& network = passes.network;
  const int64_t blocks = passes.models * cpu::blocks_of(passes.rows);
  const Buffer<float> output(passes.output.size), tape(blocks * cpu::tape_size(network));
  const Buffer<float> of_input(passes.of_input.size), gradients(passes.gradients.size);
  std::fill_n(gradients.get(), gradients.size, 7.0f);
  cpu::Scratch memory(std::max(cpu::forward_scratch(network), cpu::backward_scratch(network)));
  kernels.forward({network, passes.rows, passes.input.get(), output.get(), tape.get()}, 0, blocks, memory.get());
  NetworkBackward back = passes.back;
  back.tape = tape.get(), back.gradients = gradients.get() + passes.offset;
  back.grad_input = back.grad_input ? of_input.get() : nullptr;
  back.splits = 1;
  kernels.backward(back, 0, passes.models, memory.get());
  passes.run(false);
  expect_equal("output", passes.output, output), expect_equal("gradients", passes.gradients, gradients);
  expect_equal("gradient of the input", passes.of_input, of_input);
}

// A number rounded to the 11 significant bits of TF32, half of the last one away from zero.
double rounded(float number) {
  int exponent;
  const double fraction = std::frexp(static_cast<double>(number), &exponent);
  return std::ldexp(std::round(std::ldexp(fraction, 11)), exponent - 11);
}

struct Sum {
  double value = 0, magnitude = 0;
  void add(double term) { value += term, magnitude += std::fabs(term); }
};

// Numbers [M, rows, columns] against expected(model, row, column).
template <class Expected>
void expect_sums(const char* what, const Rows& found, int64_t models, int64_t rows, int64_t columns,
                 const Expected& expected) {
  constexpr double kTolerance = 2e-6;  // of sums in float32; TF32 has 5e-4
  ++checks;
  for (int64_t at = 0; at < models * rows * columns; ++at) {
    const int64_t model = at / (rows * columns), row = at / columns % rows, column = at % columns;
    const Sum sum = expected(model, row, column);
    const double value = found.data[model * found.model + row * found.row + column];
    if (!(std::fabs(value - sum.value) <= kTolerance * sum.magnitude)) {
      return fail(std::string(what) + "[" + std::to_string(row) + ", " + std::to_string(column) + "] of model " +
                  std::to_string(model) + " is " + std::to_string(value) + ", must be " + std::to_string(sum.value));
    }
  }
}

// Each layer on its own, from the numbers that the layer before it has given: a number close to the middle of two of
// TF32 may be rounded either way after sums of another order.
void compare_tf32(const Passes& passes) {
  passes.run(true);
  const int64_t models = passes.models, rows = passes.rows, layers = passes.network.layers;
  const auto at = [](const Rows& of, int64_t model, int64_t row, int64_t i) {
    return of.data[model * of.model + row * of.row + i];
  };
  const auto contiguous = [&](const float* data, int64_t width) { return Rows{data, rows * width, width}; };
  const float *weight = passes.network.parameters, *hidden = passes.tape.get();
  const float* gradient = passes.gradients.get() + passes.offset;
  const int64_t step = passes.network.model, size = cuda::gradient_size(passes.network, models, rows);
  Rows input = passes.input.get();
  for (int64_t k = 0; k < layers; ++k) {
    const int64_t in = passes.widths[k], out = passes.widths[k + 1];
    const bool is_last = k + 1 == layers;
    const Rows output = contiguous(is_last ? passes.output.get() : hidden, out);
    expect_sums("output", output, models, rows, out, [&](int64_t m, int64_t r, int64_t o) {
      Sum sum;
      sum.add(weight[m * step + in * out + o]);
      for (int64_t i = 0; i < in; ++i) {
        sum.add(rounded(at(input, m, r, i)) * rounded(weight[m * step + i * out + o]));
      }
      sum.value = is_last ? sum.value : std::max(sum.value, 0.0);
      return sum;
    });

    // Of each objective, by the output and by the input of the layer.
    const auto in_scratch = [&](int64_t j, int64_t objective) {
      return contiguous(passes.scratch.get() + (2 * objective + j % 2) * size, passes.widths[j]);
    };
    const Rows grads[2] = {is_last ? passes.back.grad_output : in_scratch(k + 1, 0),
                           is_last ? passes.back.grad_for_input : in_scratch(k + 1, 1)};
    expect_sums("gradient of a weight", {gradient, step, out}, models, in, out, [&](int64_t m, int64_t i, int64_t o) {
      Sum sum;
      for (int64_t r = 0; r < rows; ++r) {
        sum.add(rounded(at(input, m, r, i)) * rounded(at(grads[0], m, r, o)));
      }
      return sum;
    });
    expect_sums("gradient of a bias", {gradient + in * out, step, out}, models, 1, out,
                [&](int64_t m, int64_t, int64_t o) {
                  Sum sum;
                  for (int64_t r = 0; r < rows; ++r) {
                    sum.add(at(grads[0], m, r, o));
                  }
                  return sum;
                });
    const bool has_own = passes.back.grad_input && passes.back.grad_for_input.data;
    for (int64_t objective = k > 0 ? 0 : has_own; objective <= has_own && (k > 0 || passes.back.grad_input);
         ++objective) {
      const Rows found = k > 0 ? in_scratch(k, objective) : contiguous(passes.of_input.get(), in);
      expect_sums("gradient of an input", found, models, rows, in, [&](int64_t m, int64_t r, int64_t i) {
        Sum sum;
        for (int64_t o = 0; o < out && (k == 0 || at(input, m, r, i) > 0); ++o) {
          sum.add(rounded(at(grads[objective], m, r, o)) * rounded(weight[m * step + i * out + o]));
        }
        return sum;
      });
    }
    input = output;
    hidden += models * rows * out, weight += (in + 1) * out, gradient += (in + 1) * out;
  }
}

// A few models, many models, and sums that would take too much memory.
void check_splits() {
  label = "splits";
  const int64_t widths[] = {8, 256, 128, 8};
  const Network network{widths, 3, nullptr, 0};
  for (const auto& [models, rows, expected] :
       {std::array<int64_t, 3>{1, 4096, 64}, {31, 128, 2}, {32, 128, 1}, {1, 1 << 20, 1}}) {
    ++checks;
    if (cuda::gradient_splits(network, models, rows) != expected) {
      fail(std::to_string(models) + " models of " + std::to_string(rows) + " rows");
    }
  }
}

}  // namespace

void compare_networks(int rounds) {
  check_splits();
  const cpu::NetworkKernels* kernels = kernels_of_the_cpu();
  if (!kernels) {
    std::printf("no AVX2: networks are not compared with those of the CPU\n");
  }
  const auto compare = [&](int64_t models, int64_t rows, const std::vector<int64_t>& widths, bool with_input,
                           bool has_own) {
    if (kernels) {
      compare_with_the_cpu(Passes(models, rows, widths, with_input, has_own), *kernels);
    }
    if (widths.size() <= 4) {  // else the next layers' gradients are written over those of the last
      compare_tf32(Passes(models, rows, widths, with_input, has_own));
    }
  };
  // Each tile: wide, narrow and flat, just full and just more than full; sums over several blocks of rows.
  compare(1, 1, {1, 1}, true, false), compare(3, 70, {5, 33, 17, 6}, true, true);
  compare(2, 129, {16, 65, 129, 16}, true, true), compare(1, 128, {128, 64, 17}, true, false);
  compare(2, 65, {17, 130}, false, true), compare(7, 9, {4, 20, 8}, false, false);
  compare(2, 33, {3, 18, 7, 21, 40, 2}, true, true);
  for (int round = 0; round < rounds; ++round) {
    std::vector<int64_t> widths(between(2, 4));
    for (int64_t& width : widths) {
      width = between(1, between(0, 1) ? 20 : 140);
    }
    compare(between(1, 4), between(1, 140), widths, between(0, 1), between(0, 1));
  }
}
