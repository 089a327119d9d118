// Four latents of a row, which a thread computes: those that one counter of the random numbers is for.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../elbo_launch.h"
#include "../elbo_math.h"
#include "four.h"

namespace phasevae::cuda {

static_assert(kFour == kWordsPerCounter);

// A thread draws one counter's four numbers: those of latents [column, column + 4) of one row.
struct Place {
  int64_t model, row, column;
  int count;  // how many of the four exist
};

template <class T>
__device__ __forceinline__ Four<T> load_at(const View<T>& view, const Place& place) {
  const T* from = view.data + place.model * view.model + place.row * view.row + place.column * view.column;
  return load(from, view.column, place.count);
}

template <class T>
__device__ __forceinline__ Four<T> draw(const Stream& stream, const Place& place) {
  const uint64_t key = static_cast<uint64_t>(stream.keys[place.model]);
  const int64_t on_device = stream.device_steps ? stream.device_steps[place.model * stream.stride] : 0;
  const uint64_t step = static_cast<uint64_t>(stream.step + on_device);
  uint32_t c0 = static_cast<uint32_t>(place.column / kWordsPerCounter), c1 = static_cast<uint32_t>(place.row);
  uint32_t c2 = static_cast<uint32_t>(step), c3 = static_cast<uint32_t>(step >> 32);
  philox(c0, c1, c2, c3, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
  Four<T> eps;
  box_muller(c0, c1, eps.value[0], eps.value[1]);
  box_muller(c2, c3, eps.value[2], eps.value[3]);
  return eps;
}

}  // namespace phasevae::cuda
