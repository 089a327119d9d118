// Memory of one thread, freed with its owner.

#pragma once

#include <cstdlib>
#include <new>

#include "../mlp_launch.h"

namespace phasevae::cpu {

class Scratch {
 public:
  explicit Scratch(int64_t floats)
      : memory_(static_cast<float*>(std::aligned_alloc(64, padded(floats > 0 ? floats : 1) * sizeof(float)))) {
    if (!memory_) {
      throw std::bad_alloc();
    }
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(memory_); }
  float* get() { return memory_; }

 private:
  float* memory_;
};

}  // namespace phasevae::cpu
