"""What a function uses beyond the text that defines it: values, and marks of objects that no text describes."""

from __future__ import annotations

import sys
import sysconfig
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_SITES = {"site-packages", "dist-packages"}
_MARKS: dict[int, tuple[Callable[[], Any], str]] = {}


def mark_of(thing: Any) -> str:
    """A mark of an object, the same as long as the process has the object, and of no other object."""
    known, mark = _MARKS.get(id(thing), (lambda: None, ""))
    if known() is thing and mark:
        return mark
    try:
        known = weakref.ref(thing)  # the id of an object that is gone is used again
    except TypeError:
        known = lambda: thing  # noqa: E731
    _MARKS[id(thing)] = known, uuid.uuid4().hex
    return _MARKS[id(thing)][1]


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, None, or a tuple, list or dict of them: its repr says all about it."""
    if type(value) is dict:
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    return all(map(is_plain, value)) if type(value) in (tuple, list) else type(value) in _PLAIN


class FunctionUses:
    """What a function uses beyond its text.

    Attributes
    ----------
    values : dict
        The repr of plain constants, by place and name.
    marks : dict
        Marks of this process, of everything else.
    """

    def __init__(self, function: Callable[..., Any], in_file: bool):
        """`in_file`: whether the text is the whole file that defines the function, or the function alone."""
        self.values: dict[str, str] = {}
        self.marks: dict[str, str] = {}
        self._seen = {id(function)}
        if isinstance(function, MethodType):
            self.marks = {"__self__": mark_of(function.__self__), "__func__": mark_of(function.__func__)}
        elif not isinstance(function, FunctionType):
            self.marks = {"build": mark_of(function)}
        else:
            self._globals, self._in_file = function.__globals__, in_file
            self._file = function.__code__.co_filename
            if self._globals.get(function.__name__) is not function:
                self.marks["build"] = mark_of(function)
            self._add_function(function)

    def _add_function(self, function: FunctionType) -> None:
        place = function.__qualname__
        for number, value in enumerate(function.__defaults__ or ()):
            self._add(f"{place}.{number}", value)
        for name, value in (function.__kwdefaults__ or {}).items():
            self._add(f"{place}.{name}", value)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":  # that of super()
                self.marks[place] = mark_of(function)
                self._add_cell(f"{place}.{name}", cell)
        for name in sorted(set(_names(function.__code__))):
            if name in self._globals:
                self._add(name, self._globals[name], name)

    def _add_cell(self, place: str, cell: Any) -> None:
        try:
            self._add(place, cell.cell_contents)
        except ValueError:  # empty
            return

    def _add_class(self, kind: type) -> None:
        for base in kind.__bases__:
            self._add(base.__name__, base, base.__name__)
        for name, value in vars(kind).items():
            inner = getattr(value, "__func__", value) if isinstance(value, staticmethod | classmethod) else value
            if isinstance(value, property):
                for part in (value.fget, value.fset):
                    self._add(f"{kind.__qualname__}.{name}", part, getattr(part, "__name__", None))
            elif isinstance(inner, FunctionType) or not name.startswith("__"):
                self._add(f"{kind.__qualname__}.{name}", inner, name)

    def _add(self, place: str, value: Any, name: str | None = None) -> None:
        """Add what is used under a name; `name` is None where the text cannot define a function or class of it."""
        if is_plain(value):
            self.values[place] = repr(value)
        elif id(value) not in self._seen and not _is_installed(value):
            if not self._is_in_text(value, name):
                self.marks[place] = mark_of(value)
                return
            self._seen.add(id(value))
            (self._add_class if isinstance(value, type) else self._add_function)(value)

    def _is_in_text(self, value: Any, name: str | None) -> bool:
        if not self._in_file or getattr(value, "__name__", "") != name:
            return False
        if isinstance(value, FunctionType):
            return value.__globals__ is self._globals and value.__code__.co_filename == self._file
        return isinstance(value, type) and value.__module__ == self._globals.get("__name__")


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_installed(value: Any) -> bool:
    """Whether a value is a module of an installed package or of the standard library, or a class or function of one."""
    if isinstance(value, ModuleType):
        file = getattr(value, "__file__", None)
        if file is None:
            return value.__name__ in sys.builtin_module_names
        path = Path(file)
        return not _SITES.isdisjoint(path.parts) or path.is_relative_to(sysconfig.get_path("stdlib"))
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        is_made = getattr(value, "__closure__", None) or not isinstance(
            getattr(value, "__self__", None), ModuleType | None
        )
        module = sys.modules.get(value.__module__ or "")
        return not is_made and module is not None and _is_installed(module)
    return False
