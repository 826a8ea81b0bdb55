"""The words of a command line: free text arrives as typed, a slip is answered with what to type, help fits."""

from __future__ import annotations

import random
import shlex
from pathlib import Path
from typing import Any

import pytest

from querier.cli import COMMANDS, main
from querier.commands.arguments import misread
from querier.commands.compose import FREE_TEXT, compose, launch
from querier.commands.messages import EXAMPLES, choices_of, shell
from querier.commands.options import OPTIONS
from querier.config import Config

TEXTS = [
    r"a\b",
    "what ${seed} is",
    r"\${seed}\\",
    "${",
    "[b]bold[/b] [red]",
    "{a: 1}",
    "null",
    "true",
    "???",
    "x=1,2",
    """O'Neil said "hi" \\""",
    "'quoted'",
    "Dörte?\nÄ — 你好",
    " ",
    "",
]
SIGNS = ["\\", "$", "{", "}", "${", "'", '"', "[", "]", ",", "=", " ", "seed", "ä", "?"]


def arrived(command: str, *words: str) -> list[Any]:
    """The options that each job of a command line gets."""
    jobs: list[Any] = []
    launch(command, words, jobs.append)
    return jobs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", TEXTS)
def test_free_text_arrives_as_typed(text: str) -> None:
    assert [one.query for one in arrived("ask", f"query={text}")] == [text]


def test_every_setting_of_free_text_arrives_as_typed() -> None:
    rng = random.Random(0)
    for command, options in OPTIONS.items():
        names = [name for name in FREE_TEXT if hasattr(options(), name) and name != "into"]
        texts = {name: "".join(rng.choices(SIGNS, k=12)) for name in names}
        if names:
            (got,) = arrived(command, *(f"{name}={text}" for name, text in texts.items()))
            assert {name: getattr(got, name) for name in names} == texts


def test_free_text_is_not_swept_over_and_survives_a_sweep() -> None:
    text = r"a, \${seed} 'b', [c]\\"
    assert [(one.query, one.strength) for one in arrived("ask", f"query={text}", "strength=0,1", "-m")] == [
        (text, 0.0),
        (text, 1.0),
    ]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("[Dörte]", ["Dörte"]),
        ("[ Jo Müller , Ann]", ["Jo Müller", "Ann"]),
        ('["O\'Neil, Pat",Dörte]', ["O'Neil, Pat", "Dörte"]),
        ("['Zoë, the first',你好]", ["Zoë, the first", "你好"]),
        ("[R&D,a=b,c!]", ["R&D", "a=b", "c!"]),
    ],
)
def test_words_of_a_list_need_no_quotes_for_letters_beyond_ascii(value: str, names: list[str]) -> None:
    assert compose("ask", [f"queriers={value}"]).queriers == names
    assert [one.queriers for one in arrived("ask", f"queriers={value}")] == [names]


def test_letters_beyond_ascii_stand_in_other_settings_too() -> None:
    options = compose("prepare", ["data.path=/tmp/Dörte/a=b.jsonl", "data.fields.time=Größe", "name=Zoë"])
    assert (options.data.path, options.data.fields, options.name) == ("/tmp/Dörte/a=b.jsonl", {"time": "Größe"}, "Zoë")


MISREAD = [
    ("fit", "data|sample", "a setting and its value are one word; write data=sample"),
    ("fit", "data|=|sample", "a setting has no space at its `=`; write data=sample"),
    ("fit", "data|=sample", "a setting has no space at its `=`; write data=sample"),
    ("fit", "data=|sample", "a setting has no space at its `=`; write data=sample"),
    ("fit", "--data|sample", "settings are written without dashes; for `--data` write data=sample"),
    ("fit", "--data=sample", "settings are written without dashes; for `--data=sample` write data=sample"),
    ("fit", "--trainer.max-epochs=3", "write trainer.max_epochs=3"),
    ("fit", "--overwrite", "write overwrite=true"),
    ("fit", "--verbose", "`querier fit` has no flag `--verbose`; it has --help, --version, --cfg job, -m"),
    ("fit", "data", "`data` has no value; write data=... with one of csv"),
    ("fit", "sample", "did you mean data=sample?"),
    ("fit", "seed=1|what", "`what` is no setting; settings are written name=value; e.g. querier fit"),
    ("fit", "data.path=my|file.jsonl", "write 'data.path=my file.jsonl'"),
    ("fit", "-m|foo", "`foo` is no setting"),
    ("ask", "--query|How so?", "write 'query=How so?'"),
    ("ask", "--run|first", "write run=first"),
    ("ask", "--queriers|Ann,Bob", "write 'queriers=[Ann,Bob]'"),
    ("ask", "run=first|query=the|history|of|it|seed=1", "write 'query=the history of it'"),
    ("ask", "queriers=[Ann|Lee,Bob]", "write 'queriers=[Ann Lee,Bob]'"),
    ("ask", "What's sour?", 'name=value: "query=What\'s sour?"'),
    ("test", "first", "settings are written name=value: run=first"),
]


@pytest.mark.parametrize(("command", "words", "message"), MISREAD)
def test_a_word_that_is_no_setting_is_answered_with_what_to_type(command: str, words: str, message: str) -> None:
    said = misread(command, words.split("|"))
    assert said is not None
    assert message in said


@pytest.mark.parametrize(
    "words",
    ["--cfg job", "-c job --resolve", "--multirun seed=0,1", "--config-dir=x -m", "-cd x ~data", "--info -h", ""],
)
def test_settings_and_flags_of_hydra_pass(words: str) -> None:
    assert misread("fit", words.split()) is None


def test_a_slip_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--data", "sample"]) == 2
    assert capsys.readouterr().err == ("querier: settings are written without dashes; for `--data` write data=sample\n")


def test_methods_of_a_comparison_are_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "method=ft,querier"]) == 2
    assert "querier compare names several so: 'methods=[ft,querier]'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--version"], ["fit", "--version"], ["ask", "query=x", "-V"]])
def test_the_version_is_that_of_querier(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("querier ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_what_the_command_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert COMMANDS[command] in shown
    assert EXAMPLES[command] in shown
    takes = issubclass(OPTIONS[command], Config)
    assert ("  method: dep, dpl, few_shot, ft" in shown) == ("Groups" in shown) == takes
    assert ("  table: ablations" in shown) == (command == "compare")
    for group, choices in choices_of(command).items():
        assert f"  {group}: {', '.join(choices)}\n" in shown
    assert all(f"\n{name}:" in shown for name in vars(OPTIONS[command]()))


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("fit", "demo")])
def test_an_example_composes(command: str) -> None:
    words = shlex.split(EXAMPLES[command])
    assert words[:2] == ["querier", command]
    assert type(compose(command, words[2:])) is OPTIONS[command]


@pytest.mark.parametrize("word", ["a=b", "a=b c", "a=O'Neil", 'a="$x`\\', "a=[b,c]"])
def test_a_word_is_shown_as_a_shell_takes_it(word: str) -> None:
    assert shlex.split(shell(word)) == [word]
