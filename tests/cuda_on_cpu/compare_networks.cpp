// The networks' passes on CUDA, emulated, against those of the CPU, bit for bit.

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

void compare(const cpu::NetworkKernels& kernels, int64_t models, int64_t rows, const std::vector<int64_t>& widths,
             bool with_input, bool has_own) {
  label = "network " + words(widths) + " M=" + std::to_string(models) + " R=" + std::to_string(rows);
  const int64_t layers = widths.size() - 1, offset = between(0, 5), in = widths[0], out = widths[layers];
  Network network{widths.data(), layers, nullptr, 0};
  network.model = offset + parameters_of(network) + between(0, 5);
  const auto parameters = normals<float>(models * network.model, 0.3);
  network.parameters = parameters.get() + offset;
  const Given input(models, rows, in), grad(models, rows, out), own(models, rows, out);
  const int64_t blocks = models * cpu::blocks_of(rows);

  const Buffer<float> output(models * rows * out), output0(output.size);
  const Buffer<float> tape(cuda::tape_size(network, models, rows)), tape0(blocks * cpu::tape_size(network));
  cpu::Scratch memory(std::max(cpu::forward_scratch(network), cpu::backward_scratch(network)));
  kernels.forward({network, rows, input.get(), output0.get(), tape0.get()}, 0, blocks, memory.get());
  emulator::set_order(uint32_t(random_bits() % 4));
  parameters.in(), input.buffer.in(), output.out(), tape.out();
  finish(cuda::mlp_forward({network, rows, input.get(), output.get(), tape.get()}, models, nullptr));
  expect_equal("output", output, output0);

  const Buffer<float> of_input(with_input ? models * rows * in : 0), of_input0(of_input.size);
  const Buffer<float> gradients(parameters.size), gradients0(parameters.size);
  std::fill_n(gradients.get(), gradients.size, 7.0f), std::fill_n(gradients0.get(), gradients.size, 7.0f);
  const Buffer<float> scratch((has_own ? 4 : 2) * cuda::gradient_size(network, models, rows));
  NetworkBackward pass{network,
                       models,
                       rows,
                       input.get(),
                       tape0.get(),
                       grad.get(),
                       has_own ? own.get() : Rows{},
                       with_input ? of_input0.get() : nullptr,
                       gradients0.get() + offset,
                       network.model,
                       1};
  kernels.backward(pass, 0, models, memory.get());
  pass.tape = tape.get(), pass.gradients = gradients.get() + offset;
  pass.grad_input = with_input ? of_input.get() : nullptr;
  parameters.in(), input.buffer.in(), grad.buffer.in(), own.buffer.in();
  tape.in(), scratch.out(), gradients.in_out(), of_input.out();
  finish(cuda::mlp_backward(pass, scratch.get(), nullptr));
  expect_equal("gradients", gradients, gradients0), expect_equal("gradient of the input", of_input, of_input0);
}

}  // namespace

void compare_networks(int rounds) {
  const cpu::NetworkKernels* kernels = kernels_of_the_cpu();
  if (!kernels) {
    std::printf("no AVX2: networks are not compared\n");
    return;
  }
  // Each tile: wide, narrow and flat, just full and just more than full; sums over several blocks of rows.
  compare(*kernels, 1, 1, {1, 1}, true, false), compare(*kernels, 3, 70, {5, 33, 17, 6}, true, true);
  compare(*kernels, 2, 129, {16, 65, 129, 16}, true, true), compare(*kernels, 1, 128, {128, 64, 17}, true, false);
  compare(*kernels, 2, 65, {17, 130}, false, true), compare(*kernels, 7, 9, {4, 20, 8}, false, false);
  for (int round = 0; round < rounds; ++round) {
    std::vector<int64_t> widths(between(2, 4));
    for (int64_t& width : widths) {
      width = between(1, between(0, 1) ? 20 : 140);
    }
    compare(*kernels, between(1, 4), between(1, 140), widths, between(0, 1), between(0, 1));
  }
}
