// The products of a block of rows with a matrix, and how the matrix is laid out for them, for the instruction set of
// the file that includes this header inside an anonymous namespace: see mlp_tiles.h.

#include "mlp_tiles.h"

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

// The most columns of a narrow matrix. Its panels would be a single vector, or partly empty. Instead the products have
// the rows of the block in their vectors, the gradients the other side of the weight; the columns are broadcast, in
// tiles of kNarrowRows.
constexpr int64_t kNarrow = kLanes < 8 ? 0 : kLanes;
constexpr int kNarrowRows = 4, kNarrowVectors = kLanes == 16 ? 4 : 2;

PHASEVAE_INLINE bool is_narrow(int64_t columns) { return columns <= kNarrow; }

// Packs rows [count, columns] of a matrix [depth, columns], whose element (k, c) is at source[k * step + c *
// column_step], for multiply_narrow. packed: where the first of the rows goes.
PHASEVAE_INLINE void pack_narrow(const float* source, int64_t count, int64_t columns, int64_t step, int64_t column_step,
                                 int64_t depth, float* packed) {
  for (int64_t tile = 0; tile < columns; tile += kNarrowRows, packed += depth * kNarrowRows) {
    for (int64_t k = 0; k < count; ++k) {
      for (int64_t c = 0; c < kNarrowRows; ++c) {
        packed[k * kNarrowRows + c] = tile + c < columns ? source[k * step + (tile + c) * column_step] : 0.0f;
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
    pack_narrow(source, depth, columns, columns, 1, depth, packed);
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

// Whether a weight [depth, columns] may be laid out as `pack` does it: a panel after the other, with no column to
// spare.
PHASEVAE_INLINE bool can_be_in_panels(int64_t columns) { return !is_narrow(columns) && columns % kVectorFloats == 0; }

// Writes a weight that is in panels row by row.
PHASEVAE_INLINE void unpack(const float* packed, int64_t depth, int64_t columns, float* __restrict to) {
  for_each_panel(columns, [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int64_t kWidth = vectors.value * kLanes;
    const float* panel = packed + column * depth;
    for (int64_t k = 0; k < depth; ++k) {
      for (int v = 0; v < vectors.value; ++v) {
        store(to + k * columns + column + v * kLanes, load(panel + k * kWidth + v * kLanes));
      }
    }
  });
}

// Packs the transpose [depth, columns] of a weight [columns, depth], which may be in panels itself.
PHASEVAE_INLINE void pack_transposed(const float* source, int64_t depth, int64_t columns, bool in_panels,
                                     float* __restrict packed) {
  int64_t width = 0;
  for (int64_t first = 0; first < depth; first += width, source += width * columns) {
    width = in_panels ? next_panel((depth - first) / kLanes) * kLanes : depth;
    if (is_narrow(columns)) {
      pack_narrow(source, width, columns, 1, width, depth, packed + first * kNarrowRows);
      continue;
    }
    for_each_panel(padded(columns), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
      constexpr int64_t kWidth = vectors.value * kLanes;
      for (int64_t begin = column; begin < column + kWidth; begin += kLanes) {
        const float* from = source + least(begin, columns) * width;
        float* __restrict to = packed + column * depth + first * kWidth + begin - column;
        const int64_t count = least(kLanes, columns - begin);
        int64_t k = 0;
        for (; count == kLanes && k + kLanes <= width; k += kLanes) {
          transpose(from + k, width, to + k * kWidth, kWidth);
        }
        for (; k < width; ++k) {
          for (int64_t c = 0; c < kLanes; ++c) {
            to[k * kWidth + c] = c < count ? from[c * width + k] : 0.0f;
          }
        }
      }
    });
  }
}
