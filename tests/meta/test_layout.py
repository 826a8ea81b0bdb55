"""The rooms of the house: sizes, names, who may import whom, where each heavy library lives."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "querier"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 60
FORBIDDEN_NAMES = {"utils", "common", "helpers", "misc"}

LEVELS = {
    "types": 0,
    "config": 0,
    "combinations": 0,
    "data_config": 0,
    "decoder_config": 0,
    "trainer_config": 0,
    "llm_config": 0,
    "qar_config": 0,
    "choices": 0,
    "errors": 0,
    "extra": 0,
    "files": 0,
    "distributed": 0,
    "run": 0,
    "losses": 0,  # pure functions of tensors, which the models call
    "neighbours": 1,
    "models": 1,
    "data": 2,
    "llm": 2,
    "methods": 3,
    "module": 4,
    "responder": 5,
    "evaluation": 6,
    "analysis": 6,
    "serving": 6,
    "bench": 6,
    "commands": 7,
    "cli": 8,
    "lightning_cli": 8,
    "__main__": 9,
}
PREPARATION = {"data/preparation.py", "data/embeddings.py"}  # the rooms of data/ that reach neighbours/
HOMES = {
    "transformers": ("models/",),
    "peft": ("models/",),
    "tokenizers": ("models/",),
    "faiss": ("neighbours/",),
    "bm25s": ("methods/retrieval.py",),
    "hydra": ("commands/",),
    "omegaconf": ("commands/",),
    "lightning": ("module.py", "data/datamodule.py", "commands/", "lightning_cli.py"),
}


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of all imports, those inside functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{inside(path)}:{node.lineno}: relative import"
            yield node.module or "", node.lineno


def room(name: str) -> str:
    """The part of the package that a dotted name belongs to; empty for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def own_room(path: Path) -> str:
    parts = inside(path).split("/")
    return parts[0].removesuffix(".py") if parts[0] != "__init__.py" else ""


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_a_module_fits_on_its_page(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_MODULE


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LINES_OF_A_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_imports_go_down_or_stay_in_the_room(path: Path) -> None:
    here = own_room(path)
    if not here:
        return
    for name, line in imported(path):
        if name.split(".")[0] != "querier" or not (there := room(name)) or there == here:
            continue
        allowed = LEVELS[there] < LEVELS[here] or LEVELS[there] == 0  # level 0 is one room
        if (here, there) == ("models", "losses"):
            allowed = True  # pure functions of tensors
        if (here, there) == ("data", "neighbours"):
            allowed = inside(path) in PREPARATION
        assert allowed, f"line {line}: {here} (level {LEVELS[here]}) imports {name} (level {LEVELS[there]})"


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_heavy_libraries_stay_at_home(path: Path) -> None:
    for name, line in imported(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or inside(path).startswith(homes), f"line {line}: {name} lives in {homes}"


def test_every_room_has_a_level_and_a_clear_name() -> None:
    rooms = {own_room(path) for path in MODULES} - {""}
    assert rooms <= set(LEVELS)
    assert not {path.stem for path in MODULES} & FORBIDDEN_NAMES


def test_the_list_of_packages_is_the_folders() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in PACKAGE.rglob("__init__.py")}
    assert listed == folders | {"querier.conf", "querier.sample_data"}
    with_code = {path.parent for path in MODULES}
    assert all((folder / "__init__.py").is_file() for folder in with_code)


def test_every_package_that_is_installed_is_used() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    required = {re.split(r"[<>=\\[]", line)[0].lower() for line in settings["options"]["install_requires"].split()}
    modules: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            modules.setdefault(name.lower().replace("_", "-"), set()).add(module)
    used = {name.split(".")[0] for path in MODULES for name, _ in imported(path)}
    texts = {node.value for path in MODULES for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
    assert not {name for name in required if not modules[name] & (used | texts)}  # a text: `find_spec("module")`


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", MODULES, ids=inside)
def test_no_print_and_no_assert_in_the_library(path: Path) -> None:
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}: assert"
        is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not is_print, f"line {getattr(node, 'lineno', 0)}: print"
