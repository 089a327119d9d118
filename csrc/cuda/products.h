// Products of matrices in float32: a block of threads computes a tile of one product.
//
// c = start + a b, with the numbers of a row or column of the operands in shared memory, kDepth at a time. Every sum is
// taken in the order of the depth with fused products, as in csrc/cpu/mlp_tiles.h, so that the bits are the same.

#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "four.h"
#include "launch.h"

namespace phasevae::cuda {

constexpr int kDepth = 16;

// Rows and columns of a block's tile, and the rows of a thread's part, which has four columns.
template <int Rows, int Columns, int ThreadRows>
struct Tile {
  static constexpr int kRows = Rows, kColumns = Columns, kThreadRows = ThreadRows;
  static_assert(Rows / ThreadRows * (Columns / kFour) == kThreads);
};
using Wide = Tile<128, 64, 8>;
using Narrow = Tile<128, 16, 2>;
using Flat = Tile<16, 128, 2>;

// Rows of this many numbers at most are those of a tile's short side.
constexpr int64_t kShort = 16;

// A matrix [extent, depth] or [depth, extent] with unit stride in its last dimension.
struct Operand {
  const float* data;
  int64_t stride, extent, depth;
};

template <int N>
struct alignas(N >= kFour ? 16 : 4 * N) Numbers {
  float value[N];
};

// Rows of shared memory are longer than a tile by one vector, so that a column of them lies in different banks.
template <int Width>
using Panel = float[kDepth][Width + kFour];

template <class Tile>
struct Panels {
  alignas(16) Panel<Tile::kRows> a[2];
  alignas(16) Panel<Tile::kColumns> b[2];
};

// A thread's share of a panel, on its way from global to shared memory. Beyond the ends of the matrix there are zeros.
// AlongDepth: the depth is the last dimension of the matrix.
template <int Width, bool AlongDepth>
class Share {
 public:
  __device__ __forceinline__ Share(const Operand& of, int64_t first) : of_(of) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int64_t at = first + across(i);
      from_[i] = AlongDepth ? of.data + at * of.stride + deep(i) : of.data + deep(i) * of.stride + at;
      count_[i] = AlongDepth ? (at < of.extent ? kFour : 0) : clamped(of.extent - at);
    }
  }

  // Loads the next kDepth numbers of each row or column, from `depth` on.
  __device__ __forceinline__ void load(int64_t depth) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int64_t left = of_.depth - depth - deep(i);
      const int count = AlongDepth ? min(count_[i], clamped(left)) : left > 0 ? count_[i] : 0;
      four_[i] = is_mine(i) ? cuda::load(from_[i], 1, count) : Four<float>{};
      from_[i] += AlongDepth ? kDepth : kDepth * of_.stride;
    }
  }

  __device__ __forceinline__ void store(Panel<Width>& to) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (!is_mine(i)) {
        continue;
      }
      if constexpr (AlongDepth) {
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
          to[deep(i) + k][across(i)] = four_[i].value[k];
        }
      } else {
        *reinterpret_cast<Four<float>*>(&to[deep(i)][across(i)]) = four_[i];
      }
    }
  }

 private:
  static constexpr int kFours = kDepth * Width / kFour, kOwn = (kFours + kThreads - 1) / kThreads;
  static constexpr int kOfLine = (AlongDepth ? kDepth : Width) / kFour;

  static __device__ __forceinline__ int number(int i) { return i * kThreads + static_cast<int>(threadIdx.x); }
  static __device__ __forceinline__ bool is_mine(int i) { return kFours % kThreads == 0 || number(i) < kFours; }
  static __device__ __forceinline__ int deep(int i) {
    return AlongDepth ? number(i) % kOfLine * kFour : number(i) / kOfLine;
  }
  static __device__ __forceinline__ int across(int i) {
    return AlongDepth ? number(i) / kOfLine : number(i) % kOfLine * kFour;
  }
  static __device__ __forceinline__ int clamped(int64_t left) {
    return static_cast<int>(max(int64_t{0}, min(left, int64_t{kFour})));
  }

  const Operand& of_;
  const float* from_[kOwn];
  int count_[kOwn];
  Four<float> four_[kOwn];
};

