"""The implementation of the kernels for a device: the native extension where it can be used, PyTorch elsewhere.

`phasevae.kernels.backends` decides without loading torch; this module loads what it decided for.
"""

from __future__ import annotations

import warnings
from types import ModuleType

from phasevae.errors import InputError
from phasevae.kernels import backends, reference

_chosen: dict[str, str] = {}
_modules: dict[str, ModuleType] = {"torch": reference}


def implementation(device_type: str) -> ModuleType:
    """Return the module that computes on 'cpu' or 'cuda': `kernels.native`, or its PyTorch twin `kernels.reference`.

    A native extension that was built but cannot be used gives one warning, and PyTorch computes. Raises as `backend`.
    """
    return _modules[backend(device_type)]


def backend(device_type: str) -> str:
    """Return the name, one of `backends.BACKENDS`, of the implementation that computes on 'cpu' or 'cuda'.

    Raises InputError when PHASEVAE_BACKEND names a backend that does not exist or cannot be used there.
    """
    if device_type not in _chosen:
        _chosen[device_type] = _choose(device_type)
    return _chosen[device_type]


# torch.compile cannot trace code that reads files, and need not: the choice is made once in a process. The decorator
# torch.compiler.assume_constant_result does the same, but imports the compiler, which takes seconds at every start.
backend._dynamo_marked_constant = True


def _choose(device_type: str) -> str:
    """Choose a backend, and import the extension if the backend is native."""
    name = backends.choose(device_type)
    if name == "torch":
        state = backends.states()["native_cpu"]
        if state.broken and backends.forced() is None:
            _warn(state.reason)
        return name
    try:
        from phasevae.kernels import native
    except (ImportError, OSError) as error:
        first_line = str(error).partition("\n")[0]
        reason = f"the extension cannot be loaded ({first_line}); `make build` renews it"
        if backends.forced() is not None:
            raise InputError(f"PHASEVAE_BACKEND: {name} is not available: {reason}") from None
        _warn(reason)
        return "torch"
    _modules[name] = native
    return name


def _warn(reason: str) -> None:
    warnings.warn(f"native kernels are not used, PyTorch computes: {reason}", stacklevel=4)
