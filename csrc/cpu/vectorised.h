// PHASEVAE_VECTORISED: this compiler makes code for several instruction sets of x86-64. PHASEVAE_CLONES: compiles a
// function for each of them; the processor decides at the first call. And the attributes for inlining.

#pragma once

#define PHASEVAE_INLINE inline __attribute__((always_inline))
#define PHASEVAE_LAMBDA __attribute__((always_inline))

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define PHASEVAE_VECTORISED
#define PHASEVAE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define PHASEVAE_CLONES
#endif
