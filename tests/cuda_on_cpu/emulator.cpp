// The stand-in runtime: a block's threads are fibers that take turns on one thread of the CPU, one block after another.
//
// A thread runs until it waits or ends, in a random order, so that what depends on an order shows. Kernels compiled
// with -fsanitize=thread call a function __tsan_* before each access to memory. They are defined here, not taken from
// libtsan. This file must be compiled without that flag.

#include "emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <unordered_map>

#include "cuda_runtime.h"
#include "memory.h"

// Static memory of this program or library, which holds the variables that are __shared__.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

namespace emulator {

Builtins builtins;

namespace {

constexpr size_t kStack = 1 << 16;
constexpr unsigned kMostThreads = 1024;

struct Fiber {
  enum State { kNew, kReady, kAtBarrier, kInWarp, kDone, kBroken } state = kNew;
  jmp_buf context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  // What it waits for in a warp.
  unsigned mask;
  uint64_t value;
  bool orders;
  const char* what;
};

struct Allocation {
  uintptr_t begin, end;
  bool writable;
  std::vector<Word> words;
};

std::vector<Fiber> fibers;
jmp_buf scheduler;
ucontext_t first_context, creator;
void (*thread_body)(const void*);
const void* thread_arguments;
size_t arguments_size;
unsigned current, threads;
bool in_kernel;
uint32_t barriers;
std::vector<uint32_t> warp_barriers;
uint32_t order_seed;
std::mt19937 order;
std::vector<std::string> found;
std::set<std::string> reported;
int last_error;
std::vector<Allocation> allocations;
std::unordered_map<uintptr_t, Word> shared;
bool counting;
Requests requests;

// Once a launch for each kind: one wrong index gives thousands.
void report(const std::string& kind, const std::string& detail = "") {
  if (reported.insert(kind).second) {
    const Builtins& b = builtins;
    found.push_back("block " + std::to_string(b.block.x) + " thread " + std::to_string(b.thread.x) + " " + kind +
                    detail);
  }
}

// ---- Fibers. swapcontext would do for all switches, but it asks the kernel for the signal mask each time. ----

void leave(Fiber::State state) {
  in_kernel = false;
  Fiber& fiber = fibers[current];
  fiber.state = state;
  if (_setjmp(fiber.context) == 0) {
    _longjmp(scheduler, 1);
  }
  in_kernel = true;
}

// A fiber is the same thread of one block after another.
void fiber_main() {
  for (leave(Fiber::kDone);; leave(Fiber::kDone)) {
    thread_body(thread_arguments);
  }
}

void enter(unsigned thread) {
  current = thread;
  builtins.thread = {thread, 0, 0};
  Fiber& fiber = fibers[thread];
  if (_setjmp(scheduler) != 0) {
    return;
  }
  if (fiber.state != Fiber::kNew) {
    _longjmp(fiber.context, 1);
  }
  getcontext(&first_context);
  first_context.uc_stack.ss_sp = fiber.stack.get();
  first_context.uc_stack.ss_size = kStack;
  makecontext(&first_context, fiber_main, 0);
  swapcontext(&creator, &first_context);
}

std::vector<unsigned> shuffled(unsigned n) {
  std::vector<unsigned> numbers(n);
  std::iota(numbers.begin(), numbers.end(), 0u);
  if (order_seed != 0) {
    std::shuffle(numbers.begin(), numbers.end(), order);
  }
  return numbers;
}

// Whether all lanes that a lane's mask names wait for the same as it does.
bool is_complete(unsigned first, const Fiber& lane) {
  for (unsigned other = 0; other < kWarp; ++other) {
    if (lane.mask >> other & 1) {
      if (first + other >= threads) {
        return false;
      }
      const Fiber& mate = fibers[first + other];
      if (mate.state != Fiber::kInWarp || mate.mask != lane.mask || mate.what != lane.what) {
        return false;
      }
    }
  }
  return true;
}

// Wakes the lanes that have what they wait for; returns whether there were any.
bool release_warps() {
  bool any = false;
  for (unsigned thread = 0; thread < threads; ++thread) {
    const unsigned first = thread / kWarp * kWarp;
    if (fibers[thread].state == Fiber::kInWarp && is_complete(first, fibers[thread])) {
      const unsigned mask = fibers[thread].mask;
      for (unsigned lane = 0; lane < kWarp; ++lane) {
        if (mask >> lane & 1) {
          fibers[first + lane].state = Fiber::kReady;
        }
      }
      warp_barriers[thread / kWarp] += fibers[thread].orders && mask == ~0u;
      any = true;
    }
  }
  return any;
}

// Wakes the threads at the barrier if all that have not ended are there.
bool release_barrier() {
  bool any = false;
  for (unsigned thread = 0; thread < threads; ++thread) {
    if (fibers[thread].state == Fiber::kInWarp) {
      return false;
    }
    any = any || fibers[thread].state == Fiber::kAtBarrier;
  }
  bool ended = false;
  for (unsigned thread = 0; any && thread < threads; ++thread) {
    if (fibers[thread].state == Fiber::kAtBarrier) {
      fibers[thread].state = Fiber::kReady;
    } else {
      ended = true;
    }
  }
  if (ended) {
    report("waits at a barrier that other threads never reach");
  }
  barriers += any;
  return any;
}

void report_waiting() {
  for (unsigned thread = 0; thread < threads; ++thread) {
    if (fibers[thread].state == Fiber::kInWarp) {
      builtins.thread = {thread, 0, 0};
      report("waits for ever", std::string(" in ") + fibers[thread].what);
    }
  }
}

void run_block() {
  shared.clear();
  barriers = 0;
  warp_barriers.assign(threads / kWarp + 1, 0);
  for (unsigned thread = 0; thread < threads; ++thread) {
    if (fibers[thread].state != Fiber::kDone) {
      fibers[thread].state = Fiber::kNew;
      enter(thread);
    }
    fibers[thread].state = Fiber::kReady;
  }
  do {
    for (unsigned thread : shuffled(threads)) {
      if (fibers[thread].state == Fiber::kReady) {
        enter(thread);
      }
    }
  } while (release_warps() || release_barrier());
  report_waiting();
  requests.end_block();
}

// ---- Accesses ----

bool lies_in(uintptr_t at, size_t size, const void* begin, size_t bytes) {
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin);
  return at >= first && at + size <= first + bytes;
}

void touch(Word& word, bool write) {
  const int64_t thread = int64_t(builtins.block.x) * threads + current;
  if (const char* wrong = word.touch(write, {thread, barriers, warp_barriers[current / kWarp]}, threads)) {
    report(wrong);
  }
}

// Keeps an access; returns whether there is such memory.
bool keep(uintptr_t at, size_t size, bool write, uintptr_t instruction) {
  const uintptr_t last = (at + size - 1) / kWordBytes;
  for (Allocation& one : allocations) {
    if (at >= one.begin && at + size <= one.end) {
      if (write && !one.writable) {
        report("writes read-only memory");
      }
      for (uintptr_t word = at / kWordBytes; word <= last; ++word) {
        touch(one.words[word - one.begin / kWordBytes], write);
      }
      if (counting) {
        requests.add(at, size, write, instruction, current);
      }
      return true;
    }
  }
  if (!lies_in(at, size, __bss_start, _end - __bss_start)) {
    return false;
  }
  for (uintptr_t word = at / kWordBytes; word <= last; ++word) {
    touch(shared[word], write);
  }
  return true;
}

void access(const void* pointer, size_t size, bool write, void* instruction) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(pointer);
  if (!in_kernel || allocations.empty() || lies_in(at, size, fibers[current].stack.get(), kStack) ||
      (!write &&
       (lies_in(at, size, &builtins, sizeof builtins) || lies_in(at, size, thread_arguments, arguments_size)))) {
    return;
  }
  in_kernel = false;
  if (size <= 16 && (size & (size - 1)) == 0 && at % size != 0) {
    report("misaligned access");
  }
  if (!keep(at, size, write, reinterpret_cast<uintptr_t>(instruction))) {
    report(write ? "writes out of bounds" : "reads out of bounds");
    leave(Fiber::kBroken);  // for good, before it happens
  }
  in_kernel = true;
}

}  // namespace

