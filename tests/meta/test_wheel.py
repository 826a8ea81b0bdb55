"""A wheel works from any directory: command, configuration and bundled corpus included."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IGNORED = (".git", ".venv", "outputs", "multirun", "build")


def call(*words: str, cwd: Path, **more: str) -> str:
    environment = {**os.environ, **more}
    environment.pop("PYTHONPATH", None) if "PYTHONPATH" not in more else None
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    # From a copy, so that building leaves nothing in the checkout and finds nothing of an earlier build.
    for entry in ROOT.iterdir():
        if entry.name not in IGNORED and not entry.name.endswith(".egg-info"):
            call("cp", "-r", str(entry), str(source), cwd=folder)
    words = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source))
    call(sys.executable, *words, cwd=folder)
    return next(folder.glob("querier-*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_configuration_and_corpus_and_no_test(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        if "local" not in path.parts:
            assert f"querier/conf/{path.relative_to(ROOT / 'conf').as_posix()}" in names
    assert {"querier/sample_data/dialogues.jsonl", "querier/sample_data/traits.jsonl"} <= names
    beside = [path for path in (ROOT / "querier").rglob("*") if path.suffix in {".j2", ".css", ".js", ".typed"}]
    assert {path.relative_to(ROOT).as_posix() for path in beside} <= names
    assert len(beside) > 4
    assert not [name for name in names if name.startswith(("tests/", "conf/", "data/"))]


@pytest.mark.slow
def test_the_installed_command_works_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    call(sys.executable, "-m", "venv", "--without-pip", str(home), cwd=tmp_path)
    # The heavy dependencies are those of the environment that runs the tests; the package itself is not.
    python = home / "bin" / "python"
    target = Path(call(str(python), "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).strip())
    call(sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(wheel), cwd=tmp_path)
    dependencies = [path for path in site.getsitepackages() if Path(path).is_dir()]
    (target / "dependencies.pth").write_text("".join(f"{path}\n" for path in dependencies))
    work = tmp_path / "elsewhere"
    work.mkdir()
    where = call(str(python), "-c", "import querier; print(querier.__file__)", cwd=work)
    assert str(home) in where
    assert "querier COMMAND" in call(str(python), "-m", "querier.cli", "--help", cwd=work)
    shown = call(str(python), "-m", "querier.cli", "fit", "--cfg", "job", cwd=work)
    assert "virtual_tokens" in shown
    found = call(str(python), "-m", "querier.cli", "prepare", "data=sample", "check_only=true", cwd=work)
    assert "300 queriers" in found
    assert str(ROOT) not in found
    assert not list(work.iterdir())
