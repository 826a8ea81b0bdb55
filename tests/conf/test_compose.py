"""Every file of `conf/` composes onto the dataclasses and becomes real objects."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from querier.choices import Contrast, Distil, History, Kind, Profile, Retrieval, Source, Train
from querier.commands.compare import row_configs, table_configs
from querier.commands.compose import compose, known_keys, launch
from querier.commands.options import OPTIONS
from querier.commands.test import reads
from querier.config import Config, from_plain, to_plain
from querier.data_config import DataConfig, TaskConfig
from querier.errors import InputError
from querier.methods.registry import trains

CONF = Path(__file__).parents[2] / "conf"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name not in ("hydra", "local"))
CHOICES = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name in GROUPS]
METHODS = [path.stem for path in sorted(CONF.glob("method/*.yaml"))]
REFUSED = {
    ("recency", "few_shot"): "with prompt.source=pool use bm25 or dense",
    ("no_contrast_users", "dpl"): "contrast.source=none chooses none",
    ("prefix", "pplug"): "use conditioning=soft_prompt",
    ("prefix", "dep"): "use conditioning=soft_prompt",
    ("prefix", "qar"): "use conditioning=none",
    ("soft_prompt", "qar"): "use conditioning=none",
}
PATHS = {"pretrained": ["decoder.path=somewhere"]}


def needed(choice: str) -> list[str]:
    return PATHS.get(choice, [])


@pytest.mark.parametrize("command", OPTIONS)
def test_every_command_has_a_root_file_that_composes(command: str) -> None:
    assert (CONF / f"{command}.yaml").exists()
    assert type(compose(command)) is OPTIONS[command]


def test_every_root_file_is_a_command() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == {*OPTIONS, "groups"}  # the groups are what they share


@pytest.mark.parametrize(("method", "wanted"), [("qar", None), ("ft", 8), ("querier", 8)])
def test_an_experiment_may_say_one_thing_for_all_methods_but_some(method: str, wanted: int | None) -> None:
    options = compose("fit", ["experiment=scotus_smollm2", f"method={method}"])
    assert options.decoder.rows_at_once == wanted


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_its_values_arrive(group: str, choice: str) -> None:
    options = compose("compare" if group == "table" else "fit", [f"{group}={choice}", *needed(choice)])
    written: Any = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"), resolve=False) or {}
    whole = "@package _global_" in (CONF / group / f"{choice}.yaml").read_text().splitlines()[0]
    written.pop("defaults", None)
    written.pop("hydra", None)
    check(written, options if whole else getattr(options, group))


def check(written: dict[str, Any], got: Any) -> None:
    for key, value in written.items():
        found = getattr(got, key)
        if is_dataclass(found):
            check(value, found)
        elif isinstance(found, dict) and all(map(is_dataclass, found.values())):
            assert found.keys() == value.keys(), key
            for name in found:
                check(value[name], found[name])
        elif not (isinstance(value, str) and "${" in value):
            found = to_plain(found)
            assert found == value or str(found) == str(value), key


def test_groups_are_fields_of_the_configuration() -> None:
    own = {"experiment", "ablation", "sweep", "table"}
    assert set(GROUPS) - own <= {entry.name for entry in fields(Config)}


@pytest.mark.parametrize(("group", "choice"), [c for c in CHOICES if c[0] in ("experiment", "ablation")])
def test_experiments_and_ablations_compose_with_each_method(group: str, choice: str) -> None:
    for method in METHODS:
        if (choice, method) in REFUSED:
            with pytest.raises(InputError, match=REFUSED[choice, method]):
                compose("fit", [f"{group}={choice}", f"method={method}"])
        else:
            assert compose("fit", [f"{group}={choice}", f"method={method}"]).method == method


@pytest.mark.parametrize("table", [choice for group, choice in CHOICES if group == "table"])
def test_every_row_of_a_table_composes(table: str) -> None:
    options = compose("compare", [f"table={table}"])
    for label in options.methods:
        configs = row_configs(label, options, [f"table={table}", "trainer.max_epochs=1"])
        assert {config.trainer.max_epochs for config in configs} == {1}
    assert options.baseline in options.methods


@pytest.mark.parametrize(("said", "length"), [([], 512), (["decoder.max_length=96"], 96)])
def test_all_rows_of_a_table_read_equally_much(said: list[str], length: int) -> None:
    words = ["methods=[ft,rag,querier]", *said]
    alone = compose("fit", ["method=ft"]).decoder.max_length
    assert alone < 512
    rows = table_configs(compose("compare", words), words)
    assert {config.decoder.max_length for each in rows.values() for config in each} == {length}
    words = ["methods=[ft,querier]"]
    assert table_configs(compose("compare", words), words)["ft"][0].decoder.max_length == alone


def test_methods_are_what_they_are_called() -> None:
    ft, zero, ours = (compose("fit", [f"method={name}"]) for name in ("ft", "zero_shot", "querier"))
    assert ft.conditioning.kind is Kind.none
    assert ft.decoder.train is Train.full
    assert zero.conditioning.kind is Kind.none
    assert zero.decoder.train is Train.frozen
    assert ours.conditioning.kind is Kind.residual
    for method in (ft, zero):
        assert method.loss.specific == method.loss.general == method.loss.swap == 0
    assert min(ours.loss.specific, ours.loss.general, ours.loss.swap) > 0
    assert compose("fit", ["method=zero_shot", "decoder=smollm2"]).decoder.train is Train.frozen
    qar = compose("fit", ["method=qar"])
    assert trains(replace(qar, decoder=replace(qar.decoder, train=Train.frozen)))
    assert (reads(qar).history, reads(qar).name, qar.qar.weight, qar.decoder.train) == (False, True, 0.5, Train.lora)
    assert compose("fit", ["method=querier", "conditioning=prefix"]).conditioning.kind is Kind.prefix


def test_methods_of_text_alone_show_what_they_are_called_for() -> None:
    few, rag, rpg, qcg = (compose("fit", [f"method={name}"]) for name in ("few_shot", "rag", "rpg", "qcg"))
    assert (few.prompt.source, few.prompt.items, few.prompt.by) == (Source.pool, 5, Retrieval.dense)
    assert (rag.prompt.source, rag.prompt.items, rag.prompt.by) == (Source.own, 4, Retrieval.bm25)
    assert (rpg.prompt.profile, qcg.prompt.profile) == (Profile.responder, Profile.querier)
    assert {method.conditioning.kind for method in (few, rag, rpg, qcg)} == {Kind.none}
    assert {method.decoder.max_length for method in (few, rag, rpg, qcg)} == {512}
    assert [trains(method) for method in (few, rag, rpg, qcg)] == [False, True, False, False]
    assert [reads(method).history for method in (few, rag, rpg, qcg)] == [False, True, False, True]
    assert not trains(compose("fit", ["method=rag", "decoder.train=frozen"]))
    assert compose("fit", ["method=rag", "decoder=smollm2"]).decoder.train is Train.lora
    assert compose("fit", ["method=few_shot", "prompt.by=bm25"]).prompt.by is Retrieval.bm25


def test_dep_shows_the_items_that_its_vectors_stand_beside() -> None:
    dep = compose("fit", ["method=dep"])
    assert (dep.prompt.source, dep.prompt.items, dep.prompt.by) == (Source.own, 8, Retrieval.recency)
    assert dep.towers.history == dep.prompt.items
    assert (dep.loss.autoencoder, dep.loss.sparsity) == (100, 1e-3)
    assert dep.decoder.train is Train.frozen
    assert not dep.conditioning.faithful
    assert trains(dep)
    assert reads(dep).history


def test_dpl_shows_items_and_differences() -> None:
    dpl = compose("fit", ["method=dpl"])
    assert (dpl.prompt.source, dpl.prompt.items, dpl.prompt.by) == (Source.own, 8, Retrieval.bm25)
    assert (dpl.prompt.profile, dpl.prompt.distil, dpl.prompt.faithful) == (Profile.differences, Distil.counting, False)
    assert not trains(dpl)
    assert reads(dpl).history
    assert dpl.contrast.k == 4


def test_a_row_may_have_several_ablations() -> None:
    label = "rag+dense+one_item+frozen_decoder+name_blind"
    (row,) = row_configs(label, compose("compare", [f"methods=[{label}]"]), [])
    assert (row.prompt.by, row.prompt.items, row.prompt.name_querier) == (Retrieval.dense, 1, False)
    assert row.decoder.train is Train.frozen
    with pytest.raises(InputError, match="ablation has no choice `one_itme`.*did you mean `ablation=one_item`"):
        row_configs("rag+dense+one_itme", compose("compare"), [])


@pytest.mark.parametrize("experiment", [choice for group, choice in CHOICES if group == "experiment"])
def test_published_methods_keep_their_own_history_dropout_in_every_experiment(experiment: str) -> None:
    for method in ("rag", "dep", "pplug"):
        own = compose("fit", [f"method={method}"]).towers.history_dropout
        assert compose("fit", [f"experiment={experiment}", f"method={method}"]).towers.history_dropout == own


def test_ablations_change_what_they_name() -> None:
    assert compose("fit", ["ablation=permuted_control"]).data.history is History.permuted
    assert compose("fit", ["ablation=no_contrast_users"]).contrast.source is Contrast.none
    assert not compose("fit", ["ablation=no_general_tower"]).towers.general
    assert to_plain(compose("fit", ["ablation=full"])) == to_plain(compose("fit"))


def test_a_free_mapping_takes_plain_overrides() -> None:
    options = compose("prepare", ["data.path=x.jsonl", "data.fields.time=order", 'data.responders=["Paul D. Clement"]'])
    assert options.data.fields == {"time": "order"}
    assert options.data.responders == ["Paul D. Clement"]


def test_the_default_composition_is_the_dataclass() -> None:
    assert to_plain(compose("fit")) == to_plain(OPTIONS["fit"]())


def test_options_survive_a_round_trip_through_plain_values() -> None:
    options = compose("fit", ["method=ft", "data.split=scene", "trainer.devices=2"])
    assert from_plain(OPTIONS["fit"], to_plain(options)) == options


def test_tasks_survive_it_too_and_take_plain_overrides() -> None:
    words = ["data=lamp", "data.tasks.LaMP_3.high=10", 'data.tasks.LaMP_3.query="{a}"', "data.task=LaMP_3"]
    options = compose("prepare", words)
    assert options.data.tasks["LaMP_3"] == TaskConfig("{a}", "{score}", low=1, high=10)
    assert from_plain(OPTIONS["prepare"], to_plain(options)) == options


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 1.0}, "low and high go together, low first, got 1.0 and None"),
        ({"low": 5.0, "high": 1.0}, "low and high go together, low first, got 5.0 and 1.0"),
        ({"labels": ["a", "b"], "low": 1.0, "high": 5.0}, "a reply is one of `labels` or a number"),
        ({"labels": ["a", "a"]}, "labels must be two or more, each once, got"),
    ],
)
def test_replies_of_a_task_are_labels_or_numbers_of_a_scale(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TaskConfig(**settings)


def test_the_chosen_task_must_be_one_of_the_tasks() -> None:
    with pytest.raises(InputError, match=r"data\.task=b is none of data\.tasks: a"):
        DataConfig(task="b", tasks={"a": TaskConfig()})
    with pytest.raises(InputError, match=r"data\.task=b is none of data\.tasks: there are none; take them from a file"):
        DataConfig(task="b")


def test_known_keys_name_fields_at_every_depth() -> None:
    keys = known_keys(Config())
    assert {"seed", "decoder", "decoder.base", "decoder.base.lr"} <= set(keys)


def test_no_file_names_a_class_to_build() -> None:
    for path in CONF.rglob("*.yaml"):
        assert "_target_" not in path.read_text(), path


def test_a_sweep_moves_runs_and_leaves_measurements_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs: list[Any] = []
    launch("bench", ["steps=1,2", "-m"], jobs.append)
    launch("fit", ["name=x", "seed=1,2", "-m"], jobs.append)
    assert [(job.name, job.output) for job in jobs] == [("step", "outputs")] * 2 + [(None, "multirun/x")] * 2


def test_a_sweep_goes_under_the_output_that_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs: list[Any] = []
    launch("fit", ["output=elsewhere", "seed=1,2", "-m"], jobs.append)
    assert [job.output for job in jobs] == ["elsewhere/sweep"] * 2