cudaError_t run(const cudaLaunchConfig_t& config, void (*thread)(const void*), const void* arguments, size_t size) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  // Kernels are one-dimensional.
  if (block.x == 0 || block.x > kMostThreads || grid.x == 0 || grid.x > 0x7fffffff || block.y * block.z != 1 ||
      grid.y * grid.z != 1) {
    last_error = cudaErrorInvalidConfiguration;
    return cudaErrorInvalidConfiguration;
  }
  threads = block.x;
  reported.clear();
  thread_body = thread, thread_arguments = arguments, arguments_size = size;
  builtins.grid_size = grid, builtins.block_size = block;
  order.seed(order_seed);
  // The launches of a stream follow each other.
  for (Allocation& one : allocations) {
    for (Word& word : one.words) {
      const bool defined = word.defined;
      word = {};
      word.defined = defined;
    }
  }
  if (fibers.size() < threads) {
    fibers.resize(threads);
  }
  for (unsigned number : shuffled(grid.x)) {
    builtins.block = {number, 0, 0};
    run_block();
  }
  return cudaSuccess;
}

void barrier() { leave(Fiber::kAtBarrier); }

namespace {

// Waits for all lanes in `mask`, and lets visit(lanes of the warp) read what they brought.
template <class Visit>
void meet(unsigned mask, uint64_t value, bool orders, const char* what, const Visit& visit) {
  Fiber& fiber = fibers[current];
  const Fiber* lanes = &fibers[current - current % kWarp];
  fiber.mask = mask, fiber.value = value, fiber.orders = orders, fiber.what = what;
  leave(Fiber::kInWarp);
  visit(lanes);
  // Nobody may bring a next value before all have taken this one.
  leave(Fiber::kInWarp);
}

// A number of TF32 as tensor cores take it, which ignore the other bits.
double of_tf32(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  if (bits % (1u << kTf32Dropped) != 0 && number == number) {
    report("multiplies a number that is not rounded to TF32");
  }
  bits = bits >> kTf32Dropped << kTf32Dropped;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

}  // namespace

uint64_t exchange(unsigned mask, uint64_t value, int source, bool orders, const char* what) {
  in_kernel = false;
  const unsigned lane = current % kWarp;
  if (!(mask >> lane & 1)) {
    report("is no lane of its own mask", std::string(" in ") + what);
    in_kernel = true;
    return value;
  }
  if (source < 0 || source >= kWarp || !(mask >> source & 1)) {
    report("takes the value of a lane that its mask does not name", std::string(" in ") + what);
    source = lane;
  }
  uint64_t got = 0;
  meet(mask, value, orders, what, [&](const Fiber* lanes) { got = lanes[source].value; });
  return got;
}

// Element (row, k) of a is number row / 8 + 2 (k / 4) of lane 4 (row % 8) + k % 4, element (k, column) of b number k /
// 4 of lane 4 column + k % 4. The hardware's order of sums, and how it rounds them, are not documented.
void multiply_m16n8k8(float* c, const float* a, const float* b) {
  struct Operands {
    const float *a, *b;
  } const own{a, b};
  in_kernel = false;
  const unsigned lane = current % kWarp;
  meet(~0u, reinterpret_cast<uint64_t>(&own), false, "mma.sync", [&](const Fiber* lanes) {
    const auto of_lane = [&](unsigned l) { return *reinterpret_cast<const Operands*>(lanes[l].value); };
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double sum = c[i];
      for (unsigned k = 0; k < 8; ++k) {
        sum += of_tf32(of_lane(row % 8 * 4 + k % 4).a[row / 8 + k / 4 * 2]) *
               of_tf32(of_lane(column * 4 + k % 4).b[k / 4]);
      }
      c[i] = static_cast<float>(sum);
    }
  });
}

