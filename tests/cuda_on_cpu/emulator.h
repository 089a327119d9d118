// What a test says to the emulator and asks of it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

// Memory that kernels may use. As soon as there is any, every other access is an error. `defined`: may be read before a
// kernel writes it.
void allow(const void* begin, size_t bytes, bool writable, bool defined);
void forget_all();

// The errors since the last call, a line each; the first of its kind in each launch.
std::vector<std::string> errors();

// The order of blocks and threads: 0 ascending, else shuffled by this number.
void set_order(uint32_t seed);

// Leaves an error for cudaGetLastError, as another library's failed call does.
void set_last_error(int error);

// The traffic of the launches since the last call, as warps make it: 32-byte sectors that their requests touch, and the
// fewest that would hold the same bytes.
struct Traffic {
  uint64_t sectors, fewest;
};
void count_traffic(bool on);
Traffic loads();
Traffic stores();

}  // namespace emulator
