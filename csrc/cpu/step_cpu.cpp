// Training steps as one operation: arguments are checked, models are handed to torch's threads from a queue.

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string_view>
#include <vector>

#include "../step_launch.h"
#include "parallel.h"

namespace phasevae {
namespace {

// The most steps of a model that a thread does on end.
constexpr int64_t kStepsAtOnce = 4;
// A turn is at most this part of a thread's fair share of the steps that are left: a thread that finds nothing left
// waits for the turns of the others.
constexpr int64_t kTurns = 4;

struct Turn {
  int64_t model, first, end;
};

// Hands out models: of those that no thread has, the one with the fewest steps done.
class Queue {
 public:
  Queue(int64_t models, int64_t steps, int64_t threads)
      : steps_(steps), threads_(threads), left_(models * steps), done_(models), taken_(models) {}

  // Nothing if every model has done its steps or belongs to a thread.
  std::optional<Turn> take() {
    const std::lock_guard lock(mutex_);
    int64_t chosen = -1;
    for (int64_t model = 0; model < static_cast<int64_t>(done_.size()); ++model) {
      if (!taken_[model] && done_[model] < steps_ && (chosen < 0 || done_[model] < done_[chosen])) {
        chosen = model;
      }
    }
    if (chosen < 0) {
      return std::nullopt;
    }
    taken_[chosen] = true;
    const int64_t first = done_[chosen], fair = left_ / (threads_ * kTurns);
    const int64_t end = std::min(first + std::clamp<int64_t>(fair, 1, kStepsAtOnce), steps_);
    left_ -= end - first;
    return Turn{chosen, first, end};
  }

  void give_back(const Turn& turn) {
    const std::lock_guard lock(mutex_);
    done_[turn.model] = turn.end;
    taken_[turn.model] = false;
  }