void allow(const void* begin, size_t bytes, bool writable, bool defined) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(begin);
  Allocation one{at, at + bytes, writable, std::vector<Word>(bytes / kWordBytes + 1)};
  for (Word& word : one.words) {
    word.defined = defined;
  }
  allocations.push_back(std::move(one));
}

void forget_all() { allocations.clear(); }
std::vector<std::string> errors() { return std::exchange(found, {}); }
void set_order(uint32_t seed) { order_seed = seed; }
void set_last_error(int error) { last_error = error; }
void count_traffic(bool on) { counting = on, requests = {}; }
Traffic loads() { return {requests.sectors[0], requests.fewest[0]}; }
Traffic stores() { return {requests.sectors[1], requests.fewest[1]}; }

}  // namespace emulator

cudaError_t cudaGetLastError() { return static_cast<cudaError_t>(std::exchange(emulator::last_error, 0)); }
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : "unspecified launch failure";
}

#define EMULATOR_ACCESS(NAME, WRITE, SIZE) \
  extern "C" void NAME(void* at) { emulator::access(at, SIZE, WRITE, __builtin_return_address(0)); }
#define EMULATOR_ACCESSES(SIZE)                             \
  EMULATOR_ACCESS(__tsan_read##SIZE, false, SIZE)           \
  EMULATOR_ACCESS(__tsan_write##SIZE, true, SIZE)           \
  EMULATOR_ACCESS(__tsan_unaligned_read##SIZE, false, SIZE) \
  EMULATOR_ACCESS(__tsan_unaligned_write##SIZE, true, SIZE)
EMULATOR_ACCESSES(1)
EMULATOR_ACCESSES(2)
EMULATOR_ACCESSES(4)
EMULATOR_ACCESSES(8)
EMULATOR_ACCESSES(16)
extern "C" void __tsan_read_range(void* at, size_t size) {
  emulator::access(at, size, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* at, size_t size) {
  emulator::access(at, size, true, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
