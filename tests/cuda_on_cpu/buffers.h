// Memory for the kernels under test, and what is expected of it.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "elbo_launch.h"
#include "emulator.h"

inline std::mt19937_64 random_bits;
inline int failures, checks;
inline bool stops_at_a_failure;
inline std::string label;

inline void fail(const std::string& what) {
  if (failures++ < 12) {
    std::printf("FAIL %s: %s\n", label.c_str(), what.c_str());
  }
  if (stops_at_a_failure) {
    std::exit(1);
  }
}

inline int64_t between(int64_t low, int64_t high) { return low + int64_t(random_bits() % uint64_t(high - low + 1)); }

inline double normal() {
  static std::normal_distribution<double> draw;
  return draw(random_bits);
}

constexpr size_t kAlignment = 256;  // cudaMalloc's

// Exactly so many numbers, NaN until they are written. in, in_out and out let the next launch use them so.
template <class T>
struct Buffer {
  explicit Buffer(int64_t count) : size(count), data(allocate(count), std::free) {
    std::fill_n(get(), count, std::numeric_limits<T>::has_quiet_NaN ? std::numeric_limits<T>::quiet_NaN() : T(-1));
  }
  T* get() const { return data.get(); }
  void in() const { emulator::allow(get(), size * sizeof(T), false, true); }
  void in_out() const { emulator::allow(get(), size * sizeof(T), true, true); }
  void out() const { emulator::allow(get(), size * sizeof(T), true, false); }

  int64_t size;
  std::unique_ptr<T, void (*)(void*)> data;

 private:
  static T* allocate(int64_t count) {
    const size_t bytes = (count * sizeof(T) / kAlignment + 1) * kAlignment;
    return static_cast<T*>(std::aligned_alloc(kAlignment, bytes));
  }
};

template <class T>
Buffer<T> normals(int64_t count, double scale = 1) {
  Buffer<T> made(count);
  for (int64_t i = 0; i < count; ++i) {
    made.get()[i] = T(scale * normal());
  }
  return made;
}

// Over the clamped range, with the extremes and values close to the collapsed state.
template <class T>
Buffer<T> log_variances(int64_t count) {
  const T extremes[] = {-12, 8, 0, T(1e-3), T(-1e-3), 1, -1};
  std::uniform_real_distribution<double> anywhere(-12, 8);
  Buffer<T> made(count);
  for (int64_t i = 0; i < count; ++i) {
    made.get()[i] = i < 7 ? extremes[i] : T(random_bits() % 2 ? 0.1 * normal() : anywhere(random_bits));
  }
  return made;
}

template <class T>
Buffer<T> copy_of(const Buffer<T>& other) {
  Buffer<T> made(other.size);
  std::memcpy(made.get(), other.get(), other.size * sizeof(T));
  return made;
}

// A view [M, B, n] into memory that ends with its last number.
struct Strides {
  int64_t model, row, column, first;

  int64_t size(int64_t m, int64_t b, int64_t n) const {
    return m * b * n == 0 ? 0 : first + (m - 1) * model + (b - 1) * row + (n - 1) * column + 1;
  }
  template <class T>
  phasevae::View<T> of(const Buffer<T>& buffer) const {
    return {buffer.get() + first, model, row, column};
  }
};

// Contiguous, a half of [M, B, 2 n], models and rows transposed, shared by the models; and without a unit stride:
// every second column, one number for all of a model, all dimensions reversed.
inline Strides strides(int64_t m, int64_t b, int64_t n, bool unit_column = false) {
  switch (between(0, unit_column ? 4 : 7)) {
    case 0:
      return {b * n, n, 1, 0};
    case 1:
      return {b * 2 * n, 2 * n, 1, 0};
    case 2:
      return {b * 2 * n, 2 * n, 1, n};
    case 3:
      return {n, m * n, 1, 0};
    case 4:
      return {0, n, 1, 0};
    case 5:
      return {b * 2 * n, 2 * n, 2, 1};
    case 6:
      return {1, 0, 0, 0};
    default:
      return {1, m, m * b, 0};
  }
}

template <class T>
void expect_equal(const char* what, const Buffer<T>& found, const Buffer<T>& expected) {
  ++checks;
  for (int64_t i = 0; i < found.size; ++i) {
    const T a = found.get()[i], b = expected.get()[i];
    if (std::memcmp(&a, &b, sizeof a) != 0 && !(a == b)) {
      return fail(std::string(what) + "[" + std::to_string(i) + "] of " + std::to_string(found.size) + " is " +
                  std::to_string(a) + ", must be " + std::to_string(b));
    }
  }
}

template <class T>
void expect_close(const char* what, const Buffer<T>& found, const std::vector<long double>& expected,
                  const std::vector<long double>& scale) {
  ++checks;
  for (int64_t i = 0; i < found.size; ++i) {
    const long double a = found.get()[i];
    if (!(std::fabs(a - expected[i]) <= 40 * std::numeric_limits<T>::epsilon() * scale[i])) {
      return fail(std::string(what) + "[" + std::to_string(i) + "] of " + std::to_string(found.size) + " is " +
                  std::to_string(double(a)) + ", must be " + std::to_string(double(expected[i])));
    }
  }
}

// The end of a launch: its status, and the emulator's errors.
inline void finish(int status, int expected = 0) {
  if (status != expected) {
    fail("the launch returned " + std::to_string(status));
  }
  for (const std::string& line : emulator::errors()) {
    fail(line);
  }
  emulator::forget_all();
}