 private:
  const int64_t steps_, threads_;
  int64_t left_;
  std::vector<int64_t> done_;
  std::vector<char> taken_;
  std::mutex mutex_;
};

void train_models(const Steps& in, const cpu::NetworkKernels& networks, const cpu::StepMemory& memory, Queue& queue) {
  while (const std::optional<Turn> turn = queue.take()) {
    for (int64_t step = turn->first; step < turn->end; ++step) {
      cpu::train_step(in, networks, memory, turn->model, step);
    }
    queue.give_back(*turn);
  }
}

constexpr const char* kOp = "train_steps";

template <class T>
const T* checked(const at::Tensor& t, at::IntArrayRef shape, at::ScalarType type, const char* name) {
  TORCH_CHECK(t.is_cpu() && t.scalar_type() == type, kOp, ": ", name, " must be ", type, " on the CPU, got ",
              t.scalar_type(), " on ", t.device());
  TORCH_CHECK(t.sizes() == shape, kOp, ": ", name, " must have shape ", shape, ", got ", t.sizes());
  TORCH_CHECK(t.is_contiguous(), kOp, ": ", name, " must be contiguous");
  return t.const_data_ptr<T>();
}

const float* floats(const at::Tensor& t, at::IntArrayRef shape, const char* name) {
  return checked<float>(t, shape, at::kFloat, name);
}

float* changed(const at::Tensor& t, at::IntArrayRef shape, const char* name) {
  floats(t, shape, name);
  return t.mutable_data_ptr<float>();
}

void check_range(const int64_t* values, int64_t count, int64_t end, const char* name) {
  const auto [least, most] = std::minmax_element(values, values + count);
  TORCH_CHECK(count > 0 && *least >= 0 && *most < end, kOp, ": ", name, " must be within 0 and ", end - 1);
}

Network checked_network(const at::Tensor& parameters, int64_t offset, at::IntArrayRef widths, const char* name) {
  TORCH_CHECK(widths.size() >= 2 && *std::min_element(widths.begin(), widths.end()) > 0, kOp, ": ", name,
              " must be the widths of at least one layer, got ", widths);
  Network network{widths.data(), static_cast<int64_t>(widths.size()) - 1, parameters.const_data_ptr<float>() + offset,
                  parameters.size(1)};
  TORCH_CHECK(offset + parameters_of(network) <= parameters.size(1), kOp, ": parameters are too few for ", name);
  return network;
}

void train_steps(const at::Tensor& inputs, const at::Tensor& x, const at::Tensor& rows, const at::Tensor& streams,
                 const at::Tensor& factors, const at::Tensor& rates, int64_t first, const at::Tensor& sigma2,
                 const at::Tensor& beta, const at::Tensor& of_kl, const at::Tensor& keys,
                 const std::optional<at::Tensor>& mean, const std::optional<at::Tensor>& offset,
                 at::IntArrayRef encoder, at::IntArrayRef decoder, std::string_view family, bool antithetic,
                 bool is_matched, int64_t group, at::ArrayRef<double> logvar_range, at::ArrayRef<double> adam,
                 at::Tensor& parameters, at::Tensor& gradients, at::Tensor& first_moment, at::Tensor& second_moment,
                 at::Tensor& window, const at::Tensor& in_panels) {
  const cpu::NetworkKernels* networks = cpu::network_kernels();
  TORCH_CHECK(networks, kOp, ": ", cpu::kWithoutKernels);
  TORCH_CHECK(rows.dim() == 3 && parameters.dim() == 2 && x.dim() == 2 && inputs.dim() == 2, kOp,
              ": rows, parameters, x and inputs must have shapes [K, S, B], [M, P], [N, D] and [N, E]");
  TORCH_CHECK(family == "gaussian" || family == "bernoulli", kOp, ": no family ", family);
  TORCH_CHECK(logvar_range.size() == 2 && adam.size() == 3, kOp, ": two bounds and three constants of Adam, got ",
              logvar_range, " and ", adam);
  Steps in{};
  in.models = parameters.size(0), in.row = parameters.size(1);
  in.steps = rows.size(0), in.streams_of_rows = rows.size(1), in.batch = rows.size(2);
  in.features = x.size(1), in.n_inputs = inputs.size(1), in.draws = antithetic ? 2 : 1, in.group = group;
  in.parameters = changed(parameters, {in.models, in.row}, "parameters");
  in.gradients = changed(gradients, parameters.sizes(), "gradients");
  in.first_moment = changed(first_moment, parameters.sizes(), "first_moment");
  in.second_moment = changed(second_moment, parameters.sizes(), "second_moment");
  checked<double>(window, {3, in.models}, at::kDouble, "window");
  in.window = window.mutable_data_ptr<double>();
  in.encoder = checked_network(parameters, 0, encoder, "encoder");
  in.decoder = checked_network(parameters, parameters_of(in.encoder), decoder, "decoder");
  in.encoder.in_panels = in.decoder.in_panels = *checked<bool>(in_panels, {}, at::kBool, "in_panels");
  in.latents = decoder.front();
  TORCH_CHECK(encoder.front() == in.n_inputs && encoder.back() == 2 * in.latents && decoder.back() == in.features, kOp,
              ": encoder and decoder must be [E, ..., 2 n] and [n, ..., D], got ", encoder, " and ", decoder);
  TORCH_CHECK(in.batch > 0 && group > 0 && in.batch % group == 0, kOp, ": group must be a divisor of the ", in.batch,
              " rows, got ", group);
  TORCH_CHECK(!is_matched || in.latents <= kMostMatched, kOp, ": the noise of ", in.latents, " latents is not matched");
  in.x = floats(x, x.sizes(), "x"), in.inputs = floats(inputs, {x.size(0), in.n_inputs}, "inputs");
  in.rows = checked<int64_t>(rows, rows.sizes(), at::kLong, "rows");
  in.streams = checked<int64_t>(streams, {in.models}, at::kLong, "streams");
  check_range(in.rows, rows.numel(), x.size(0), "rows");
  check_range(in.streams, in.models, in.streams_of_rows, "streams");
  in.factors = checked<double>(factors, {in.steps}, at::kDouble, "factors");
  in.rates = checked<double>(rates, {in.steps}, at::kDouble, "rates");
  in.first = first;
  in.sigma2 = floats(sigma2, {in.models}, "sigma2"), in.beta = floats(beta, {in.models}, "beta");
  in.of_kl = floats(of_kl, {in.models}, "of_kl");
  in.keys = checked<int64_t>(keys, {in.models}, at::kLong, "keys");
  in.mean = mean ? floats(*mean, {in.features}, "mean") : nullptr;
  in.offset = offset ? floats(*offset, {in.features}, "offset") : nullptr;
  in.family = family == "gaussian" ? Family::kGaussian : Family::kBernoulli;
  in.is_matched = is_matched;
  in.least_logvar = static_cast<float>(logvar_range[0]), in.most_logvar = static_cast<float>(logvar_range[1]);
  in.beta1 = adam[0], in.beta2 = adam[1], in.epsilon = adam[2];
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), in.models);
  Queue queue(in.models, in.steps, threads);
  try {
    // All memory is there before the first step: a call that fails has changed nothing.
    std::vector<std::unique_ptr<cpu::StepMemory>> memories;
    for (int64_t thread = 0; thread < threads; ++thread) {
      memories.push_back(std::make_unique<cpu::StepMemory>(in));
    }
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread) {
        train_models(in, *networks, *memories[thread], queue);
      }
    });
  } catch (const std::bad_alloc&) {
    TORCH_CHECK(false, kOp, ": can't allocate memory");  // as torch says it of a tensor
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(phasevae, CPU, library) { library.impl("train_steps", &train_steps); }

}  // namespace phasevae
