// Products of matrices in tiles that fit in the registers, for the instruction set of the file that includes this
// header.
//
// Inside an anonymous namespace, that file defines a vector `V` of `kLanes` floats, the operations on it, the transpose
// of kLanes vectors, the most vectors of a tile, `kTileVectors`, and its rows, `tile_rows(vectors)`.
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

// Where element (row, column) of a block's array is.
PHASEVAE_INLINE int64_t place(int64_t row, int64_t column) {
  return column / kVectorFloats * kStripFloats + row * kVectorFloats + column % kVectorFloats;
}

// Adds a b to c. Rows of a are `Row` floats apart, its columns `Column`; of_vector: where a row of b has its vectors.
template <int64_t Row, int64_t Column, int Rows, int Vectors>
PHASEVAE_INLINE void add_product(int64_t depth, const float* __restrict a, const float* __restrict b, int64_t b_row,
                                 const int64_t (&of_vector)[Vectors], V (&c)[Rows][Vectors]) {
  for (int64_t k = 0; k < depth; ++k, a += Column, b += b_row) {
    V row[Vectors];
    PHASEVAE_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      row[v] = load(b + of_vector[v]);
    }
    PHASEVAE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      const auto factor = broadcast(a[r * Row]);
      PHASEVAE_UNROLL
      for (int v = 0; v < Vectors; ++v) {
        c[r][v] = multiply_add(factor, row[v], c[r][v]);
      }
    }
  }
}

// Calls visit(row, vector, sum) for the sums of a tile.
template <int Rows, int Vectors, class Visit>
PHASEVAE_INLINE void for_each_sum(V (&c)[Rows][Vectors], const Visit& visit) {
  PHASEVAE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PHASEVAE_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      visit(r, v, c[r][v]);
    }
  }
}

// The width in vectors of the next panel of a product, of the `left` that are not in one yet.
PHASEVAE_INLINE int64_t next_panel(int64_t left) {
  // No panel has a single vector, which would be slow: a matrix of one vector is narrow (mlp_products.h).
  return left == kTileVectors + 1 ? kTileVectors - 1 : least(left, kTileVectors);
}

// Calls visit(column, width in vectors as a constant) for the panels of columns of a product.
template <class Visit>
PHASEVAE_INLINE void for_each_panel(int64_t columns, const Visit& visit) {
  for (int64_t column = 0; column < columns;) {
    const int64_t vectors = next_panel((columns - column) / kLanes);
    if (vectors == 2) {
      visit(column, Count<2>());
    } else if (vectors == 3 || kTileVectors == 3) {
      visit(column, Count<3>());
    } else {
      visit(column, Count<kTileVectors>());
    }
    column += vectors * kLanes;
  }
}

// Calls visit(row, rows of the tile as a constant) for tiles of `Vectors` vectors that cover the rows. None crosses a
// multiple of kVectorFloats, where a strip ends.
template <int Vectors, class Visit>
PHASEVAE_INLINE void for_each_tile(int64_t rows, const Visit& visit) {
  constexpr int kRows = tile_rows(Vectors), kLast = kVectorFloats % kRows;
  for (int64_t strip = 0; strip < rows; strip += kVectorFloats) {
    const int64_t end = least(strip + kVectorFloats - kLast, rows);
    for (int64_t row = strip; row < end; row += kRows) {
      visit(row, Count<kRows>());
    }
    if (kLast && strip + kVectorFloats - kLast < rows) {
      visit(strip + kVectorFloats - kLast, Count<kLast ? kLast : 1>());
    }
  }
}

// Copies numbers, and zeros up to `width`. Rows are short: a call of a library function would take longer.
PHASEVAE_INLINE void copy_padded(const float* from, int64_t count, int64_t width, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    store(to + i, load(from + i));
  }
  for (; i + 4 <= count; i += 4) {
    copy(from + i, 4, to + i);
  }
  for (; i < count; ++i) {
    to[i] = from[i];
  }
  for (; i < width; ++i) {
    to[i] = 0.0f;
  }
}
