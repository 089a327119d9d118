"""The device and the threads that a training computes with."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from phasevae.errors import InputError
from phasevae.kernels.dispatch import backend
from phasevae.kernels.mlp import uses_tf32


def choose_device(name: str) -> torch.device:
    """Return the device of a name: auto (CUDA if there is a GPU), cpu, cuda or cuda:N.

    Raises InputError if the name is none of these or there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError(f"phasevae does not train on {device.type}")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device: {name!r} cannot be used ({reason}); must be auto, cpu, cuda or cuda:N") from None
    return device


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Copy to a device in the order of its work, without waiting for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def use_threads(threads: int | None) -> None:
    """Compute with this many CPU threads.

    None means as many as OMP_NUM_THREADS says; without it, all cores that the process may use.
    """
    if threads is None and "OMP_NUM_THREADS" in os.environ:
        return  # torch has read it
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or available)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return {torch, cuda, backend, tf32, device, threads}, the provenance of a computation.

    `cuda` is torch's version, `tf32` whether products of matrices are computed in TF32.
    """
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "backend": backend(device.type),
        "tf32": uses_tf32(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }
