// A training step of one model: the kernels of the operations, one after the other, in the memory of one thread.
//
// They are called as the operations of torch call them, with the same numbers in the same order, so a training may
// change between both from step to step.

#include <algorithm>

#include "../elbo_math.h"
#include "../step_launch.h"
#include "../targets_launch.h"

namespace phasevae::cpu {
namespace {

Network of_model(const Network& network, const Steps& in, int64_t model) {
  Network one = network;
  one.parameters += model * in.row;
  return one;
}

void forward(const NetworkKernels& networks, const Network& network, const Rows& input, int64_t rows, float* output,
             float* tape, float* scratch) {
  networks.forward({network, rows, input, output, tape}, 0, blocks_of(rows), scratch);
}

void gather(const float* data, int64_t width, const int64_t* rows, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(data + rows[i] * width, width, to + i * width);
  }
}

// NaN stays NaN.
float clamped(float value, float least, float most) { return value < least ? least : value > most ? most : value; }

float mean(const float* values, int64_t size, int64_t rows) {
  float result;
  mean_over_rows(Values<float>{values, 1, size, rows}, &result, 0, 1);
  return result;
}

// The step of one model.
class ModelStep {
 public:
  ModelStep(const Steps& in, const NetworkKernels& networks, const StepMemory& memory, int64_t model, int64_t step)
      : in_(in),
        networks_(networks),
        memory_(memory),
        model_(model),
        step_(step),
        all_(in.draws * in.batch),
        sigma2_(in.sigma2[model] * static_cast<float>(in.factors[step])),
        share_(static_cast<float>(1.0 / all_)),
        mu_{memory.encoded, 0, 2 * in.latents, 1},
        logvar_{memory.logvar, 0, in.latents, 1} {}

  void run() const {
    encode();
    const float kl = mean(memory_.kl, in_.batch * in_.latents, in_.batch);
    const float energy = decode();
    differentiate_decoder();
    differentiate_encoder();
    const float squared = energy * static_cast<float>(2 * in_.factors[step_]) * in_.sigma2[model_];
    in_.window[model_] += squared;
    in_.window[in_.models + model_] += kl;
    in_.window[2 * in_.models + model_] += in_.beta[model_] * kl;
  }

 private:
  // From the rows to the latents.
  void encode() const {
    const int64_t n = in_.latents;
    const int64_t* rows = in_.rows + (step_ * in_.streams_of_rows + in_.streams[model_]) * in_.batch;
    gather(in_.x, in_.features, rows, in_.batch, memory_.x);
    if (in_.inputs != in_.x) {
      gather(in_.inputs, in_.n_inputs, rows, in_.batch, memory_.input);
    }
    forward(networks_, of_model(in_.encoder, in_, model_), encoder_input(), in_.batch, memory_.encoded,
            memory_.encoder_tape, memory_.scratch);
    for (int64_t row = 0; row < in_.batch; ++row) {
      for (int64_t k = 0; k < n; ++k) {
        memory_.logvar[row * n + k] =
            clamped(memory_.encoded[(2 * row + 1) * n + k], in_.least_logvar, in_.most_logvar);
      }
    }
    const Stream stream{in_.keys + model_, in_.first + step_, nullptr, 0};
    reparam_kl(Posterior<float>{mu_, logvar_, stream, 1, in_.batch, n, in_.draws},
               {in_.is_matched ? memory_.drawn : memory_.z, memory_.kl}, 0, in_.batch);
    if (in_.is_matched) {
      match_moments(Matching<float>{mu_, logvar_, memory_.drawn, memory_.z, 1, in_.draws, in_.batch, n}, 0, 1);
    }
  }

  // From the latents to the outputs; returns the mean energy.
  float decode() const {
    forward(networks_, of_model(in_.decoder, in_, model_), {memory_.z, 0, in_.latents}, all_, memory_.outputs,
            memory_.decoder_tape, memory_.scratch);
    for (int64_t row = 0; in_.offset && row < all_; ++row) {
      for (int64_t i = 0; i < in_.features; ++i) {
        memory_.outputs[row * in_.features + i] += in_.offset[i];
      }
    }
    const Residual<float> residual = residual_of(memory_.x, in_.draws);
    if (in_.family == Family::kBernoulli) {
      nll(Bernoulli{}, residual, memory_.energies, 0, all_);
    } else {
      nll(Gaussian{}, residual, memory_.energies, 0, all_);
    }
    return mean(memory_.energies, all_, all_);
  }

  // The derivatives by the decoder's parameters and the latents.
  void differentiate_decoder() const {
    slopes(residual_of(memory_.x, in_.draws), &share_, memory_.of_rows);
    const bool is_shared = in_.group > 1;
    if (is_shared) {
      find_targets();
      slopes(residual_of(memory_.targets, 1), &share_, memory_.of_targets);
    }
    const float* of_targets = is_shared ? memory_.of_targets : memory_.of_rows;
    backward(in_.decoder, all_, {memory_.z, 0, in_.latents}, memory_.decoder_tape, {of_targets, 0, in_.features},
             {is_shared ? memory_.of_rows : nullptr, 0, in_.features}, memory_.of_z);
  }

  void find_targets() const {
    const float* decoded = memory_.outputs;
    if (in_.family == Family::kBernoulli) {
      const float one = 1.0f;
      Residual<float> chances = residual_of(memory_.zeros, in_.draws);
      chances.x.row = 0;
      chances.sigma2 = &one;
      slopes(chances, &one, memory_.means);
      decoded = memory_.means;
    }
    const Targets<float> targets{{memory_.x, 0, in_.features, 1},
                                 in_.mean,
                                 mu_,
                                 logvar_,
                                 memory_.z,
                                 decoded,
                                 memory_.targets,
                                 1,
                                 in_.draws,
                                 in_.batch,
                                 in_.latents,
                                 in_.features,
                                 in_.group};
    control_variates(targets, memory_.variates, 0, 1);
    cpu::targets(targets, memory_.variates, memory_.scratch, 0, in_.batch / in_.group);
  }

