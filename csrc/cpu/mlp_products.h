// The products of a block of rows with a matrix, and the sums over its rows, for the instruction set of the file that
// includes this header inside an anonymous namespace: see mlp_tiles.h.

#include "mlp_tiles.h"

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

// As multiply, for the panels of b.
template <class Finish>
PHASEVAE_INLINE void multiply_wide(const float* a, int64_t depth, int64_t columns, const float* packed,
                                   const float* start, const Finish& finish) {
  for_each_panel(padded(columns), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int kVectors = vectors.value;
    int64_t of_vector[kVectors], to_vector[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      of_vector[v] = v * kLanes;
      to_vector[v] = place(0, column + v * kLanes);
    }
    const float* panel = packed + column * depth;
    for_each_tile<kVectors>(kBlockRows, [&](int64_t row, auto rows) PHASEVAE_LAMBDA {
      V c[rows.value][kVectors];
      for_each_sum(
          c, [&](int, int v, V& sum) PHASEVAE_LAMBDA { sum = start ? load(start + column + v * kLanes) : zero(); });
      for (int64_t k = 0; k < depth; k += kVectorFloats) {
        add_product<kVectorFloats, 1>(least(kVectorFloats, depth - k), a + place(row, k), panel + k * kVectors * kLanes,
                                      kVectors * kLanes, of_vector, c);
      }
      for_each_sum(
          c, [&](int64_t r, int v, V sum) PHASEVAE_LAMBDA { finish(to_vector[v] + (row + r) * kVectorFloats, sum); });
    });
  });
}

// Rows of a block that are multiplied after a row of gradients is fetched. These rarely stay in the second-level cache
// between two blocks; fetched all at once they would hold up the loads of the product.
constexpr int64_t kRowsAFetch = 8;

// Computes in^T out over the rows of a block, for a weight [in, out].
PHASEVAE_INLINE void wide_gradients(const float* in, const float* out, int64_t fan_in, int64_t fan_out, bool add,
                                    float* gradients) {
  for_each_panel(padded(fan_out), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int kVectors = vectors.value;
    constexpr int64_t kWidth = kVectors * kLanes;
    const int64_t width = least(kWidth, fan_out - column);
    int64_t of_vector[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      of_vector[v] = place(0, column + v * kLanes) - place(0, column);
    }
    for_each_tile<kVectors>(fan_in, [&](int64_t row, auto count) PHASEVAE_LAMBDA {
      constexpr int kRows = count.value;
      const int64_t rows = least(kRows, fan_in - row);
      float* to = gradients + row * fan_out + column;
      V c[kRows][kVectors];
      for_each_sum(c, [&](int, int, V& sum) PHASEVAE_LAMBDA { sum = zero(); });
      for (int64_t k = 0; k < kBlockRows; k += kRowsAFetch) {
        const int64_t fetched = k / kRowsAFetch;
        for (int64_t c = 0; fetched < rows && c < width; c += kVectorFloats) {
          __builtin_prefetch(to + fetched * fan_out + c, 1);
        }
        add_product<1, kVectorFloats>(kRowsAFetch, in + place(k, row), out + place(k, column), kVectorFloats, of_vector,
                                      c);
      }
      if (rows == kRows && width == kWidth) {
        for_each_sum(c, [&](int64_t r, int v, V value) PHASEVAE_LAMBDA {
          float* here = to + r * fan_out + v * kLanes;
          store(here, add ? sum(load(here), value) : value);
        });
      } else {
        alignas(64) float sums[kRows * kWidth];
        for_each_sum(c,
                     [&](int64_t r, int v, V value) PHASEVAE_LAMBDA { store(sums + r * kWidth + v * kLanes, value); });
        for (int64_t r = 0; r < rows; ++r) {
          put(sums + r * kWidth, width, add, to + r * fan_out);
        }
      }
    });
  });
}

// The most columns of a narrow matrix. Its panels would be a single vector, or partly empty. Instead the products have
// the rows of the block in their vectors, the gradients the other side of the weight; the columns are broadcast, in
// tiles of kNarrowRows.
constexpr int64_t kNarrow = kLanes < 8 ? 0 : kLanes;
constexpr int kNarrowRows = 4, kNarrowVectors = kLanes == 16 ? 4 : 2;

PHASEVAE_INLINE bool is_narrow(int64_t columns) { return columns <= kNarrow; }

// Packs a matrix [depth, columns] with element (k, c) at source[k * step + c * column_step] for multiply_narrow.
PHASEVAE_INLINE void pack_narrow(const float* source, int64_t depth, int64_t columns, int64_t step, int64_t column_step,
                                 float* packed) {
  for (int64_t tile = 0; tile < columns; tile += kNarrowRows) {
    for (int64_t k = 0; k < depth; ++k, packed += kNarrowRows) {
      for (int64_t c = 0; c < kNarrowRows; ++c) {
        packed[c] = tile + c < columns ? source[k * step + (tile + c) * column_step] : 0.0f;
      }
    }
  }
}

