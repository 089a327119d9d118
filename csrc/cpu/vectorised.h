// PHASEVAE_VECTORISED: this compiler makes code for several instruction sets of x86-64. PHASEVAE_CLONES: compiles a
// function for each of them; the processor decides at the first call. Every other processor gets the code of its
// baseline, which for 64-bit ARM has NEON. And the attributes for inlining and unrolling.

#pragma once

#define PHASEVAE_INLINE inline __attribute__((always_inline))
#define PHASEVAE_LAMBDA __attribute__((always_inline))

#ifdef __clang__
#define PHASEVAE_UNROLL _Pragma("clang loop unroll(full)")
#define PHASEVAE_CAN_CLONE (__clang_major__ >= 18)
#else
#define PHASEVAE_UNROLL _Pragma("GCC unroll 16")
#define PHASEVAE_CAN_CLONE (__GNUC__ >= 12)
#endif

#if defined(__x86_64__) && defined(__gnu_linux__) && PHASEVAE_CAN_CLONE
#define PHASEVAE_VECTORISED
#define PHASEVAE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PHASEVAE_CLONES
#endif
