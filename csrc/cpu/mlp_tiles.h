// Products of matrices in tiles that fit in the registers, for the instruction set of the file that includes this
// header.
//
// Inside an anonymous namespace, that file defines a vector `V` of `kLanes` floats, the operations on it, the transpose
// of kLanes vectors, and the rows and vectors of a tile, `kTileRows` and `kTileVectors`.
// Templates and inline functions of the standard library are not allowed here. The linker keeps one copy of each, and
// it could be the copy of this file, compiled for a processor that others do not have.
//
// All three matrix products have one form: c[r][:] += a(r, k) b(k, :), with a(r, k) broadcast and b(k, :) in vectors.

template <int N>
struct Count {
  static constexpr int value = N;
};

PHASEVAE_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
PHASEVAE_INLINE void copy(const float* from, int64_t count, float* to) { std::memcpy(to, from, count * sizeof(float)); }
PHASEVAE_INLINE void clear(float* to, int64_t count) { std::memset(to, 0, count * sizeof(float)); }

// Rows of a tile with this many vectors of columns. A narrow tile has more, as each sum waits for its last addition.
template <int Vectors>
constexpr int64_t kRowsOf = Vectors == 1 ? 2 * kTileRows : kTileRows;

// Computes c = start + a b for the rows of a tile and `Vectors` vectors of columns and passes it to `finish`. start:
// the initial value of every row, null for zeros.
template <int Vectors, class Finish>
PHASEVAE_INLINE void tile(int64_t depth, const float* __restrict a, int64_t a_row, int64_t a_step,
                          const float* __restrict b, int64_t b_step, const float* start, const Finish& finish) {
  constexpr int64_t kRows = kRowsOf<Vectors>;
  V c[kRows][Vectors];
  PHASEVAE_UNROLL
  for (int64_t r = 0; r < kRows; ++r) {
    PHASEVAE_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      c[r][v] = start ? load(start + v * kLanes) : zero();
    }
  }
  // One pointer for four rows: more rows have no registers for their addresses.
  const float* of_four[kRows / 4];
  PHASEVAE_UNROLL
  for (int64_t i = 0; i < kRows / 4; ++i) {
    of_four[i] = a + 4 * i * a_row;
  }
  for (int64_t k = 0; k < depth; ++k, b += b_step) {
    V row[Vectors];
    PHASEVAE_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      row[v] = load(b + v * kLanes);
    }
    PHASEVAE_UNROLL
    for (int64_t r = 0; r < kRows; ++r) {
      const auto factor = broadcast(of_four[r / 4][r % 4 * a_row]);
      PHASEVAE_UNROLL
      for (int v = 0; v < Vectors; ++v) {
        c[r][v] = multiply_add(factor, row[v], c[r][v]);
      }
    }
    PHASEVAE_UNROLL
    for (int64_t i = 0; i < kRows / 4; ++i) {
      of_four[i] += a_step;
    }
  }
  PHASEVAE_UNROLL
  for (int64_t r = 0; r < kRows; ++r) {
    PHASEVAE_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      finish(r, v, c[r][v]);
    }
  }
}

// Calls visit(column, width in vectors as a constant) for the panels of columns of a product.
template <class Visit>
PHASEVAE_INLINE void for_each_panel(int64_t columns, const Visit& visit) {
  // Of four vectors two and two are faster than three and one.
  const int64_t pairs = kTileVectors == 3 && columns / kLanes % kTileVectors == 1 ? 4 * kLanes : 0;
  int64_t column = 0;
  for (; column + kTileVectors * kLanes <= columns - pairs; column += kTileVectors * kLanes) {
    visit(column, Count<kTileVectors>());
  }
  for (; kTileVectors > 2 && column + 2 * kLanes <= columns; column += 2 * kLanes) {
    visit(column, Count<2>());
  }
  for (; column < columns; column += kLanes) {
    visit(column, Count<1>());
  }
}

// Packs a matrix [depth, columns] with element (k, c) at source[k * step + c * column_step] into panels that are read
// in order.
PHASEVAE_INLINE void pack(const float* source, int64_t depth, int64_t columns, int64_t step, int64_t column_step,
                          float* __restrict packed) {
  for_each_panel(padded(columns), [&](int64_t column, auto vectors) PHASEVAE_LAMBDA {
    constexpr int64_t kWidth = vectors.value * kLanes;
    float* __restrict panel = packed + column * depth;
    const int64_t width = least(kWidth, columns - column);
    const float* from = source + column * column_step;
    if (column_step == 1 && width == kWidth) {
      for (int64_t k = 0; k < depth; ++k) {
        copy(from + k * step, kWidth, panel + k * kWidth);
      }
      return;
    }
    int64_t k = 0;
    for (; step == 1 && width == kWidth && k + kLanes <= depth; k += kLanes) {
      for (int64_t c = 0; c < kWidth; c += kLanes) {
        transpose(from + k + c * column_step, column_step, panel + k * kWidth + c, kWidth);
      }
    }
    for (; k < depth; ++k) {
      for (int64_t c = 0; c < kWidth; ++c) {
        panel[k * kWidth + c] = c < width ? from[k * step + c * column_step] : 0.0f;
      }
    }
  });
}
