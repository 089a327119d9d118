// The passes of a block of rows through all layers of a network, forward and back, for the instruction set of the file
// that includes this header inside an anonymous namespace: see mlp_tiles.h.

#include "mlp_gradients.h"

// Copies rows into the array of a block, and zeros behind them.
PHASEVAE_INLINE void copy_in(const Rows& from, int64_t model, int64_t row, int64_t rows, int64_t width, float* to) {
  for (int64_t column = 0; column < width; column += kVectorFloats) {
    const float* source = from.data + model * from.model + row * from.row + column;
    float* strip = to + place(0, column);
    for (int64_t r = 0; r < rows; ++r) {
      copy_padded(source + r * from.row, least(kVectorFloats, width - column), kVectorFloats,
                  strip + r * kVectorFloats);
    }
    clear(strip + rows * kVectorFloats, (kBlockRows - rows) * kVectorFloats);
  }
}

// Copies the rows of a block's array to an array [rows, width].
PHASEVAE_INLINE void copy_out(const float* block, int64_t rows, int64_t width, float* to) {
  for (int64_t column = 0; column < width; column += kVectorFloats) {
    const int64_t count = least(kVectorFloats, width - column);
    for (int64_t r = 0; r < rows; ++r) {
      copy_padded(block + place(r, column), count, count, to + r * width + column);
    }
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

// Computes one layer of a block: out = in W + b, with a ReLU if it is not the last. packed: W; bias: padded.
template <bool WithRelu>
PHASEVAE_INLINE void layer_forward(const float* in, int64_t fan_in, int64_t fan_out, const float* packed,
                                   const float* bias, float* out) {
  multiply(in, fan_in, fan_out, packed, bias,
           [&](int64_t at, V value) PHASEVAE_LAMBDA { store(out + at, WithRelu ? relu(value) : value); });
}

// Computes the gradient of a layer's input: in = out W^T, masked by the ReLU before the layer. active: the output of
// that ReLU, null for the first layer; packed: W^T.
template <bool Masked>
PHASEVAE_INLINE void layer_backward(const float* out, int64_t fan_in, int64_t fan_out, const float* packed,
                                    const float* active, float* in) {
  multiply(out, fan_out, fan_in, packed, nullptr, [&](int64_t at, V value) PHASEVAE_LAMBDA {
    store(in + at, Masked ? where_positive(load(active + at), value) : value);
  });
}

PHASEVAE_INLINE void exchange(float*& a, float*& b) {
  float* const other = a;
  a = b;
  b = other;
}

PHASEVAE_INLINE bool in_panels(const Network& network, int64_t columns) {
  return network.in_panels && can_be_in_panels(columns);
}

// Whether a weight can be multiplied where it is: in panels that begin at whole vectors.
PHASEVAE_INLINE bool is_packed(const Network& network, const float* weight, int64_t columns) {
  return in_panels(network, columns) && reinterpret_cast<uintptr_t>(weight) % (kLanes * sizeof(float)) == 0;
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
  float* const input = arena.take(block_size(first));
  float* const output = arena.take(block_size(last));
  float* const kept = in.tape ? nullptr : arena.take(tape);
  int64_t packed_model = -1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t model = task / blocks, row = task % blocks * kBlockRows;
    const int64_t rows = least(kBlockRows, in.rows - row);
    const float* weight = network.parameters + model * network.model;
    if (model != packed_model) {
      float* to = packed;
      for (int64_t k = 0; k < layers; ++k) {
        const int64_t fan_in = widths[k], fan_out = widths[k + 1];
        if (!in_panels(network, fan_out)) {
          pack(weight, fan_in, fan_out, to);
        } else if (!is_packed(network, weight, fan_out)) {
          copy(weight, fan_in * fan_out, to);
        }
        to += fan_in * padded(fan_out);
        copy(weight + fan_in * fan_out, fan_out, to);
        clear(to + fan_out, padded(fan_out) - fan_out);
        to += padded(fan_out);
        weight += (fan_in + 1) * fan_out;
      }
      packed_model = model;
    }
    weight = network.parameters + model * network.model;
    copy_in(in.input, model, row, rows, first, input);
    const float *from = input, *of_layer = packed;
    float* hidden = in.tape ? in.tape + task * tape : kept;
    for (int64_t k = 0; k < layers; ++k) {
      const int64_t fan_in = widths[k], fan_out = widths[k + 1];
      const float* bias = of_layer + fan_in * padded(fan_out);
      const float* const multiplied = is_packed(network, weight, fan_out) ? weight : of_layer;
      if (k + 1 < layers) {
        layer_forward<true>(from, fan_in, fan_out, multiplied, bias, hidden);
      } else {
        layer_forward<false>(from, fan_in, fan_out, multiplied, bias, output);
      }
      from = hidden;
      hidden += block_size(fan_out);
      weight += (fan_in + 1) * fan_out;
      of_layer = bias + padded(fan_out);
    }
    copy_out(output, rows, last, in.output + (model * in.rows + row) * last);
  }
}

// Layer k of a network, whose parameters begin `offset` floats behind those of the network.
PHASEVAE_INLINE Layer layer_at(Layer of, const Network& network, int64_t k, int64_t offset) {
  of.fan_in = network.widths[k], of.fan_out = network.widths[k + 1];
  of.in_panels = in_panels(network, of.fan_out);
  of.gradients += offset;
  if (of.factors) {
    of.parameters += offset, of.first_moment += offset, of.second_moment += offset;
  }
  return of;
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
  const int64_t widest_block = block_size(widest);
  Arena arena(scratch);
  float* const packed = arena.take(weights);
  float* const input = arena.take(block_size(first));
  // Gradients by the outputs of a layer, of both objectives, and where those of the layer before it go.
  float *out = arena.take(widest_block), *own = arena.take(widest_block), *spare = arena.take(widest_block);
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
          pack_transposed(weight, fan_out, fan_in, in_panels(network, fan_out), to);
        }
        to += padded(fan_in) * fan_out;
        weight += (fan_in + 1) * fan_out;
      }
      packed_model = model;
    }
    copy_in(in.input, model, row, rows, first, input);
    copy_in(in.grad_output, model, row, rows, last, out);
    if (of_its_own) {
      copy_in(in.grad_for_input, model, row, rows, last, own);
    }
    const int64_t split = in.splits == 1 ? 0 : block;
    Layer layer{};
    layer.add = in.splits == 1 && block > 0;
    layer.gradients = in.gradients + (split * in.models + model) * in.gradient_model;
    if (in.update && block == blocks - 1) {
      layer.factors = &in.update->factors;
      layer.parameters = in.update->parameters;
      layer.first_moment = in.update->first_moment;
      layer.second_moment = in.update->second_moment;
    }
    int64_t offset = parameters_of(network);
    const float* hidden = in.tape + (model * blocks + block + 1) * tape;
    const float* transposed = packed + weights;
    for (int64_t k = layers - 1; k >= 0; --k) {
      const int64_t fan_in = widths[k], fan_out = widths[k + 1];
      offset -= (fan_in + 1) * fan_out;
      transposed -= padded(fan_in) * fan_out;
      hidden -= k > 0 ? block_size(fan_in) : 0;
      layer_gradients(k > 0 ? hidden : input, out, layer_at(layer, network, k, offset));
      if (k > 0) {
        layer_backward<true>(out, fan_in, fan_out, transposed, hidden, spare);
        exchange(out, spare);
        if (of_its_own) {
          layer_backward<true>(own, fan_in, fan_out, transposed, hidden, spare);
          exchange(own, spare);
        }
      } else if (in.grad_input) {
        layer_backward<false>(of_its_own ? own : out, fan_in, fan_out, transposed, nullptr, spare);
        copy_out(spare, rows, fan_in, in.grad_input + (model * in.rows + row) * fan_in);
      }
    }
  }
}

void arrange(const Network& network, bool into_panels, float* array, float* scratch) {
  for (int64_t k = 0; k < network.layers; ++k) {
    const int64_t fan_in = network.widths[k], fan_out = network.widths[k + 1];
    if (can_be_in_panels(fan_out)) {
      copy(array, fan_in * fan_out, scratch);
      if (into_panels) {
        pack(scratch, fan_in, fan_out, array);
      } else {
        unpack(scratch, fan_in, fan_out, array);
      }
    }
    array += (fan_in + 1) * fan_out;
  }
}
