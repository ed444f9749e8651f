"""The rules of the house, as functions from a checkout to the places that break them.

`test_architecture.py` holds the package to them. Each offence is a line "file:line: rule: what is wrong"; there is no
list of exceptions. Only the standard library is used, and nothing of the checkout is imported.
"""

import ast
import functools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Lowest first; rooms between bars do not import each other.
LAYERS = (
    "backend | base_samples errors | designs | networks | critics priors | targets objectives | simulators | "
    "ode eig variational acquisition | reference | policies plots | callbacks | model | search problems | lab | cli | "
    "__init__"
)
RANKS = {room: rank for rank, layer in enumerate(LAYERS.split(" | ")) for room in layer.split()}
BACKENDS = ("jax", "tensorflow", "torch")
MOST_ENTRIES = 26  # of the package's folder
MOST_ARROWS = 104  # distinct (room, room): 90, and those of the rooms of policies, of equations and of the laboratory


@dataclass(frozen=True)
class Module:
    """A file of the package: its dotted name, path and syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        """The entry of the package's folder that it belongs to."""
        return ([*self.name.split("."), "__init__"])[1]

    @functools.cached_property
    def nodes(self) -> list[tuple[ast.AST, bool]]:
        """All nodes of the tree, and whether each lies in a function; looked up by many rules."""
        found = [(self.tree, False)]
        for node, inside in found:  # which grows
            inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            found += [(child, inside) for child in ast.iter_child_nodes(node)]
        return found

    @functools.cached_property
    def import_nodes(self) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
        return [(node, inside) for node, inside in self.nodes if isinstance(node, ast.Import | ast.ImportFrom)]


@dataclass(frozen=True)
class Import:
    """One name that a module imports of the package."""

    module: Module
    target: str
    name: str
    line: int
    in_function: bool

    @property
    def room(self) -> str:
        return ([*self.target.split("."), "__init__"])[1]


