// The gradients of a layer, sums over the rows of a block, and the update of its parameters by Adam, for the
// instruction set of the file that includes this header inside an anonymous namespace: see mlp_tiles.h.

#include "mlp_products.h"
// Inside this namespace, for its vectors.
#include "../adam_math.h"

// The parameters of a layer, a weight [in, out] and then a bias [out], and what has their layout.
struct Layer {
  int64_t fan_in, fan_out;
  bool in_panels;  // whether the weight is
  bool add;        // whether the gradients are added to what is there
  float* gradients;
  const AdamFactors<float>* factors;  // null: no update, the next three are not used
  float *parameters, *first_moment, *second_moment;
};

PHASEVAE_INLINE void update_vector(const AdamFactors<float>& factors, const float* gradients, float* parameters,
                                   float* first_moment, float* second_moment) {
  V parameter = load(parameters), first = load(first_moment), second = load(second_moment);
  cpu::adam(factors, load(gradients), parameter, first, second);
  store(parameters, parameter);
  store(first_moment, first);
  store(second_moment, second);
}

// Updates a vector of parameters, `at` floats behind the first.
PHASEVAE_INLINE void update_vector(const Layer& layer, int64_t at) {
  update_vector(*layer.factors, layer.gradients + at, layer.parameters + at, layer.first_moment + at,
                layer.second_moment + at);
}

// Updates `count` parameters, `at` floats behind the first.
PHASEVAE_INLINE void update(const Layer& layer, int64_t at, int64_t count) {
  const int64_t end = at + count;
  for (; at + kLanes <= end; at += kLanes) {
    update_vector(layer, at);
  }
  if (const int64_t left = end - at; left > 0) {
    float numbers[4][kLanes];
    float* const arrays[4] = {layer.gradients + at, layer.parameters + at, layer.first_moment + at,
                              layer.second_moment + at};
    for (int i = 0; i < 4; ++i) {
      copy_padded(arrays[i], left, kLanes, numbers[i]);
    }
    update_vector(*layer.factors, numbers[0], numbers[1], numbers[2], numbers[3]);
    for (int i = 1; i < 4; ++i) {
      copy_padded(numbers[i], left, left, arrays[i]);
    }
  }
}

// Stores numbers, or adds them if `add`.
PHASEVAE_INLINE void put(const float* from, int64_t count, bool add, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(to + i, add ? sum(load(to + i), load(from + i)) : load(from + i));
  }
  for (; i < count; ++i) {
    to[i] = add ? to[i] + from[i] : from[i];
  }
}

// Rows of a block that are multiplied after a row of gradients is fetched. These rarely stay in the second-level cache
// between two blocks; fetched all at once they would hold up the loads of the product.
constexpr int64_t kRowsAFetch = 8;

// Computes in^T out over the rows of a block for the weight of a layer, and updates it if `Updates`. A tile is updated
// during the product of the next one: its numbers have been fetched by then, and nothing waits for the divisions.
template <bool Updates>
PHASEVAE_INLINE void wide_gradients(const float* in, const float* out, const Layer& layer) {
  const int64_t fan_in = layer.fan_in, fan_out = layer.fan_out;
  const bool add = layer.add;
  for_each_panel(padded(fan_out), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int kVectors = vectors.value;
    constexpr int64_t kWidth = kVectors * kLanes;
    const int64_t width = least(kWidth, fan_out - column);
    const int64_t panel = layer.in_panels ? column * fan_in : column, stride = layer.in_panels ? kWidth : fan_out;
    int64_t of_vector[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      of_vector[v] = place(0, column + v * kLanes) - place(0, column);
    }
    int64_t updated = 0, filled = 0;  // rows
    for_each_tile<kVectors>(fan_in, [&](int64_t row, auto count) PHASEVAE_LAMBDA {
      constexpr int kRows = count.value;
      const int64_t rows = least(kRows, fan_in - row), tile = panel + row * stride;
      float* to = layer.gradients + tile;
      V c[kRows][kVectors];
      for_each_sum(c, [&](int, int, V& sum) PHASEVAE_LAMBDA { sum = zero(); });
      for (int64_t k = 0; k < kBlockRows; k += kRowsAFetch) {
        const int64_t fetched = k / kRowsAFetch;
        for (int64_t i = 0; fetched < rows && i < width; i += kVectorFloats) {
          const int64_t at = tile + fetched * stride + i;
          __builtin_prefetch(layer.gradients + at, 1);
          if constexpr (Updates) {
            __builtin_prefetch(layer.parameters + at, 1);
            __builtin_prefetch(layer.first_moment + at, 1);
            __builtin_prefetch(layer.second_moment + at, 1);
          }
        }
        add_product<1, kVectorFloats>(kRowsAFetch, in + place(k, row), out + place(k, column), kVectorFloats, of_vector,
                                      c);
        if (Updates && updated < filled) {
          PHASEVAE_UNROLL
          for (int v = 0; v < kVectors; ++v) {
            update_vector(layer, panel + updated * stride + v * kLanes);
          }
          ++updated;
        }
      }
      if (rows == kRows && width == kWidth) {
        for_each_sum(c, [&](int64_t r, int v, V value) PHASEVAE_LAMBDA {
          float* here = to + r * stride + v * kLanes;
          store(here, add ? sum(load(here), value) : value);
        });
      } else {
        alignas(64) float sums[kRows * kWidth];
        for_each_sum(c,
                     [&](int64_t r, int v, V value) PHASEVAE_LAMBDA { store(sums + r * kWidth + v * kLanes, value); });
        for (int64_t r = 0; r < rows; ++r) {
          put(sums + r * kWidth, width, add, to + r * stride);
        }
      }
      filled = width == kWidth ? row + rows : 0;
    });
    for (; Updates && updated < fan_in; ++updated) {
      update(layer, panel + updated * stride, width);
    }
  });
}

