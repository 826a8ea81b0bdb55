"""A wrong override: one message that says what to type, exit code 2, nothing heavy loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from querier.cli import main
from querier.commands.compose import compose
from querier.errors import InputError

REJECTED = [
    ("decoder.layerz=2", "no setting `decoder.layerz`; did you mean `decoder.layers`"),
    ("layers=2", "did you mean `decoder.layers`"),
    ("zzz=2", "there are method, seed"),
    ("+foo=2", "no setting `foo`"),
    ("+decoder.foo=2", "no setting `decoder.foo`"),
    ("metod=ft", "did you mean `method`"),
    ("decoder.layers=two", "decoder.layers must be a whole number, got 'two'"),
    ("trainer.precision=foo", "trainer.precision must be 32-true, bf16-mixed, 16-mixed or null, got foo"),
    (
        "trainer.precision=bf16-true",
        "judged in another arithmetic than it was trained in; to save time take bf16-mixed",
    ),
    ("trainer.precision=64", "got 64: a run would be judged in another arithmetic"),
    ("optim.lr=fast", "optim.lr must be a number, got 'fast'"),
    ("data.responders=Paul", "data.responders must be a list, e.g. 'data.responders=[a,b]'"),
    ("loss=2", "a group takes the name of one of its files"),
    ("data.filters=dlp", "did you mean `data.filters=dpl`"),
    ("data.tasks.own.query=x", "no setting `data.tasks.own.query`"),
    ("data.split=tyme", "did you mean `data.split=time`"),
    ("data=sampel", "did you mean `data=sample`"),
    ("method=fft", "it has dep, dpl, few_shot, ft, pplug, qar, qcg"),
    ("loss.temperature=5", "loss.temperature must be in [0.01, 1.0], got 5.0"),
    ("qar.memory=0", "qar.memory must be >= 1"),
    ("qar.weight=-1", "qar.weight must be >= 0"),
    ("evaluation.repetition_penalty=0.5", "evaluation.repetition_penalty must be in [1"),
    ("seed=-1", "seed must be >= 0"),
    ("data.split_seed=-1", "data.split_seed must be >= 0"),
    ("clusters.sample=0", "clusters.sample must be >= 1"),
    ("clusters.seed=-1", "clusters.seed must be >= 0"),
    ("evaluation.limit=0", "evaluation.limit must be >= 1"),
    ("evaluation.seed=-1", "evaluation.seed must be >= 0"),
    ("decoder.layers=0", "decoder.layers must be >= 1"),
    ("decoder.lora_alpha=0", "decoder.lora_alpha must be > 0, got 0; at 0 what is trained has no effect"),
    ("decoder.lora_alpha=-8", "decoder.lora_alpha must be > 0, got -8"),
    ("decoder.base.patience=-1", "decoder.base.patience must be >= 0, got -1"),
    ("loss.swap_margin=-1", "loss.swap_margin must be >= 0"),
    ("contrast.false_negative=3", "contrast.false_negative must be in [0.0, 2.0]"),
    ("stopping.monitor=val/loss", "stopping.monitor must be val/nll_per_byte or val/nll_per_token"),
    ("towers.heads=3", "towers.width must be a multiple of towers.heads"),
    ("decoder=pretrained", "needs decoder.path"),
    ("name=a,b", "add -m"),
    ("name=a,b", """if the comma is part of it, write 'name="a,b"'"""),
    ("data.path=/tmp/a,b.jsonl", """write 'data.path="/tmp/a,b.jsonl"'"""),
    ("method=ft,querier", "to run one job for each, add -m: querier fit method=ft,querier -m"),
    ("method=ft,querier", "for one table of all: querier compare 'methods=[ft,querier]'"),
    ("data=sample,jsonl", "data takes one choice, got sample,jsonl; to run one job for each, add -m"),
    ("seed=0,1", "seed takes one value, got 0,1; to run one job for each, add -m"),
    ("data.responders=Ann,Bob", "write 'data.responders=[Ann,Bob]'"),
    ("data.responders=[O'Neil]", "needs quotes of its own"),
    ("data.responders=[O'Neil]", """the apostrophe ' in O'Neil"""),
    ("data.responders=[O'Neil]", 'write "data.responders=[\\"O\'Neil\\"]"'),
    ("data.responders=[Ann(1),Bob]", """the bracket ( in Ann(1) needs quotes of its own"""),
    ("data.responders=[Ann(1),Bob]", """write 'data.responders=["Ann(1)",Bob]'"""),
    ("data.responders=[Ann,,Bob]", "an item of the list is empty; write 'data.responders=[Ann,Bob]'"),
    ("data.responders=[Ann", "a list ends with ]; write 'data.responders=[Ann]'"),
    ("größe=1", "no setting `größe`"),
    ("name=../x", "name=../x must be a folder inside `output`"),
    ("name=/tmp/x", "name=/tmp/x must be a folder inside `output`"),
]


@pytest.mark.parametrize(("override", "message"), REJECTED)
def test_a_wrong_override_is_refused_with_what_to_do(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("fit", [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("override", "message"), REJECTED)
def test_the_command_line_says_the_same_and_exits_with_two(
    override: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", override]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not list(tmp_path.iterdir())


def test_an_expected_style_needs_a_shift_of_layers_where_there_are_towers() -> None:
    with pytest.raises(InputError, match="which conditioning=prefix does not; use conditioning=residual"):
        compose("fit", ["conditioning=prefix", "conditioning.expectation=true"])
    compose("fit", ["method=ft", "conditioning.expectation=true"])  # of a table's other rows it says nothing


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fitt"]) == 2
    assert "did you mean `querier fit`?" in capsys.readouterr().err


def test_a_sweep_refuses_a_bad_value_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "-m", "loss.temperature=5,6"]) == 2
    assert "loss.temperature must be in" in capsys.readouterr().err


def test_a_sweep_whose_name_leads_elsewhere_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["fit", "name=../../x", "seed=0,1", "-m"]) == 2
    assert "must be a folder inside `output`" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def test_wrong_overrides_are_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys; from querier.cli import main; code = main(['fit', 'decoder.layerz=2']); "
        "sys.exit(code if 'torch' not in sys.modules else 99)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr


def test_help_needs_neither_hydra_nor_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from querier.cli import main; main(['--help']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "querier COMMAND" in done.stdout
