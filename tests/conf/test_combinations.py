"""Settings that do not go together are refused by the configuration alone, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from querier.cli import main
from querier.commands.compare import table_configs
from querier.commands.compose import compose
from querier.errors import InputError

BY_LLM = ["prompt.distil=llm", "llm.path=somewhere"]
REFUSED = [
    (["decoder.width=100"], "decoder.width must be a multiple of 32, got 100"),
    (["decoder.width=0"], "decoder.width must be a multiple of 32, got 0"),
    (["trainer.barebones=true"], "trainer.barebones=true leaves out checkpoints and logging"),
    (["method=pplug", "conditioning=residual"], "pplug is a soft prompt, got conditioning.kind=residual"),
    (["method=pplug", "ablation=prefix"], "got conditioning.kind=prefix; use conditioning=soft_prompt"),
    (["method=qar", "conditioning=soft_prompt"], "inside the decoder, got conditioning.kind=soft_prompt; use conditio"),
    (["method=dep", "conditioning=prefix"], "dep gives input embeddings, got conditioning.kind=prefix"),
    (["method=dep", "prompt.source=none"], "got prompt.source=none; use prompt.source=own"),
    (["method=dep", "conditioning.faithful=true", "prompt.by=bm25"], "shows the newest items, got prompt.by=bm25"),
    (["method=few_shot", "data.pool=none"], "prompt.source=pool reads other queriers' dialogues, which data.pool=none"),
    (["method=dpl", "data.pool=none"], "prompt.profile=differences reads other queriers' dialogues"),
    (["method=qcg", "data.pool=none"], "prompt.profile=querier reads other queriers' dialogues"),
    (["method=rpg", "data.pool=none", *BY_LLM], "prompt.profile=responder reads other queriers' dialogues"),
    (["method=dpl", "contrast.source=none"], "contrast.source=none chooses none; use contrast.source=contrast_users"),
    (["prompt.faithful=true"], "prompt.faithful=true is method=dpl as published"),
    (["method=dpl", "prompt.faithful=true"], "it needs prompt.profile=differences, prompt.distil=llm with"),
    (["method=qcg", "prompt.faithful=true", *BY_LLM], "prompt.faithful=true is method=dpl as published"),
    (["method=dpl", "prompt.faithful=true", *BY_LLM, "prompt.profiles=a.json"], "and no prompt.profiles"),
    (["method=dpl", "prompt.faithful=true", *BY_LLM, "decoder.train=lora"], "trains nothing, got decoder.train=lora"),
    (["stopping.patience=1", "trainer.limit_val_batches=0"], "trainer.limit_val_batches=0 leaves validation out"),
    (["stopping.patience=1", "trainer.limit_val_batches=0.0"], "use stopping.patience=0, or look at some batches"),
]
ACCEPTED = [
    ["decoder=pretrained", "decoder.path=somewhere", "decoder.width=100"],  # of the small one alone
    ["method=ft", "ablation=prefix"],
    ["method=dep", "prompt.by=bm25"],
    ["method=qcg", "data.pool=none", *BY_LLM],
    ["method=qcg", "data.pool=none", "prompt.profiles=a.json"],
    ["method=dpl", "contrast.source=none", "prompt.profiles=a.json"],
    ["method=dpl", "prompt.faithful=true", *BY_LLM],
    ["trainer.limit_val_batches=0"],
    ["stopping.patience=1", "trainer.limit_val_batches=1"],
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_what_does_not_go_together_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        compose("fit", words)
    assert said in str(caught.value)


@pytest.mark.parametrize("words", ACCEPTED)
def test_what_does_is_not(words: list[str]) -> None:
    compose("fit", words)


def test_a_comparison_is_checked_row_by_row() -> None:
    words = ["methods=[dpl]", "prompt.faithful=true", *BY_LLM]
    assert table_configs(compose("compare", words), words)["dpl"][0].prompt.faithful
    words = ["methods=[dpl,ft]", *words[1:]]
    with pytest.raises(InputError, match=r"prompt\.faithful=true is method=dpl as published"):
        table_configs(compose("compare", words), words)


def test_the_command_line_says_so_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "data=sample", "method=qar", "conditioning=soft_prompt"]) == 2
    assert "use conditioning=none" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