// As wide_gradients, for a narrow weight, without its update.
PHASEVAE_INLINE void narrow_gradients(const float* in, const float* out, int64_t fan_in, int64_t fan_out, bool add,
                                      float* gradients) {
  const auto panel = [&](int64_t row, auto vectors) PHASEVAE_LAMBDA {
    constexpr int kVectors = vectors.value;
    constexpr int64_t kWidth = kVectors * kLanes;
    int64_t of_vector[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      of_vector[v] = place(0, row + v * kLanes) - place(0, row);
    }
    alignas(64) float sums[kLanes * kWidth], across[kLanes * kLanes], rows[kNarrow * kWidth + kLanes];
    for (int64_t tile = 0; tile < kLanes; tile += kNarrowRows) {
      V c[kNarrowRows][kVectors];
      for_each_sum(c, [&](int, int, V& sum) PHASEVAE_LAMBDA { sum = zero(); });
      if (tile < fan_out) {
        add_product<1, kVectorFloats>(kBlockRows, out + tile, in + place(0, row), kVectorFloats, of_vector, c);
      }
      for_each_sum(
          c, [&](int64_t r, int v, V sum) PHASEVAE_LAMBDA { store(sums + (tile + r) * kWidth + v * kLanes, sum); });
    }
    for (int v = 0; v < kVectors; ++v) {
      transpose(sums + v * kLanes, kWidth, across, kLanes);
      for (int64_t r = 0; r < kLanes; ++r) {
        // Rows follow each other: the next one overwrites what this one has too much.
        store(rows + (v * kLanes + r) * fan_out, load(across + r * kLanes));
      }
    }
    put(rows, least(kWidth, fan_in - row) * fan_out, add, gradients + row * fan_out);
  };
  int64_t row = 0;
  for (; row + (kNarrowVectors - 1) * kLanes < fan_in; row += kNarrowVectors * kLanes) {
    panel(row, Count<kNarrowVectors>());
  }
  for (; row < fan_in; row += kLanes) {
    panel(row, Count<1>());
  }
}

// Computes the gradients of a layer over the rows of a block: in^T out for the weight, the sum of out for the bias; and
// updates its parameters if there are factors.
PHASEVAE_INLINE void layer_gradients(const float* in, const float* out, const Layer& layer) {
  const int64_t weights = layer.fan_in * layer.fan_out;
  for (int64_t column = 0; column < layer.fan_out; column += kLanes) {
    V total = zero();
    for (int64_t row = 0; row < kBlockRows; ++row) {
      total = sum(total, load(out + place(row, column)));
    }
    float numbers[kLanes];
    store(numbers, total);
    put(numbers, least(kLanes, layer.fan_out - column), layer.add, layer.gradients + weights + column);
  }
  const bool updates = layer.factors;
  if (is_narrow(layer.fan_out)) {
    narrow_gradients(in, out, layer.fan_in, layer.fan_out, layer.add, layer.gradients);
  } else if (updates) {
    wide_gradients<true>(in, out, layer);
  } else {
    wide_gradients<false>(in, out, layer);
  }
  if (updates) {
    const int64_t begin = is_narrow(layer.fan_out) ? 0 : weights;
    update(layer, begin, weights + layer.fan_out - begin);
  }
}
