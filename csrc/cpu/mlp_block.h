// The passes of a block of rows through all layers of a network, forward and back, for the instruction set of the file
// that includes this header inside an anonymous namespace: see mlp_tiles.h.

#include "mlp_tiles.h"

PHASEVAE_INLINE void copy_rows(const Rows& from, int64_t model, int64_t row, int64_t rows, int64_t width, float* to) {
  const int64_t to_row = pitch(width);
  for (int64_t r = 0; r < kBlockRows; ++r) {
    const int64_t present = r < rows ? width : 0;
    copy(from.data + model * from.model + (row + r) * from.row, present, to + r * to_row);
    clear(to + r * to_row + present, to_row - present);
  }
}

// Cuts memory into arrays that begin at whole vectors.
class Arena {
 public:
  explicit Arena(float* memory) : next_(memory) {}

  float* take(int64_t floats) {
    float* taken = next_;
    next_ += padded(floats);
    return taken;
  }

 private:
  float* next_;
};

// Computes one layer of a block: out = in W + b, with a ReLU if it is not the last. packed: the panels of W; bias:
// padded.
template <bool WithRelu>
PHASEVAE_INLINE void layer_forward(const float* in, int64_t fan_in, int64_t fan_out, const float* packed,
                                   const float* bias, float* out) {
  const int64_t in_row = pitch(fan_in), out_row = pitch(fan_out);
  for_each_panel(padded(fan_out), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int kVectors = vectors.value;
    for (int64_t row = 0; row < kBlockRows; row += kRowsOf<kVectors>) {
      float* to = out + row * out_row + column;
      tile<kVectors>(fan_in, in + row * in_row, in_row, 1, packed + column * fan_in, kVectors * kLanes, bias + column,
                     [&](int64_t r, int v, V value)
                         PHASEVAE_LAMBDA { store(to + r * out_row + v * kLanes, WithRelu ? relu(value) : value); });
    }
  });
}

// Computes the gradient of a layer's input: in = out W^T, masked by the ReLU before the layer. active: the output of
// that ReLU, null for the first layer; packed: the panels of W^T.
template <bool Masked>
PHASEVAE_INLINE void layer_backward(const float* out, int64_t fan_in, int64_t fan_out, const float* packed,
                                    const float* active, float* in) {
  const int64_t in_row = pitch(fan_in), out_row = pitch(fan_out);
  for_each_panel(padded(fan_in), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int kVectors = vectors.value;
    for (int64_t row = 0; row < kBlockRows; row += kRowsOf<kVectors>) {
      const int64_t at = row * in_row + column;
      tile<kVectors>(fan_out, out + row * out_row, out_row, 1, packed + column * fan_out, kVectors * kLanes, nullptr,
                     [&](int64_t r, int v, V value) PHASEVAE_LAMBDA {
                       const int64_t here = at + r * in_row + v * kLanes;
                       store(in + here, Masked ? where_positive(load(active + here), value) : value);
                     });
    }
  });
}

// Stores the first `count` numbers of a vector, or adds them if `add`.
PHASEVAE_INLINE void put(float* to, int64_t count, bool add, V value) {
  if (count >= kLanes) {
    store(to, add ? sum(load(to), value) : value);
    return;
  }
  float numbers[kLanes];
  store(numbers, value);
  for (int64_t i = 0; i < count; ++i) {
    to[i] = add ? to[i] + numbers[i] : numbers[i];
  }
}

// Computes the gradients of a layer over the rows of a block: in^T out for the weight [in, out], the sum of out for the
// bias [out].
PHASEVAE_INLINE void layer_gradients(const float* in, const float* out, int64_t fan_in, int64_t fan_out, bool add,
                                     float* gradients) {
  const int64_t in_row = pitch(fan_in), out_row = pitch(fan_out);
  float* of_bias = gradients + fan_in * fan_out;
  for_each_panel(padded(fan_out), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int kVectors = vectors.value;
    for (int v = 0; v < kVectors; ++v) {
      V total = zero();
      for (int64_t row = 0; row < kBlockRows; ++row) {
        total = sum(total, load(out + row * out_row + column + v * kLanes));
      }
      put(of_bias + column + v * kLanes, fan_out - column - v * kLanes, add, total);
    }
    for (int64_t row = 0; row < fan_in; row += kRowsOf<kVectors>) {
      for (int64_t r = 0; r < least(kRowsOf<kVectors>, fan_in - row); ++r) {
        for (int v = 0; v < kVectors; ++v) {
          // The gradients of a network rarely stay in the second-level cache between two blocks.
          __builtin_prefetch(gradients + (row + r) * fan_out + column + v * kLanes, 1);
        }
      }
      tile<kVectors>(kBlockRows, in + row, 1, in_row, out + column, out_row, nullptr,
                     [&](int64_t r, int v, V value) PHASEVAE_LAMBDA {
                       if (row + r < fan_in) {
                         const int64_t from = column + v * kLanes;
                         put(gradients + (row + r) * fan_out + from, fan_out - from, add, value);
                       }
                     });
    }
  });
}

