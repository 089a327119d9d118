// at::parallel_for, by the threads of torch itself whichever compiler is used.
//
// torch divides a loop by OpenMP pragmas in its headers. g++ makes calls of GNU's runtime of them, which torch has
// loaded. clang makes calls of its own runtime. It would start threads beside torch's, and the numbers of threads that
// the headers ask for would still be those of GNU's runtime: every thread would do the whole loop. So clang gets no
// pragmas (-fopenmp-simd), and the function that they would make is written out here. It does not number torch's
// threads, so at::get_thread_num and at::parallel_reduce must not be used with it.

#pragma once

#if defined(__clang__) && defined(__linux__)

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

extern "C" {
void GOMP_parallel(void (*work)(void*), void* argument, unsigned threads, unsigned flags);
int omp_get_num_threads();
int omp_get_thread_num();
}

// Tells torch's header that the function is there.
#define INTRA_OP_PARALLEL

namespace at::internal {

template <class F>
void invoke_parallel(int64_t begin, int64_t end, int64_t grain, const F& f) {
  struct Loop {
    int64_t begin, end, grain;
    const F& f;
    std::atomic_flag has_failed;
    std::exception_ptr failure;

    static void share(void* argument) {
      Loop& loop = *static_cast<Loop*>(argument);
      const int64_t size = loop.end - loop.begin, team = omp_get_num_threads();
      const int64_t most = loop.grain > 0 ? (size + loop.grain - 1) / loop.grain : team;
      const int64_t threads = std::min(team, most), of_each = (size + threads - 1) / threads;
      const int64_t from = loop.begin + omp_get_thread_num() * of_each;
      if (from >= loop.end) {
        return;
      }
      try {
        loop.f(from, std::min(loop.end, from + of_each));
      } catch (...) {
        if (!loop.has_failed.test_and_set()) {
          loop.failure = std::current_exception();
        }
      }
    }
  } loop{begin, end, grain, f, {}, nullptr};
  GOMP_parallel(&Loop::share, &loop, 0, 0);
  if (loop.failure) {
    std::rethrow_exception(loop.failure);
  }
}

}  // namespace at::internal

#endif

#include <ATen/Parallel.h>
