#include "memory.h"

namespace emulator {
namespace {

constexpr unsigned kWarp = 32;
constexpr uintptr_t kSectorBytes = 32;

// Whether nothing orders two accesses of different threads.
bool unordered(const Moment& before, const Moment& now, unsigned block_threads) {
  if (before.thread < 0 || before.thread == now.thread) {
    return false;
  }
  if (before.thread / block_threads != now.thread / block_threads) {
    return true;
  }
  if (before.barriers != now.barriers) {
    return false;
  }
  const bool same_warp = before.thread % block_threads / kWarp == now.thread % block_threads / kWarp;
  return !same_warp || before.warp_barriers == now.warp_barriers;
}

}  // namespace

const char* Word::touch(bool is_write, const Moment& now, unsigned block_threads) {
  const bool same_block = read.thread >= 0 && read.thread / block_threads == now.thread / block_threads;
  const bool same_period = same_block && read.barriers == now.barriers;
  const bool same_warp = same_block && read.thread % block_threads / kWarp == now.thread % block_threads / kWarp;
  const bool at_once = same_period && same_warp && read.warp_barriers == now.warp_barriers;
  const char* wrong = nullptr;
  if (unordered(write, now, block_threads)) {
    wrong = is_write ? "race: writes what another thread writes" : "race: reads what another thread writes";
  }
  if (is_write) {
    if (unordered(read, now, block_threads) || other_blocks || (same_period && other_warps) ||
        (at_once && other_lanes)) {
      wrong = "race: writes what another thread reads";
    }
    write = now;
    defined = true;
    return wrong;
  }
  if (!defined) {
    wrong = "reads what was never written";
  }
  other_blocks = other_blocks || (read.thread >= 0 && !same_block);
  other_warps = same_period && (other_warps || !same_warp);
  other_lanes = at_once && (other_lanes || read.thread != now.thread);
  read = now;
  return wrong;
}

void Requests::add(uintptr_t at, size_t size, bool write, uintptr_t instruction, unsigned thread) {
  Touched& touched = touched_[{instruction, thread / kWarp, turns_[{instruction, thread}]++, write}];
  for (uintptr_t sector = at / kSectorBytes; sector <= (at + size - 1) / kSectorBytes; ++sector) {
    touched.sectors.insert(sector);
  }
  touched.bytes += size;
}

void Requests::end_block() {
  for (const auto& [request, touched] : touched_) {
    const bool write = std::get<3>(request);
    sectors[write] += touched.sectors.size();
    fewest[write] += (touched.bytes + kSectorBytes - 1) / kSectorBytes;
  }
  touched_.clear();
  turns_.clear();
}

}  // namespace emulator
