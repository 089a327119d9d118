"""A hash of the code that a result depends on, computed from the sources without importing them.

The hash starts at the functions that a stage runs. It follows the names they use to the definitions behind them, in
every module of phasevae and through re-exports. It covers the syntax trees of these definitions without docstrings.
Comments, docstrings and functions that a stage never calls do not change the hash. Any other change of the code does.

Where a name cannot be followed, the hash covers more: all of a module that is used as a value, definitions whose
decorator may register them, and the statements that run when a module is imported. It does not follow `importlib`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import symtable
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phasevae.artifacts.files import json_sha256
from phasevae.artifacts.remembered_hashes import remembered
from phasevae.errors import InputError

PACKAGE = Path(__file__).parents[1]

Target = tuple[str, str]
"""A module and a dotted name in it: EVERYTHING for the whole module, "" for no more than its import."""

EVERYTHING = "*"

_PLAIN_DECORATORS = {"cache", "contextmanager", "dataclass", "lru_cache", "no_grad"}
"""They register nothing, so what they decorate counts only if it is used."""


@functools.lru_cache
def source_hash(*roots: str, without: tuple[str, ...] = (), package: Path = PACKAGE) -> str:
    """Return the sha256 (hex) of the code of phasevae that `roots` reach.

    Parameters
    ----------
    roots : str
        Whole modules, such as 'phasevae.measurement.tables', or definitions, such as 'phasevae.training.job:run_job'.
    without : tuple of str
        Modules and definitions that are not followed, named in the same way.
    package : Path
        The folder of the sources. Its own __init__, which holds the version and lazy names, is not covered.

    Raises
    ------
    InputError
        If a module or definition of `roots` or `without` does not exist, or if a file that they reach is no Python.
    """
    return remembered(package, [roots, without], lambda: _computed(roots, without, package))


def _computed(roots: tuple[str, ...], without: tuple[str, ...], package: Path) -> str:
    """Compute the hash from the sources."""
    waiting = [_checked(root, package) for root in roots]
    excluded = {_checked(name, package) for name in without}
    done: set[Target] = set()
    reached: dict[str, set[ast.stmt]] = defaultdict(set)
    while waiting:
        name, path = target = waiting.pop()
        is_ours = _head(name) == "phasevae"
        if target in done or not is_ours or not excluded.isdisjoint({(name, EVERYTHING), (name, _head(path))}):
            continue
        done.add(target)
        module = _module(name, package)
        new = _statements(module, path) - reached[name]
        reached[name] |= new
        waiting += [*_leads(module, path), *(target for statement in new for target in _uses(statement, module))]
    return json_sha256({name: _hashes(statements) for name, statements in reached.items() if statements})


def _checked(name: str, package: Path) -> Target:
    """The target that the name of a root means. Raises InputError when it does not exist."""
    module, _, definition = name.partition(":")
    file = _file_of(module, package)
    if file is None:
        raise InputError(f"{module}: no such module in {package}")
    if definition and not {definition} & {*_module(module, package).definitions, *_module(module, package).imports}:
        raise InputError(f"{name}: no such definition in {file}")
    return module, definition or EVERYTHING


# From a target to statements and to further targets


def _statements(module: _Module, path: str) -> set[ast.stmt]:
    """The statements of a module that run when a dotted name of it is used."""
    names = module.definitions if path == EVERYTHING else [_head(path)]
    return {*module.run, *(statement for name in names for statement in module.definitions.get(name, ()))}


def _leads(module: _Module, path: str) -> Iterator[Target]:
    """The targets in other modules that a dotted name of a module leads to."""
    yield module.name.rpartition(".")[0], ""
    yield from module.imports.get("", ())
    head, _, rest = path.partition(".")
    if head not in ("", EVERYTHING):
        yield f"{module.name}.{head}", rest or EVERYTHING  # if it is a submodule
    for name in module.imports if path == EVERYTHING and module.is_package else [head]:
        for origin, original in module.imports.get(name, ()):
            yield origin, _joined(original, rest)
    if head not in module.imports and head not in module.definitions:
        for origin, _ in module.imports.get("*", ()):
            yield origin, path


@functools.cache
def _uses(statement: ast.stmt, module: _Module) -> list[Target]:
    """The targets that a statement uses: names of its own module, and names that it imports itself."""
    imports: dict[str, list[Target]] = defaultdict(list)
    nodes = _nodes(statement)
    for bound, target in _imports(nodes, module):
        imports[bound].append(target)
    global_names = _global_names(statement, module)
    targets, heads = [], set()
    for dotted in _dotted_names(nodes):
        head, _, rest = dotted.partition(".")
        heads.add(head)
        targets += [(module.name, dotted)] if head in global_names else []
        targets += [(origin, _joined(original, rest)) for origin, original in imports.get(head, ())]
    return targets + [target for bound in imports.keys() - heads for target in imports[bound]]


def _global_names(statement: ast.stmt, module: _Module) -> set[str]:
    """Names of the module, or builtins, that a statement refers to; its local variables are not among them."""
    first = min(node.lineno for node in [statement, *getattr(statement, "decorator_list", [])])
    outermost = symtable.symtable("\n".join(module.lines[first - 1 : statement.end_lineno]), module.name, "exec")
    tables, names = [outermost], set()
    for table in tables:
        names |= {symbol.get_name() for symbol in table.get_symbols() if table is outermost or symbol.is_global()}
        tables += table.get_children()
    return names


def _nodes(tree: ast.AST) -> list[ast.AST]:
    """Return all nodes of a tree. `ast.walk` takes twice as long, and this is most of the time of a hash."""
    nodes = [tree]
    for node in nodes:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                nodes.append(value)
            elif isinstance(value, list):
                nodes += [item for item in value if isinstance(item, ast.AST)]
    return nodes


def _dotted_names(nodes: list[ast.AST]) -> set[str]:
    """Each name in a statement with the attributes behind it: `module.function` of `module.function(x).shape`."""
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    return {name for node in nodes if id(node) not in inner and (name := _dotted(node))}


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    owner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return owner and f"{owner}.{node.attr}"


def _head(path: str) -> str:
    return path.partition(".")[0]


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


# From a source file to its statements


@dataclass(frozen=True, eq=False)
class _Module:
    """The statements at the top of a source file, by the names that they bind."""

    name: str
    is_package: bool = False
    lines: list[str] = field(default_factory=list)
    run: list[ast.stmt] = field(default_factory=list)  # those that run at import and do more than bind a name
    definitions: dict[str, list[ast.stmt]] = field(default_factory=lambda: defaultdict(list))
    imports: dict[str, list[Target]] = field(default_factory=lambda: defaultdict(list))


@functools.cache
def _module(name: str, package: Path) -> _Module:
    """The statements of a module; none for phasevae itself and where there is no such file."""
    file = _file_of(name, package)
    if file is None:
        return _Module(name)
    try:
        return _parsed(name, file.name == "__init__.py", file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise InputError(f"{file}: line {error.lineno}: not Python ({error.msg})") from None


@functools.cache
def _parsed(name: str, is_package: bool, text: str) -> _Module:
    """The statements of a text. It is cached by the text, so a copy of the package costs no more than its changes."""
    module = _Module(name, is_package, text.split("\n"))  # as ast counts lines
    for statement in _without_docstrings(ast.parse(text)).body:
        names = list(_bound_names(statement))
        for bound in names:
            module.definitions[bound].append(statement)
        is_import = isinstance(statement, ast.Import | ast.ImportFrom)
        if not is_import and (not names or not _decorators(statement) <= _PLAIN_DECORATORS):
            module.run.append(statement)
        if not names:  # an import, or a block that may hold imports, such as `try`
            for bound, target in _imports(_nodes(statement), module):
                module.imports[bound].append(target)
    return module


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """Names that a definition or a plain assignment binds."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node for target in targets for node in getattr(target, "elts", [target])]
        if all(isinstance(node, ast.Name) for node in names):
            yield from (node.id for node in names)


