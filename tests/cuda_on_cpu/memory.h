// What the emulator knows of the memory that kernels use: who used each word when, and the traffic of warps.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>

namespace emulator {

constexpr uintptr_t kWordBytes = 4;

// A thread by its number in the grid, and the barriers of its block and of its warp that it has passed.
struct Moment {
  int64_t thread = -1;
  uint32_t barriers = 0, warp_barriers = 0;
};

// The accesses of a word in a launch: the last of each kind, and whether there were reads that no barrier orders before
// the last: by other lanes of its warp, by other warps, by other blocks.
struct Word {
  Moment write, read;
  bool other_lanes = false, other_warps = false, other_blocks = false;
  bool defined = false;

  // Keeps an access; returns what is wrong with it, or null.
  const char* touch(bool is_write, const Moment& now, unsigned block_threads);
};

// The requests of warps: accesses of its lanes by one instruction, for the same time.
class Requests {
 public:
  void add(uintptr_t at, size_t size, bool write, uintptr_t instruction, unsigned thread);
  void end_block();

  uint64_t sectors[2] = {}, fewest[2] = {};  // of loads and of stores

 private:
  struct Touched {
    std::set<uintptr_t> sectors;
    uint64_t bytes = 0;
  };
  std::map<std::tuple<uintptr_t, unsigned, unsigned, bool>, Touched> touched_;
  std::map<std::pair<uintptr_t, unsigned>, unsigned> turns_;
};

}  // namespace emulator
