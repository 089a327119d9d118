// The update by Adam of a parameter and its moments: numbers, or vectors of them.
//
// Included inside a namespace that has `root` and `cut_off` for them: zero instead of a moment whose absolute value is
// below the least one, NaN stays NaN. It is included once for each instruction set, because a template that was written
// outside of its pragmas would be compiled for another one.

// Moments are cut off that are so small that no parameter shows it: the first would change a parameter by less than
// 1e-20 of the rate, also where steady gradients keep it below the least one, the second the denominator by less than
// 1e-8 of epsilon. Without a gradient, as behind a dead unit, moments shrink to denormal numbers, with which a
// processor's arithmetic takes many times as long.
template <class T, class V>
PHASEVAE_INLINE void adam(const AdamFactors<T>& f, V gradient, V& parameter, V& first, V& second) {
  first = cut_off(first + (gradient - first) * f.gain1, T(1e-30));
  second = cut_off(second * f.beta2 + f.gain2 * gradient * gradient, T(1e-36));
  parameter -= f.step_size * first / (root(second) + f.epsilon);
}
