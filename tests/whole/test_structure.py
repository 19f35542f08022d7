"""The architecture: imports point down only, importing has no side effects, one importer of torch.distributed; and the sizes.

Each check of the sizes tells all offenders at once.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "guidance"
# A module may import from its own row and from rows above it.
LAYERS = [
    ["types", "allocator", "distributed", "progress", "importing", "cli"],
    ["regions", "maps", "losses"],
    ["data", "models"],
    ["attribution"],
    ["evaluation", "unannotated"],
    ["objectives"],
    ["runs"],
    ["pictures", "training"],
    ["results", "benchmarks"],
    ["config"],
    ["assembly"],
    ["inference"],
    ["api"],
    ["annotating", "experiments", "export"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
SOURCES = sorted(p for name in ("guidance", "launch", "tools", "tests") for p in (ROOT / name).rglob("*.py"))
FOLDERS = sorted({p.parent for p in SOURCES} - {PACKAGE})
NO_ENTRIES = ("__init__.py", "__pycache__", "py.typed")
ENTRIES, LINES, FUNCTION, PARAMETERS = 12, 250, 50, 8  # at most: in a folder, a file, a function, a signature
# "folder/file.py:Class.name" -> why its signature is longer; records have as many fields as what they record.
LONG_SIGNATURES = {
    "guidance/models/bcos/modules.py:BcosConv2d.__init__": "the arguments of nn.Conv2d, under their names, and two of its own",
    "guidance/data/sets/demo.py:load_demo": "where and which split, and one keyword for each of the set's settings",
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def top(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> set[str]:
    """Names of the modules that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def test_imports_point_down() -> None:
    offenders = [f"{place(path)} has no place in the layers" for path in MODULES if top(path) not in LEVEL]
    for path in (path for path in MODULES if top(path) in LEVEL):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] in ("launch", "tools", "tests"):
                offenders.append(f"{place(path)} imports {name}")
            if parts[0] == "guidance" and len(parts) > 1 and LEVEL.get(parts[1], 0) > LEVEL[top(path)]:
                offenders.append(f"{place(path)} imports {name} from a higher layer")
    assert not offenders, tell(offenders)


def test_only_entry_points_see_the_config() -> None:
    readers = {top(path) for path in MODULES if any(n.startswith("guidance.config") for n in imports(path))}
    assert readers <= {"assembly", "inference", "config", "experiments"}


def test_one_importer_of_torch_distributed() -> None:
    allowed = PACKAGE / "distributed.py"
    users = [p for p in MODULES if any(n.startswith(("torch.distributed", "torch.nn.parallel")) for n in imports(p))]
    assert users == [allowed]


def test_weights_only_and_no_leftovers() -> None:
    for path in [path for path in SOURCES if ROOT / "tests" not in path.parents]:
        text = path.read_text()
        assert "weights_only=False" not in text, path
        assert path.name != "utils.py"
        assert "backward(create_graph" not in text, path


# --- sizes and names --------------------------------------------------------------------------------------------------


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def entries(folder: Path) -> list[str]:
    """What a folder holds: not what Python leaves there, and not what makes it a package."""
    names = (path.name for path in folder.iterdir())
    return sorted(name for name in names if not name.startswith(".") and name not in NO_ENTRIES)


@cache
def functions() -> list[tuple[str, Function]]:
    """Every function and method, also inside others, by its place."""
    return [found for path in SOURCES for found in _inside(f"{place(path)}:", tree(path))]


def _inside(where: str, node: ast.AST) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, Function | ast.ClassDef)
        if isinstance(child, Function):
            yield f"{where}{child.name}", child
        yield from _inside(f"{where}{child.name}." if named else where, child)


def parameters(function: Function) -> int:
    """How many it has, without those that Python fills in."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def tell(offenders: list[str]) -> str:
    return "\n".join(["", *offenders])


def test_the_root_is_the_list_of_layers() -> None:
    assert {name.removesuffix(".py") for name in entries(PACKAGE)} == set(LEVEL)


def test_folders_are_small() -> None:
    found = {place(folder): len(entries(folder)) for folder in FOLDERS}
    offenders = [f"{name} has {count} entries" for name, count in found.items() if count > ENTRIES]
    assert not offenders, tell(offenders)


def test_files_are_short() -> None:
    found = {place(path): len(path.read_text().splitlines()) for path in SOURCES}
    offenders = [f"{name} has {count} lines" for name, count in found.items() if count > LINES]
    assert not offenders, tell(offenders)


def test_functions_are_short() -> None:
    found = [(name, (node.end_lineno or 0) - node.lineno + 1) for name, node in functions()]
    offenders = [f"{name} has {count} lines" for name, count in found if count > FUNCTION]
    assert not offenders, tell(offenders)


def test_signatures_are_short() -> None:
    found = {name: parameters(node) for name, node in functions() if parameters(node) > PARAMETERS}
    offenders = [f"{name} has {count} parameters" for name, count in found.items() if name not in LONG_SIGNATURES]
    offenders += [f"{name} is an exception that is not needed" for name in LONG_SIGNATURES if name not in found]
    assert not offenders, tell(offenders)


def test_public_classes_have_names_of_their_own() -> None:
    found = [
        (node.name, place(path))
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    counts = Counter(name for name, _ in found)
    offenders = [f"{name} in {where}" for name, where in sorted(found) if counts[name] > 1]
    assert not offenders, tell(offenders)


def test_no_folder_has_the_name_of_generated_output() -> None:
    offenders = [place(folder) for folder in FOLDERS if {"build", "dist"} & {*folder.relative_to(ROOT).parts}]
    assert not offenders, tell(offenders)


def test_nothing_beside_a_script_hides_a_module_of_python() -> None:
    """The folder of a script is searched first: its `profile.py` is what torch finds where it wants Python's."""
    scripts = {path.parent for path in SOURCES if '__name__ == "__main__"' in path.read_text()}
    offenders = [place(path) for path in SOURCES if path.parent in scripts and path.stem in sys.stdlib_module_names]
    assert not offenders, tell(offenders)