// As multiply_wide, for a narrow b that pack_narrow packed.
template <class Finish>
PHASEVAE_INLINE void multiply_narrow(const float* a, int64_t depth, int64_t columns, const float* packed,
                                     const float* start, const Finish& finish) {
  constexpr int64_t kWidth = kNarrowVectors * kLanes;
  alignas(64) float across[kVectorFloats * kBlockRows], sums[kLanes * kBlockRows];
  for (int64_t r = 0; r < kLanes; ++r) {
    for (int64_t row = 0; row < kBlockRows; ++row) {
      sums[r * kBlockRows + row] = start && r < columns ? start[r] : 0.0f;
    }
  }
  int64_t of_vector[kNarrowVectors];
  for (int v = 0; v < kNarrowVectors; ++v) {
    of_vector[v] = v * kLanes;
  }
  for (int64_t k = 0; k < depth; k += kVectorFloats) {
    const float* strip = a + place(0, k);
    for (int64_t row = 0; row < kBlockRows; row += kLanes) {
      for (int64_t column = 0; column < kVectorFloats; column += kLanes) {
        transpose(strip + row * kVectorFloats + column, kVectorFloats, across + column * kBlockRows + row, kBlockRows);
      }
    }
    for (int64_t tile = 0; tile < columns; tile += kNarrowRows) {
      for (int64_t row = 0; row < kBlockRows; row += kWidth) {
        float* to = sums + tile * kBlockRows + row;
        V c[kNarrowRows][kNarrowVectors];
        for_each_sum(c,
                     [&](int64_t r, int v, V& sum) PHASEVAE_LAMBDA { sum = load(to + r * kBlockRows + v * kLanes); });
        add_product<1, kNarrowRows>(least(kVectorFloats, depth - k), packed + tile * depth + k * kNarrowRows,
                                    across + row, kBlockRows, of_vector, c);
        for_each_sum(c, [&](int64_t r, int v, V sum) PHASEVAE_LAMBDA { store(to + r * kBlockRows + v * kLanes, sum); });
      }
    }
  }
  for (int64_t row = 0; row < kBlockRows; row += kLanes) {
    transpose(sums + row, kBlockRows, across, kLanes);
    for (int64_t r = 0; r < kLanes; ++r) {
      finish(place(row + r, 0), load(across + r * kLanes));
      for (int64_t column = kLanes; column < kVectorFloats; column += kLanes) {
        finish(place(row + r, column), zero());
      }
    }
  }
}

// As wide_gradients, for a narrow weight.
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

// Computes start + a b, and passes the sums to `finish(place, sum)`. a: the array of a block of width `depth`; b:
// packed by `pack` or `pack_transposed`; start: the initial value of each row, null for zeros.
template <class Finish>
PHASEVAE_INLINE void multiply(const float* a, int64_t depth, int64_t columns, const float* packed, const float* start,
                              const Finish& finish) {
  if (is_narrow(columns)) {
    multiply_narrow(a, depth, columns, packed, start, finish);
  } else {
    multiply_wide(a, depth, columns, packed, start, finish);
  }
}

// Packs a matrix [depth, columns] for `multiply`, into panels that are read in order. The matrix is read in order, too:
// it comes from memory.
PHASEVAE_INLINE void pack(const float* source, int64_t depth, int64_t columns, float* __restrict packed) {
  if (is_narrow(columns)) {
    pack_narrow(source, depth, columns, columns, 1, packed);
    return;
  }
  for (int64_t k = 0; k < depth; ++k) {
    for_each_panel(padded(columns), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
      constexpr int64_t kWidth = vectors.value * kLanes;
      const float* from = source + k * columns + column;
      float* to = packed + column * depth + k * kWidth;
      if (column + kWidth <= columns) {
        for (int v = 0; v < vectors.value; ++v) {
          store(to + v * kLanes, load(from + v * kLanes));
        }
      } else {
        copy_padded(from, columns - column, kWidth, to);
      }
    });
  }
}

// Packs the transpose [depth, columns] of a matrix [columns, depth].
PHASEVAE_INLINE void pack_transposed(const float* source, int64_t depth, int64_t columns, float* __restrict packed) {
  if (is_narrow(columns)) {
    pack_narrow(source, depth, columns, 1, depth, packed);
    return;
  }
  for_each_panel(padded(columns), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int64_t kWidth = vectors.value * kLanes;
    for (int64_t begin = column; begin < column + kWidth; begin += kLanes) {
      const float* from = source + least(begin, columns) * depth;
      float* __restrict to = packed + column * depth + begin - column;
      const int64_t count = least(kLanes, columns - begin);
      int64_t k = 0;
      for (; count == kLanes && k + kLanes <= depth; k += kLanes) {
        transpose(from + k, depth, to + k * kWidth, kWidth);
      }
      for (; k < depth; ++k) {
        for (int64_t c = 0; c < kLanes; ++c) {
          to[k * kWidth + c] = c < count ? from[c * depth + k] : 0.0f;
        }
      }
    }
  });
}
