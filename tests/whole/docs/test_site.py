"""The site: built without a warning and without network, with a place for every public name; links that lead somewhere."""

from __future__ import annotations

import ast
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.whole.docs.pages import ROOT, pages

LINKS = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strict, so that a warning, such as that of a link or an anchor that leads nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")

    def refused(*_: object) -> None:
        raise OSError("the docs are built without network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refused)
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def public() -> dict[str, list[str]]:
    """Module -> its `__all__`, of every module that has one."""
    found = {}
    for path in sorted((ROOT / "guidance").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
                found[module] = ast.literal_eval(node.value)
    return found


def test_every_public_name_has_a_place(site: Path) -> None:
    text = "".join(path.read_text() for path in (site / "api").glob("*.html"))
    found = set(re.findall(r'id="(guidance[\w.]*)"', text))
    names = [f"{module}.{name}" for module, names in public().items() for name in names]
    assert len(names) > 100
    assert [name for name in names if name not in found] == []
    assert {"guidance.inference.Run.explain", "guidance.losses.energy"} <= found


def test_what_is_made_while_building_is_there(site: Path) -> None:
    assert 'id="trainerearly_stop"' in (site / "reference/config.html").read_text()
    assert 'id="add-your-own"' in (site / "contributing.html").read_text()
    assert "not released yet" in (site / "changes.html").read_text()
    assert not list(site.rglob("*.py"))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)"'
    for page in site.rglob("*.html"):
        assert re.findall(loaded, page.read_text()) == [], page


@pytest.mark.parametrize("place", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_root_lead_to_files(place: str) -> None:
    links = [link for link in LINKS.findall((ROOT / place).read_text()) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / link.partition("#")[0]).is_file()] == []


def test_links_to_elsewhere_are_addresses() -> None:
    links = [link for text in pages().values() for link in LINKS.findall(text) if "://" in link]
    assert links
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), link


def test_the_readme_is_short_and_folders_of_the_docs_are_small() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
    folders = [ROOT / "docs", *filter(Path.is_dir, (ROOT / "docs").iterdir())]
    assert [folder for folder in folders if len([p for p in folder.iterdir() if p.name != "__pycache__"]) > 12] == []
