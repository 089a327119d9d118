"""A hash of the code that a result depends on, found without importing anything.

It is taken over syntax trees without docstrings, and over what can be reached only: from the definitions that a
stage starts with, through the names they use, to the definitions behind those names, in whatever module of phasevae
they stand. So words about the code, and functions that a stage never calls, may change freely, while any change of
what it does changes the hash.

What cannot be followed is taken whole: a module that is used other than by `module.name`, definitions under a decorator
that may register them, and statements that are neither a definition nor an import. Only `importlib` escapes.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import json_sha256
from phasevae.errors import InputError

PACKAGE = Path(__file__).parents[1]
_EVERYTHING = "*"
_PLAIN_DECORATORS = {"cache", "contextmanager", "dataclass", "lru_cache", "no_grad"}
"""They leave no trace elsewhere, so that what they decorate counts only if it is used."""


@dataclass(frozen=True)
class _Module:
    """A source file: its top-level statements, and which of them bind a name."""

    statements: list[ast.stmt] = field(default_factory=list)
    binding: dict[str, list[int]] = field(default_factory=dict)  # name -> numbers of the statements that bind it
    always: list[int] = field(default_factory=list)  # numbers of those that run whatever is used
    names: list[set[str]] = field(default_factory=list)  # of the module that each statement refers to
    package: tuple[str, ...] = ()  # what relative imports are relative to
    sums: dict[int, str] = field(default_factory=dict)  # hashes of the statements that were asked for
    uses: dict[int, list[tuple[str, str]]] = field(default_factory=dict)  # what they use, likewise


@functools.lru_cache
def source_hash(*roots: str, without: tuple[str, ...] = (), package: Path = PACKAGE) -> str:
    """sha256 (hex) of the syntax trees, without docstrings, of all that `roots` reach within phasevae.

    A root is a module such as 'phasevae.measurement.tables', for all of it, or one of its
    definitions, 'phasevae.training.job:run_job'.
    Modules and definitions of `without`, named in the same way, are not entered. Imports inside functions and
    relative ones are followed too; the top-level __init__, which holds the version and lazy names, is not.
    Raises InputError when a root does not exist.
    """
    modules: dict[str, _Module] = {}
    reached: dict[str, set[int]] = {}
    waiting = [_checked_root(root, package) for root in roots]
    done = set()
    while waiting:
        name, definition = target = waiting.pop()
        if target in done or name in without or f"{name}:{definition}" in without:
            continue
        done.add(target)
        if name not in modules:
            file = _file_of(name, package)
            modules[name] = _parsed(file, name) if file else _Module()
            waiting += [*_parents(name), *_imported_with(modules[name], package)]
        module = modules[name]
        for number in _wanted(module, definition):
            if number not in reached.setdefault(name, set()):
                reached[name].add(number)
                if number not in module.uses:
                    module.uses[number] = list(_used(module, number, name, package))
                waiting += module.uses[number]
    return json_sha256({name: _hashes(modules[name], numbers) for name, numbers in reached.items()})


def _hashes(module: _Module, numbers: set[int]) -> list[str]:
    for number in numbers - module.sums.keys():
        module.sums[number] = hashlib.sha256(_dump(module.statements[number]).encode()).hexdigest()
    return [module.sums[number] for number in sorted(numbers)]


def _checked_root(root: str, package: Path) -> tuple[str, str]:
    name, _, definition = root.partition(":")
    file = _file_of(name, package)
    if file is None:
        raise InputError(f"{name}: no such module in {package}")
    if definition and definition not in _parsed(file, name).binding:
        raise InputError(f"{root}: no such definition in {file}")
    return name, definition or _EVERYTHING


def _wanted(module: _Module, definition: str) -> list[int]:
    """Numbers of the statements that a module runs when one of its definitions is used; all for `_EVERYTHING`."""
    if definition == _EVERYTHING:
        return [n for n, statement in enumerate(module.statements) if not _is_import(statement)]
    return module.always + module.binding.get(definition, [])


@functools.lru_cache
def _parsed(file: Path, name: str) -> _Module:
    text = file.read_text(encoding="utf-8")
    scopes = symtable.symtable(text, str(file), "exec").get_children()
    tree = ast.parse(text, filename=str(file))
    statements = [item for item in _without_docstrings(tree).body if not _is_for_checkers(item)]
    parts = tuple(name.split("."))
    module = _Module(statements, package=parts if file.name == "__init__.py" else parts[:-1])
    module.names.extend(_names(statement, scopes) for statement in statements)
    for number, statement in enumerate(statements):
        names = list(_bound(statement))
        for bound in names:
            module.binding.setdefault(bound, []).append(number)
        decorators = {_last_name(node) for node in getattr(statement, "decorator_list", [])}
        if not names or decorators - _PLAIN_DECORATORS:
            module.always.append(number)
    return module


def _last_name(decorator: ast.expr) -> str:
    """`lru_cache` of `@functools.lru_cache(maxsize=2)`."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds and does nothing else with."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node for target in targets for node in getattr(target, "elts", [target])]
        if all(isinstance(node, ast.Name) for node in names):
            yield from (node.id for node in names)


