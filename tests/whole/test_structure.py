"""The architecture: imports point down only, importing has no side effects, one importer of torch.distributed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "guidance"
# A module may import from its own row and from rows above it.
LAYERS = [
    ["types", "distributed", "progress"],
    ["regions", "maps", "losses"],
    ["data", "models"],
    ["attribution"],
    ["evaluation"],
    ["objectives"],
    ["runs"],
    ["pictures", "training"],
    ["results"],
    ["config"],
    ["assembly"],
    ["inference"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def top(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Names of the modules that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert top(path) in LEVEL, f"{path.name} has no place in the layers"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] in ("launch", "tools", "tests"):
            pytest.fail(f"{path} imports {name}")
        if parts[0] == "guidance" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[top(path)], f"{path.name} imports {name} from a higher layer"


def test_only_entry_points_see_the_config() -> None:
    readers = {top(path) for path in MODULES if any(n.startswith("guidance.config") for n in imports(path))}
    assert readers <= {"assembly", "inference", "config"}


def test_one_importer_of_torch_distributed() -> None:
    allowed = PACKAGE / "distributed.py"
    users = [p for p in MODULES if any(n.startswith(("torch.distributed", "torch.nn.parallel")) for n in imports(p))]
    assert users == [allowed]


def test_importing_has_no_side_effects_and_needs_nothing_optional() -> None:
    code = (
        "import sys, guidance; assert 'torch' not in sys.modules\n"
        "import guidance.inference\n"
        "bad = [m for m in ('pycocotools', 'captum', 'tensorboard', 'matplotlib.pyplot') if m in sys.modules]\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_weights_only_and_no_leftovers() -> None:
    for path in [*MODULES, *(ROOT / "tools").glob("*.py"), *(ROOT / "launch").glob("*.py")]:
        text = path.read_text()
        assert "weights_only=False" not in text, path
        assert path.name != "utils.py"
        assert "backward(create_graph" not in text, path
