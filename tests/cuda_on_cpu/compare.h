// The comparisons of emulated CUDA kernels with those of the CPU; they count failures and checks of buffers.h.

#pragma once

// The networks' passes, on shapes that leave tiles incomplete.
void compare_networks(int rounds);

// The Rao-Blackwellised targets, and what is elementwise in a training step.
void compare_steps(int rounds);