// The numbers of a tile that a thread computes: rows [row, row + kThreadRows) and four columns, in the tile.
template <class Tile>
struct Part {
  float value[Tile::kThreadRows][kFour];

  static __device__ __forceinline__ int row() {
    return static_cast<int>(threadIdx.x) / (Tile::kColumns / kFour) * Tile::kThreadRows;
  }
  static __device__ __forceinline__ int column() {
    return static_cast<int>(threadIdx.x) % (Tile::kColumns / kFour) * kFour;
  }
  __device__ __forceinline__ void set(const Four<float>& start) {
#pragma unroll
    for (auto& row : value) {
#pragma unroll
      for (int c = 0; c < kFour; ++c) {
        row[c] = start.value[c];
      }
    }
  }
  __device__ __forceinline__ void add(const Part& other) {
#pragma unroll
    for (int r = 0; r < Tile::kThreadRows; ++r) {
#pragma unroll
      for (int c = 0; c < kFour; ++c) {
        value[r][c] += other.value[r][c];
      }
    }
  }
};

template <class Tile>
__device__ __forceinline__ void multiply(const Panel<Tile::kRows>& a, const Panel<Tile::kColumns>& b, Part<Tile>& c) {
  const int row = Part<Tile>::row(), column = Part<Tile>::column();
#pragma unroll
  for (int k = 0; k < kDepth; ++k) {
    const auto of_a = *reinterpret_cast<const Numbers<Tile::kThreadRows>*>(&a[k][row]);
    const auto of_b = *reinterpret_cast<const Four<float>*>(&b[k][column]);
#pragma unroll
    for (int r = 0; r < Tile::kThreadRows; ++r) {
#pragma unroll
      for (int i = 0; i < kFour; ++i) {
        c.value[r][i] = fmaf(of_a.value[r], of_b.value[i], c.value[r][i]);
      }
    }
  }
}

// Adds the product of the rows of `a` from `row` on and the columns of `b` from `column` on to c, and calls
// visit(panel of b, depth after it) for each panel, when the product with it is in c. While a panel is used the next
// one is on its way.
template <class Tile, bool AlongDepthA, bool AlongDepthB, class Visit>
__device__ __forceinline__ void add_product(const Operand& a, int64_t row, const Operand& b, int64_t column,
                                            Panels<Tile>& panels, Part<Tile>& c, const Visit& visit) {
  Share<Tile::kRows, AlongDepthA> of_a(a, row);
  Share<Tile::kColumns, AlongDepthB> of_b(b, column);
  const bool has_part = row + Part<Tile>::row() < a.extent && column + Part<Tile>::column() < b.extent;
  of_a.load(0), of_b.load(0);
  int turn = 0;
  for (int64_t depth = 0; depth < a.depth; turn = 1 - turn) {
    of_a.store(panels.a[turn]), of_b.store(panels.b[turn]);
    __syncthreads();
    depth += kDepth;
    if (depth < a.depth) {
      of_a.load(depth), of_b.load(depth);
    }
    if (has_part) {
      multiply<Tile>(panels.a[turn], panels.b[turn], c);
    }
    visit(panels.b[turn], depth);
  }
}

// Calls visit(row, column, count, number of its row in the part) for the rows of a thread's part that exist in a
// product [rows, columns], with the number of columns that exist.
template <class Tile, class Visit>
__device__ __forceinline__ void for_each_row(int64_t row, int64_t rows, int64_t column, int64_t columns,
                                             const Visit& visit) {
  row += Part<Tile>::row(), column += Part<Tile>::column();
  const int count = static_cast<int>(min(columns - column, int64_t{kFour}));
#pragma unroll
  for (int r = 0; r < Tile::kThreadRows; ++r) {
    if (count > 0 && row + r < rows) {
      visit(row + r, column, count, r);
    }
  }
}

}  // namespace phasevae::cuda
