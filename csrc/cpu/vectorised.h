// PHASEVAE_VECTORISED: this compiler makes code for several instruction sets of x86-64; and its attributes for
// inlining.

#pragma once

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define PHASEVAE_VECTORISED
#define PHASEVAE_INLINE inline __attribute__((always_inline))
#define PHASEVAE_LAMBDA __attribute__((always_inline))
#endif
