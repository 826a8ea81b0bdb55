from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_runs import cold_start, write_run
from planted import dialogues, prepared_corpus, small_config

from querier.analysis.cold_start import cold_start_figure, cold_start_table
from querier.analysis.logs import dialogues_figure, querier_table
from querier.errors import InputError


def test_cold_start_reads_what_was_measured_and_no_more(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run7", 0.25, cold_start=cold_start(0.25))
    table = cold_start_table(run).set_index(["queriers", "metric", "items"])
    assert table.loc[("seen", "gain", "4"), "value"] == 0.25
    assert table.loc[("seen", "gain", "4"), "n"] == 39
    assert np.isnan(table.loc[("unseen", "swap_accuracy_cluster", "0"), "value"])
    figure = cold_start_figure(table.reset_index(), "swap_accuracy_cluster", "run7", tmp_path / "cold.png")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["0", "4", "all"]
    assert "run run7" in figure.get_suptitle()
    assert len(figure.axes[0].containers) == 2  # seen and unseen
    assert table.loc[("seen", "gain", "4"), "n_queriers"] == 8
    assert "unseen: n = 38 to 39 dialogues of 8 queriers" in [
        one.get_text() for one in figure.axes[0].get_legend().get_texts()
    ]
    with pytest.raises(InputError, match="no rouge_l was measured; there are gain"):
        cold_start_figure(table.reset_index(), "rouge_l", "run7")
    with pytest.raises(InputError, match=r"holds no cold start; .*cold_start=true"):
        cold_start_table(write_run(tmp_path / "plain"))


def test_a_log_at_first_sight(tmp_path: Path) -> None:
    made = [*dialogues(5, 6), *dialogues(2, 4, seed=1)]
    made = [
        type(one)(f"d{place}", one.querier, one.responder, one.turns, place, f"s{place}")
        for place, one in enumerate(made)
    ]
    corpus = prepared_corpus(made, small_config(tmp_path), tmp_path).corpus
    table = querier_table(corpus)
    assert table["querier"].tolist() == ["q0", "q1", "q2", "q3", "q4"]
    assert table["dialogues"].tolist() == [10, 10, 6, 6, 6]
    assert (table[["train", "validation", "test", "history"]].sum(axis=1) == table["dialogues"]).all()
    assert table["test"].sum() == 4  # a tenth of 38
    words = [len(one.query.split()) for one in made if one.querier == "q3"]
    assert table.loc[3, "asks"] == np.median(words)
    figure = dialogues_figure(table, "planted", tmp_path / "log.svg")
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 5
    assert "n = 5 queriers" in figure.get_suptitle()