void forward(const NetworkForward& in, int64_t begin, int64_t end, float* scratch) {
  const Network& network = in.network;
  const int64_t *widths = network.widths, layers = network.layers, first = widths[0], last = widths[layers];
  const int64_t blocks = blocks_of(in.rows), tape = tape_size(network);
  int64_t weights = 0;
  for (int64_t k = 0; k < layers; ++k) {
    weights += padded(widths[k + 1]) * (widths[k] + 1);
  }
  Arena arena(scratch);
  float* const packed = arena.take(weights);
  float* const input = arena.take(kBlockRows * pitch(first));
  float* const output = arena.take(kBlockRows * pitch(last));
  float* const kept = in.tape ? nullptr : arena.take(tape);
  int64_t packed_model = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t model = task / blocks, row = task % blocks * kBlockRows;
    const int64_t rows = least(kBlockRows, in.rows - row);
    if (model != packed_model) {
      const float* weight = network.parameters + model * network.model;
      float* to = packed;
      for (int64_t k = 0; k < layers; ++k) {
        const int64_t fan_in = widths[k], fan_out = widths[k + 1];
        pack(weight, fan_in, fan_out, fan_out, 1, to);
        to += fan_in * padded(fan_out);
        copy(weight + fan_in * fan_out, fan_out, to);
        clear(to + fan_out, padded(fan_out) - fan_out);
        to += padded(fan_out);
        weight += (fan_in + 1) * fan_out;
      }
      packed_model = model;
    }
    copy_rows(in.input, model, row, rows, first, input);
    const float *from = input, *of_layer = packed;
    float* hidden = in.tape ? in.tape + task * tape : kept;
    for (int64_t k = 0; k < layers; ++k) {
      const int64_t fan_in = widths[k], fan_out = widths[k + 1];
      const float* bias = of_layer + fan_in * padded(fan_out);
      if (k + 1 < layers) {
        layer_forward<true>(from, fan_in, fan_out, of_layer, bias, hidden);
      } else {
        layer_forward<false>(from, fan_in, fan_out, of_layer, bias, output);
      }
      from = hidden;
      hidden += kBlockRows * pitch(fan_out);
      of_layer = bias + padded(fan_out);
    }
    for (int64_t r = 0; r < rows; ++r) {
      copy(output + r * pitch(last), last, in.output + (model * in.rows + row + r) * last);
    }
  }
}

void backward(const NetworkBackward& in, int64_t begin, int64_t end, float* scratch) {
  const Network& network = in.network;
  const int64_t *widths = network.widths, layers = network.layers, first = widths[0], last = widths[layers];
  const int64_t blocks = blocks_of(in.rows), tape = tape_size(network);
  int64_t weights = 0, widest = last;
  for (int64_t k = 0; k < layers; ++k) {
    weights += padded(widths[k]) * widths[k + 1];
    widest = widths[k] > widest ? widths[k] : widest;
  }
  const int64_t widest_block = kBlockRows * pitch(widest);
  Arena arena(scratch);
  float* const packed = arena.take(weights);
  float* const input = arena.take(kBlockRows * pitch(first));
  float* buffers[2][2];
  for (auto& chain : buffers) {
    for (auto& buffer : chain) {
      buffer = arena.take(widest_block);
    }
  }
  const bool of_its_own = in.grad_input && in.grad_for_input.data;
  int64_t packed_model = -1;
  const int64_t blocks_a_task = in.splits == 1 ? blocks : 1;
  for (int64_t at = begin * blocks_a_task; at < end * blocks_a_task; ++at) {
    const int64_t model = at / blocks, block = at % blocks, row = block * kBlockRows;
    const int64_t rows = least(kBlockRows, in.rows - row);
    if (model != packed_model) {
      const float* weight = network.parameters + model * network.model;
      float* to = packed;
      for (int64_t k = 0; k < layers; ++k) {
        const int64_t fan_in = widths[k], fan_out = widths[k + 1];
        if (k > 0 || in.grad_input) {
          pack(weight, fan_out, fan_in, 1, fan_out, to);
        }
        to += padded(fan_in) * fan_out;
        weight += (fan_in + 1) * fan_out;
      }
      packed_model = model;
    }
    copy_rows(in.input, model, row, rows, first, input);
    copy_rows(in.grad_output, model, row, rows, last, buffers[0][0]);
    if (of_its_own) {
      copy_rows(in.grad_for_input, model, row, rows, last, buffers[1][0]);
    }
    const int64_t split = in.splits == 1 ? 0 : block;
    float* of_layer = in.gradients + (split * in.models + model) * in.gradient_model + parameters_of(network);
    const float* hidden = in.tape + (model * blocks + block + 1) * tape;
    const float* transposed = packed + weights;
    const bool add = in.splits == 1 && block > 0;
    for (int64_t k = layers - 1, now = 0; k >= 0; --k, now = 1 - now) {
      const int64_t fan_in = widths[k], fan_out = widths[k + 1];
      of_layer -= (fan_in + 1) * fan_out;
      transposed -= padded(fan_in) * fan_out;
      hidden -= k > 0 ? kBlockRows * pitch(fan_in) : 0;
      layer_gradients(k > 0 ? hidden : input, buffers[0][now], fan_in, fan_out, add, of_layer);
      if (k > 0) {
        layer_backward<true>(buffers[0][now], fan_in, fan_out, transposed, hidden, buffers[0][1 - now]);
        if (of_its_own) {
          layer_backward<true>(buffers[1][now], fan_in, fan_out, transposed, hidden, buffers[1][1 - now]);
        }
      } else if (in.grad_input) {
        float* const gradient = buffers[of_its_own][1 - now];
        layer_backward<false>(buffers[of_its_own][now], fan_in, fan_out, transposed, nullptr, gradient);
        for (int64_t r = 0; r < rows; ++r) {
          copy(gradient + r * pitch(fan_in), fan_in, in.grad_input + (model * in.rows + row + r) * fan_in);
        }
      }
    }
  }
}