  void differentiate_encoder() const {
    const int64_t n = in_.latents, batch = in_.batch;
    const View<float> first{memory_.of_z, 0, n, 1};
    const View<float> second{memory_.of_z + (in_.draws - 1) * batch * n, 0, n, 1};
    const Sampled<float> sampled{mu_, logvar_, {memory_.z, 0, n, 1}, 1, batch, n, in_.draws};
    const SampleGradient<float> gradient{
        {first, second}, {in_.of_kl + model_, 0, 0, 0}, memory_.of_mu, memory_.of_logvar};
    reparam_kl_backward(sampled, gradient, 0, batch);
    for (int64_t row = 0; row < batch; ++row) {
      for (int64_t k = 0; k < n; ++k) {
        const float logvar = memory_.encoded[(2 * row + 1) * n + k];
        const bool inside = logvar >= in_.least_logvar && logvar <= in_.most_logvar;
        memory_.of_encoded[2 * row * n + k] = memory_.of_mu[row * n + k];
        memory_.of_encoded[(2 * row + 1) * n + k] = inside ? memory_.of_logvar[row * n + k] : 0.0f;
      }
    }
    backward(in_.encoder, batch, encoder_input(), memory_.encoder_tape, {memory_.of_encoded, 0, 2 * n}, {}, nullptr);
  }

  Rows encoder_input() const { return {in_.inputs == in_.x ? memory_.x : memory_.input, 0, in_.n_inputs}; }

  // Of rows that the outputs of `draws` draws have in common.
  Residual<float> residual_of(const float* rows, int64_t draws) const {
    return {{rows, 0, in_.features, 1}, memory_.outputs, &sigma2_, 1, draws, all_ / draws, in_.features};
  }

  void slopes(const Residual<float>& residual, const float* of_energy, float* to) const {
    const ResidualGradient<float> gradient{{of_energy, 0, 0, 0}, to};
    if (in_.family == Family::kBernoulli) {
      nll_backward(Bernoulli{}, residual, gradient, 0, all_);
    } else {
      nll_backward(Gaussian{}, residual, gradient, 0, all_);
    }
  }

  void backward(const Network& network, int64_t rows, const Rows& input, const float* tape, const Rows& of_output,
                const Rows& for_input, float* of_input) const {
    const int64_t at = model_ * in_.row + (network.parameters - in_.parameters);
    const Update by_adam{adam_factors<float>(in_.rates[step_], in_.beta1, in_.beta2, in_.epsilon, in_.first + step_),
                         in_.parameters + at, in_.first_moment + at, in_.second_moment + at};
    const NetworkBackward pass{of_model(network, in_, model_),
                               1,
                               rows,
                               input,
                               tape,
                               of_output,
                               for_input,
                               of_input,
                               in_.gradients + at,
                               in_.row,
                               1,
                               &by_adam};
    networks_.backward(pass, 0, 1, memory_.scratch);
  }

  const Steps& in_;
  const NetworkKernels& networks_;
  const StepMemory& memory_;
  const int64_t model_, step_, all_;
  const float sigma2_, share_;
  const View<float> mu_, logvar_;
};

}  // namespace

StepMemory::StepMemory(const Steps& in) {
  const int64_t batch = in.batch, all = in.draws * batch, n = in.latents;
  const Targets<float> sizes{{}, nullptr,  {},    {}, nullptr,     nullptr, nullptr,
                             1,  in.draws, batch, n,  in.features, in.group};
  const int64_t of_networks = std::max({forward_scratch(in.encoder), forward_scratch(in.decoder),
                                        backward_scratch(in.encoder), backward_scratch(in.decoder)});
  struct Part {
    float** start;
    int64_t floats;
  };
  const Part parts[] = {{&input, batch * in.n_inputs},
                        {&x, batch * in.features},
                        {&encoded, batch * 2 * n},
                        {&logvar, batch * n},
                        {&drawn, all * n},
                        {&z, all * n},
                        {&kl, batch * n},
                        {&outputs, all * in.features},
                        {&means, all * in.features},
                        {&energies, all},
                        {&of_rows, all * in.features},
                        {&targets, all * in.features},
                        {&of_targets, all * in.features},
                        {&of_z, all * n},
                        {&of_mu, batch * n},
                        {&of_logvar, batch * n},
                        {&of_encoded, batch * 2 * n},
                        {&variates, 2 * in.features},
                        {&zeros, in.features},
                        {&encoder_tape, blocks_of(batch) * tape_size(in.encoder)},
                        {&decoder_tape, blocks_of(all) * tape_size(in.decoder)},
                        {&scratch, std::max(of_networks, targets_scratch(sizes))}};
  int64_t total = 0;
  for (const Part& part : parts) {
    total += padded(part.floats);
  }
  float* next = memory_.emplace(total).get();
  for (const Part& part : parts) {
    *part.start = next;
    next += padded(part.floats);
  }
  std::fill_n(zeros, in.features, 0.0f);
}

void train_step(const Steps& in, const NetworkKernels& networks, const StepMemory& memory, int64_t model,
                int64_t step) {
  ModelStep(in, networks, memory, model, step).run();
}

}  // namespace phasevae::cpu
