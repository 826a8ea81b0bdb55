"""What a training run is warned of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted import WordEncoder, dialogues, small_config, write_jsonl
from safetensors.torch import load_file

from querier.choices import Train
from querier.cli import main
from querier.commands import fit
from querier.commands.compose import compose
from querier.commands.doubts import say_doubts, say_idle
from querier.config import Config
from querier.decoder_config import DecoderConfig


def test_a_decoder_whose_steps_are_rounded_away_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fit, "encoder", lambda config: WordEncoder())
    log = write_jsonl(tmp_path / "log.jsonl", dialogues(4, 12))
    words = {"data": {"path": str(log)}, "trainer": {"max_epochs": 1}, "conditioning": {"kind": "none"}}
    config = small_config(tmp_path, **words, decoder={"dtype": "bfloat16"}, optim={"decoder_lr": 2e-5})
    weights = {}
    for name, each in (("start", replace(config, optim=replace(config.optim, decoder_lr=0.0))), ("end", config)):
        caplog.clear()
        run = fit.run_fit(replace(each, name=name)).run
        assert "decoder.dtype=float32 trainer.precision=bf16-mixed, or decoder.train=lora" in caplog.text
        weights[name] = model_of(run.model)
    moved = [(one != other).float().mean() for one, other in zip(*weights.values(), strict=True)]
    assert torch.stack(moved).mean() < 0.5


def model_of(folder: Path) -> list[torch.Tensor]:
    found = load_file(next(folder.rglob("model.safetensors")))
    return [value for value in found.values() if value.ndim > 1]


@pytest.mark.parametrize("decoder", [DecoderConfig(dtype="bfloat16", train=Train.lora), DecoderConfig()])
def test_other_decoders_are_not(decoder: DecoderConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    say_doubts(replace(small_config(tmp_path), decoder=decoder))
    assert not caplog.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=ft", "loss.swap=0.1"], "loss.swap has no effect: method=ft has no towers"),
        (["method=pplug", "loss.specific=0.1"], "loss.specific has no effect: method=pplug has no towers"),
        (["method=qar", "loss.general=0.1"], "loss.general has no effect: method=qar has no towers"),
        (["method=dep", "encoder.train=lora"], "encoder.train has no effect: method=dep has no encoder"),
        (["towers.general=false", "loss.general=0.1"], "loss.general has no effect: towers.general=false"),
        (["method=ft", "loss.swap=0"], ""),
        (["method=ft"], ""),
        (["towers.general=false"], ""),  # its default weight was never asked for
        (["method=pplug", "encoder.train=lora"], ""),
        (["loss.swap=0.2", "loss.general=0.1", "encoder.train=full"], ""),
    ],
)
def test_settings_without_effect_are_warned_of_where_they_were_given(
    words: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    say_idle(compose("fit", words), words)
    assert said in caplog.text
    assert bool(said) == bool(caplog.text)


def test_fit_warns_before_it_reads_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Done(Exception):
        pass

    def stop(config: Config) -> None:
        assert "loss.swap has no effect" in capsys.readouterr().err
        raise Done

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit, "run_fit", stop)
    with pytest.raises(Done):
        main(["fit", "data=sample", "method=ft", "loss.swap=0.1"])