def _used(module: _Module, number: int, name: str, package: Path) -> Iterator[tuple[str, str]]:
    """What a statement uses: definitions of its own module, and those behind its imports."""
    statement = module.statements[number]
    if _is_import(statement):
        return
    nodes = list(ast.walk(statement))
    imports = [item for node in nodes if _is_import(node) for item in _imported(node, module)]
    if number in module.always:  # what `try: import` binds may be used anywhere in the module
        imports = [(bound, dotted, True) for bound, dotted, _ in imports]
    for used in module.names[number]:
        for binder in module.binding.get(used, []):
            if _is_import(module.statements[binder]):
                imports += [item for item in _imported(module.statements[binder], module) if item[0] == used]
            else:
                yield name, used
    for bound, dotted, whole in imports:
        if _file_of(dotted, package) is None:
            yield dotted.rpartition(".")[::2]
        elif whole:
            yield dotted, _EVERYTHING
        else:
            yield from ((dotted, attribute) for attribute in _attributes(nodes, bound))


def _names(statement: ast.stmt, scopes: list[symtable.SymbolTable]) -> set[str]:
    """Names of the module that a statement refers to, those of the builtins included; local variables are not.

    scopes: those of the file that lie at its top.
    """
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        # Beside its body: what is evaluated where it stands.
        outside = [*statement.decorator_list, *getattr(statement, "bases", []), *getattr(statement, "keywords", [])]
        outside += [statement.args, statement.returns] if hasattr(statement, "args") else []
    else:
        outside = [statement]
    nodes = [node for part in outside if part for node in ast.walk(part)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    first = min(node.lineno for node in [statement, *getattr(statement, "decorator_list", [])])
    inside = [table for table in scopes if first <= table.get_lineno() <= statement.end_lineno]
    for table in inside:
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        inside += table.get_children()
    return names


def _attributes(nodes: list[ast.AST], module: str) -> set[str]:
    """Attributes of the module bound to a name that the nodes of a statement use; `_EVERYTHING` if they use the module
    itself."""
    owners = {id(node.value): node.attr for node in nodes if isinstance(node, ast.Attribute)}
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == module]
    return {owners.get(id(node), _EVERYTHING) for node in uses} or {""}


def _imported(node: ast.AST, module: _Module) -> Iterator[tuple[str, str, bool]]:
    """(name it is bound to, dotted name of the module or definition, whether all of it may be used through other names)
    of each name of an import statement."""
    if isinstance(node, ast.Import):
        yield from ((alias.asname or "", alias.name, alias.asname is None) for alias in node.names)
        return
    up = len(module.package) - max(node.level - 1, 0)
    base = ".".join([*(module.package[:up] if node.level else ()), *filter(None, [node.module])])
    for alias in node.names:
        star = alias.name == "*"
        yield ("", base, True) if star else (alias.asname or alias.name, f"{base}.{alias.name}", False)


def _imported_with(module: _Module, package: Path) -> Iterator[tuple[str, str]]:
    """What runs because a module is imported: its imports' own statements, or all of what it takes whole."""
    for statement in filter(_is_import, module.statements):
        for _, dotted, whole in _imported(statement, module):
            origin = dotted if _file_of(dotted, package) else dotted.rpartition(".")[0]
            yield origin, _EVERYTHING if whole else ""


def _parents(name: str) -> Iterator[tuple[str, str]]:
    parts = name.split(".")
    return ((".".join(parts[:depth]), "") for depth in range(1, len(parts)))


@functools.cache
def _file_of(name: str, package: Path) -> Path | None:
    """Source file of the module phasevae.a.b; None when there is none (a function, another package)."""
    head, *rest = name.split(".")
    if head != "phasevae" or not rest:
        return None
    stem = package.joinpath(*rest)
    candidates = (stem.with_name(stem.name + ".py"), stem / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _is_for_checkers(statement: ast.stmt) -> bool:
    """`if TYPE_CHECKING:` without an else, which never runs."""
    is_if = isinstance(statement, ast.If) and not statement.orelse
    return is_if and ast.unparse(statement.test).endswith("TYPE_CHECKING")


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree with every string that stands alone as a statement removed."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                kept = [item for item in value if not _is_bare_string(item)]
                emptied = name == "body" and value and not kept and not isinstance(node, ast.Module)
                setattr(node, name, [ast.Pass()] if emptied else kept)
    return tree


def _is_bare_string(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _dump(node: Any) -> str:
    """Like ast.dump, without empty fields: those differ between Python versions."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={_dump(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    return repr(node)
