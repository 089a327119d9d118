"""A CUDA graph on the CPU: a capture records the operations of torch, a replay does them again on the same tensors.

Whatever Python computed between the operations is frozen in a replay, as in a real graph.
"""

from __future__ import annotations

import contextlib

import torch
from captured import Recorder, tensors_of


class StandIn:
    """Stands in for what phasevae.training.cuda_graph uses of torch.cuda; a subclass has `graph` and `replay`."""

    def __init__(self, monkeypatch):
        self.replays = 0
        for name in ("Stream", "current_stream", "stream", "CUDAGraph", "graph"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def Stream(self, device):  # noqa: N802
        return self

    current_stream = Stream

    def CUDAGraph(self):  # noqa: N802
        return self

    def wait_stream(self, other):
        assert other is self

    def stream(self, chosen):
        return contextlib.nullcontext()


class FakeCuda(StandIn):
    """A capture records, and a replay computes what was recorded."""

    def __init__(self, monkeypatch):
        super().__init__(monkeypatch)
        self._recorder = Recorder()

    @contextlib.contextmanager
    def graph(self, captured, stream):
        """Record. A capture computes nothing, so the tensors that were there before get their numbers back."""
        self._recorder = _Undone()
        with self._recorder:
            yield
        self._recorder.undo()

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        with torch._C._AutoDispatchBelowAutograd():
            for call in self._recorder.calls:
                if not call.is_view:
                    result = call.operation(*call.args, **call.kwargs)
                    if call.made:
                        for kept, new in zip(call.made, tensors_of(result)[-len(call.made) :], strict=True):
                            kept.copy_(new)


class _Undone(Recorder):
    """A Recorder that can give the tensors of its caller back the numbers they had before."""

    def __init__(self):
        super().__init__()
        self._before: dict[int, tuple] = {}
        self._own: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in tensors_of((args, kwargs)):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._own:
                self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self._own.update(t.untyped_storage().data_ptr() for t in self.calls[-1].made)
        return result

    def undo(self) -> None:
        for storage, numbers in self._before.values():
            storage.copy_(numbers)
        self._before.clear()
