// Products of matrices in float32: a block of threads computes a tile of one product.
//
// c = start + a b, with the numbers of a row or column of the operands in shared memory, kDepth at a time. Every sum is
// taken in the order of the depth with fused products, as in csrc/cpu/mlp_tiles.h, so that the bits are the same.
// With TF32 tensor cores multiply: operands are rounded to 11 significant bits, and eight products are added at once.

#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "four.h"
#include "launch.h"
#include "tensor_cores.h"

namespace phasevae::cuda {

constexpr int kDepth = 16;

// Rows and columns of a block's tile, and the rows of a thread's part, which has four columns.
template <int Rows, int Columns, int ThreadRows, bool WithTf32>
struct Tile {
  static constexpr int kRows = Rows, kColumns = Columns, kThreadRows = ThreadRows;
  static constexpr bool kTf32 = WithTf32;
  static_assert(Rows / ThreadRows * (Columns / kFour) == kThreads);
};
template <bool WithTf32>
using Wide = Tile<128, 64, 8, WithTf32>;
template <bool WithTf32>
using Narrow = Tile<128, 16, 2, WithTf32>;
template <bool WithTf32>
using Flat = Tile<16, 128, 2, WithTf32>;

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
// AlongDepth: the depth is the last dimension of the matrix. ToTf32: the panel gets numbers rounded to TF32.
template <int Width, bool AlongDepth, bool ToTf32>
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

  __device__ __forceinline__ void store(Panel<Width>& to) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (!is_mine(i)) {
        continue;
      }
      Four<float>& four = four_[i];
      if constexpr (ToTf32) {
#pragma unroll
        for (float& number : four.value) {
          number = round_to_tf32(number);
        }
      }
      if constexpr (AlongDepth) {
#pragma unroll
        for (int k = 0; k < kFour; ++k) {
          to[deep(i) + k][across(i)] = four.value[k];
        }
      } else {
        *reinterpret_cast<Four<float>*>(&to[deep(i)][across(i)]) = four;
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

// The numbers of a tile that a thread computes: kThreadRows rows and four neighbouring columns.
//
// Without TF32 the rows are neighbours, too. With TF32 the 32 parts of a warp are the tiles of its tensor core, 16 x 8
// each. Their rows and columns are numbered such that a thread gets whole vectors: it has numbers of two rows and two
// columns of each, those of `group_of_lane` and `place_in_group`.
template <class Tile>
struct Part {
  float value[Tile::kThreadRows][kFour];

  // Of the first number in the tile.
  static __device__ __forceinline__ int row() {
    return Tile::kTf32 ? warp_row() + group_of_lane() * kRun
                       : static_cast<int>(threadIdx.x) / (Tile::kColumns / kFour) * Tile::kThreadRows;
  }
  static __device__ __forceinline__ int column() {
    return Tile::kTf32 ? warp_column() + place_in_group() * kFour
                       : static_cast<int>(threadIdx.x) % (Tile::kColumns / kFour) * kFour;
  }
  // Rows from the first one to row r.
  static __device__ __forceinline__ constexpr int below(int r) {
    return Tile::kTf32 ? r / kRun * kRun * kGroups + r % kRun : r;
  }
  // The first numbers of what is multiplied as a whole: the part, or with TF32 those of the warp.
  static __device__ __forceinline__ int first_row() { return Tile::kTf32 ? warp_row() : row(); }
  static __device__ __forceinline__ int first_column() { return Tile::kTf32 ? warp_column() : column(); }

  // Rows of a part that are neighbours, and numbers of the warp.
  static constexpr int kRun = Tile::kThreadRows < kFour ? Tile::kThreadRows : kFour;
  static constexpr int kWarpRows = Tile::kThreadRows * kGroups, kWarpColumns = kFour * kGroupLanes;
  static __device__ __forceinline__ int warp_row() {
    return static_cast<int>(threadIdx.x) / kWarp / (Tile::kColumns / kWarpColumns) * kWarpRows;
  }
  static __device__ __forceinline__ int warp_column() {
    return static_cast<int>(threadIdx.x) / kWarp % (Tile::kColumns / kWarpColumns) * kWarpColumns;
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

// Adds the product of two panels on tensor cores; the numbers of `a` are rounded already. A lane has two rows of `a` in
// each tile of its warp, and two neighbours of the depth; of `b` it has a column for each of two tiles. So the vectors
// of lanes lie in different banks.
template <class Tile>
__device__ __forceinline__ void multiply_tf32(const Panel<Tile::kRows>& a, const Panel<Tile::kColumns>& b,
                                              Part<Tile>& c) {
  constexpr int kRun = Part<Tile>::kRun;
  const int row = Part<Tile>::row(), column = Part<Tile>::first_column() + 2 * group_of_lane();
  // Unrolled it would need more registers than two blocks of a multiprocessor have.
#pragma unroll 1
  for (int first = 0; first < kDepth; first += kTensorDepth) {
    float of_a[Tile::kThreadRows][2], of_b[2][2];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int depth = first + 2 * place_in_group() + k;
      const auto columns = *reinterpret_cast<const Numbers<2>*>(&b[depth][column]);
      of_b[0][k] = round_to_tf32(columns.value[0]), of_b[1][k] = round_to_tf32(columns.value[1]);
#pragma unroll
      for (int r = 0; r < Tile::kThreadRows; r += kRun) {
        const auto rows = *reinterpret_cast<const Numbers<kRun>*>(&a[depth][row + Part<Tile>::below(r)]);
#pragma unroll
        for (int i = 0; i < kRun; ++i) {
          of_a[r + i][k] = rows.value[i];
        }
      }
    }
#pragma unroll
    for (int r = 0; r < Tile::kThreadRows; r += 2) {
      float *const above = c.value[r], *const below = c.value[r + 1];
      const float rows[4] = {of_a[r][0], of_a[r + 1][0], of_a[r][1], of_a[r + 1][1]};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float sums[4] = {above[i], above[i + 2], below[i], below[i + 2]};
        multiply_on_tensor_cores(sums, rows, of_b[i]);
        above[i] = sums[0], above[i + 2] = sums[1], below[i] = sums[2], below[i + 2] = sums[3];
      }
    }
  }
}

template <class Tile>
__device__ __forceinline__ void multiply(const Panel<Tile::kRows>& a, const Panel<Tile::kColumns>& b, Part<Tile>& c) {
  if constexpr (Tile::kTf32) {
    multiply_tf32<Tile>(a, b, c);
    return;
  }
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
  // Four warps use a number of `a`; those of `b` are rounded when they are used, as sums of biases need all digits.
  Share<Tile::kRows, AlongDepthA, Tile::kTf32> of_a(a, row);
  Share<Tile::kColumns, AlongDepthB, false> of_b(b, column);
  const bool has_part = row + Part<Tile>::first_row() < a.extent && column + Part<Tile>::first_column() < b.extent;
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
    if (count > 0 && row + Part<Tile>::below(r) < rows) {
      visit(row + Part<Tile>::below(r), column, count, r);
    }
  }
}

}  // namespace phasevae::cuda