def _decorators(statement: ast.stmt) -> set[str]:
    """Last names of the decorators: `lru_cache` of `@functools.lru_cache(maxsize=2)`."""
    return {_dotted(getattr(node, "func", node)).split(".")[-1] for node in getattr(statement, "decorator_list", [])}


def _imports(nodes: list[ast.AST], module: _Module) -> Iterator[tuple[str, Target]]:
    """Each name that imports in a statement bind, with its target; the modules that they import have the name ""."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            for alias in node.names:
                yield alias.asname or alias.name, (origin, alias.name)
                yield "", (f"{origin}.{alias.name}", "")  # and `origin`, as the folder that it is in
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                yield (alias.asname, (top, rest)) if alias.asname else (top, (top, ""))
                yield "", (alias.name, "")


def _origin(node: ast.ImportFrom, module: _Module) -> str:
    """The module that `from MODULE import` or `from ..MODULE import` names."""
    parts = module.name.split(".") if node.level else []
    return _joined(*parts[: len(parts) - node.level + module.is_package], node.module)


@functools.cache
def _file_of(name: str, package: Path) -> Path | None:
    """Source file of the module phasevae.a.b; None when there is none (a function, another package)."""
    head, *rest = name.split(".")
    if head != "phasevae" or not rest:
        return None
    stem = package.joinpath(*rest)
    candidates = (stem.with_name(stem.name + ".py"), stem / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


# Statements without words, and their hashes


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without `if TYPE_CHECKING:` and without strings that stand alone as a statement."""
    for node in _nodes(tree):
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                kept = [item for item in value if not _is_bare_string(item) and not _is_for_checkers(item)]
                emptied = name == "body" and value and not kept and not isinstance(node, ast.Module)
                setattr(node, name, [ast.Pass()] if emptied else kept)
    return tree


def _is_bare_string(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_for_checkers(node: Any) -> bool:
    """`if TYPE_CHECKING:` without an else, which never runs."""
    return isinstance(node, ast.If) and not node.orelse and _dotted(node.test).split(".")[-1] == "TYPE_CHECKING"


def _hashes(statements: set[ast.stmt]) -> list[str]:
    """Hashes of statements of one module, in their order in the file."""
    return [_sha256(item) for item in sorted(statements, key=lambda item: (item.lineno, item.col_offset))]


@functools.cache
def _sha256(statement: ast.stmt) -> str:
    return hashlib.sha256(_dump(statement).encode()).hexdigest()


def _dump(node: Any) -> str:
    """Like ast.dump, without empty fields: those differ between Python versions."""
    if isinstance(node, ast.AST):
        fields = [(name, getattr(node, name, None)) for name in node._fields]
        shown = [f"{name}={_dump(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({','.join(shown)})"
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    return repr(node)