def modules(root: Path) -> dict[str, Module]:
    """Dotted name -> module, for all files of the package in a checkout."""
    found = {}
    for path in sorted((root / "kerasbed").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path.relative_to(root), ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports(house: dict[str, Module]) -> list[Import]:
    """What the modules import of each other."""
    return [found for module in house.values() for found in _imports(module, house)]


def _imports(module, house) -> Iterator[Import]:
    for node, inside in module.import_nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kerasbed":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield Import(module, full if full in house else node.module, alias.name, node.lineno, inside)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "kerasbed":
                    yield Import(module, alias.name, alias.name, node.lineno, inside)


def arrows(house: dict[str, Module]) -> set[tuple[str, str]]:
    """Distinct (room, room) of importing and imported modules."""
    return {(i.module.room, i.room) for i in imports(house) if i.module.room != i.room}


def offences(root: Path) -> list[str]:
    """Every place of a checkout that breaks a rule."""
    house = modules(root)
    found = [
        *_wrong_way(house),
        *_circles(house),
        *_in_functions(house),
        *_private_names(house),
        *_backends(house),
        *_missing_names(house),
        *_shadows(house),
        *_untyped(house),
        *_undocumented(house),
        *_prints(house),
    ]
    entries = [p for p in (root / "kerasbed").iterdir() if not p.name.startswith("__pycache__")]
    if len(entries) > MOST_ENTRIES:
        found.append(f"kerasbed:0: entries: {len(entries)} entries, but at most {MOST_ENTRIES} were expected")
    return sorted(found)


def _at(module: Module, line: int, rule: str, what: str) -> str:
    return f"{module.path}:{line}: {rule}: {what}"


def _wrong_way(house):
    for found in imports(house):
        here, there = found.module.room, found.room
        if unknown := {here, there} - set(RANKS):
            yield _at(found.module, found.line, "layers", f"{sorted(unknown)} has no layer")
        elif here != there and RANKS[there] >= RANKS[here]:
            yield _at(found.module, found.line, "layers", f"{here} imports {there}, which is not below it")


def _circles(house):
    """Modules of a package that import each other, directly or by way of others."""
    leads_to = defaultdict(set)
    for found in imports(house):
        if found.target != found.module.name:
            leads_to[found.module.name].add(found.target)
    for name, module in house.items():
        seen, waiting = set(), list(leads_to[name])
        while waiting:
            other = waiting.pop()
            if other == name:
                yield _at(module, 1, "circle", f"{name} imports itself by way of other modules")
                break
            if other not in seen:
                seen.add(other)
                waiting.extend(leads_to[other])


def _in_functions(house):
    for found in imports(house):
        if found.in_function:
            yield _at(found.module, found.line, "import in a function", found.target)


def _private_names(house):
    """Names with a leading underscore of another room, imported or as attributes of a module."""
    for module in house.values():
        aliases = {}
        for node, _ in module.import_nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kerasbed"):
                for alias in node.names:
                    target = f"{node.module}.{alias.name}"
                    room = ([*node.module.split("."), alias.name])[1]
                    if alias.name.startswith("_") and room != module.room:
                        yield _at(module, node.lineno, "private name", target)
                    if target in house and room != module.room:
                        aliases[alias.asname or alias.name] = target
        for node, _ in module.nodes:
            of_module = (
                isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
            )
            if of_module and node.attr.startswith("_") and not node.attr.startswith("__"):
                yield _at(module, node.lineno, "private name", f"{aliases[node.value.id]}.{node.attr}")


def _backends(house):
    for module in house.values():
        if module.room == "backend":
            continue
        for node, _ in module.import_nodes:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                if name.split(".")[0] in BACKENDS:
                    yield _at(module, node.lineno, "backend", f"{name} outside kerasbed/backend")


def _missing_names(house):
    """Names of `__all__` that the module does not have, and modules of the package's that lie elsewhere."""
    for module in house.values():
        listed = _listed(module)
        bound = set(_bound(module.tree))
        for name in listed:
            if name not in bound and f"{module.name}.{name}" not in house:
                yield _at(module, 1, "__all__", f"{name} is listed but not there")
        if module.name == "kerasbed":
            for found in imports({module.name: module}):
                if found.name in listed and found.target != "kerasbed" and found.target not in house:
                    yield _at(module, found.line, "__all__", f"{found.target} is no module")


def _listed(module: Module) -> list[str]:
    found = []
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            found += ast.literal_eval(node.value)
    return found


def _bound(tree) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _shadows(house):
    for module in house.values():
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == module.name.rpartition(".")[2]:
                yield _at(module, node.lineno, "shadow", f"{node.name} bears the name of its module")


def _public_functions(tree, prefix="", in_class=False) -> Iterator[tuple[str, ast.FunctionDef, bool]]:
    """Name, definition and whether its first argument is the object or the class."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public_functions(node, f"{prefix}{node.name}.", True)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
            if not node.name.startswith("_") or node.name == "__init__":
                yield prefix + node.name, node, in_class and not static


def _untyped(house):
    for module in house.values():
        for name, node, bound in _public_functions(module.tree):
            given = node.args.posonlyargs + node.args.args
            given = given[1:] if bound else given
            given = [*given, *node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]
            if bare := [argument.arg for argument in given if argument.annotation is None]:
                yield _at(module, node.lineno, "types", f"{name} has arguments without a type: {', '.join(bare)}")


def _undocumented(house):
    """Modules without a docstring, and what packages list as public without a docstring or an example in it."""
    for module in house.values():
        if ast.get_docstring(module.tree) is None:
            yield _at(module, 1, "docstring", f"{module.name} has none")
        for source, found in _definitions_listed(module, house):
            if (words := ast.get_docstring(found)) is None:
                yield _at(source, found.lineno, "docstring", f"{found.name} is public and has none")
            elif ">>> " not in words:
                yield _at(source, found.lineno, "example", f"{found.name} is public and has none")


def _definitions_listed(module, house) -> Iterator[tuple[Module, ast.FunctionDef | ast.ClassDef]]:
    """Functions and classes of the package that a module defines or takes from others, and lists as public."""
    listed = _listed(module)
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in listed:
            yield module, node
    for node, _ in module.import_nodes:
        source = house.get(node.module or "") if isinstance(node, ast.ImportFrom) else None
        names = {alias.name for alias in node.names} & set(listed) if source else ()
        for found in source.tree.body if names else ():
            if isinstance(found, ast.FunctionDef | ast.ClassDef) and found.name in names:
                yield source, found


def _prints(house):
    for module in house.values():
        if module.room == "cli":
            continue
        for node, _ in module.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield _at(module, node.lineno, "print", "say it through kerasbed.backend.reporting.LOGGER")
