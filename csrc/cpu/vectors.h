// Vectors of any width, which the compiler makes of the registers of an instruction set.

#pragma once

#include <cstring>

#include "vectorised.h"

// They are passed to functions that are inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace phasevae::cpu {

template <class T, int Width>
struct VectorOf {
  typedef T type __attribute__((vector_size(Width * sizeof(T))));
};

template <class T, int Width>
using Vector = typename VectorOf<T, Width>::type;

template <class V, class T>
PHASEVAE_INLINE V load(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class V, class T>
PHASEVAE_INLINE void store(T* to, const V& value) {
  std::memcpy(to, &value, sizeof value);
}

}  // namespace phasevae::cpu
