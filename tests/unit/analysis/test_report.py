"""The report: what was measured stands in it, what was not is said, and nothing that a querier wrote becomes HTML."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lxml import html
from made_runs import card, examples, number, write_against, write_comparison, write_lines, write_run
from markupsafe import Markup

from querier.analysis.report.figures import scale, style, thinned
from querier.analysis.report.page import SECTIONS, render, write_report
from querier.analysis.report.sources import Report, gather
from querier.errors import InputError


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


def page_of(names: list[str], output: Path, **more: Any) -> Any:
    return html.fromstring(render(gather(names, str(output), **more)))


def section(page: Any, name: str) -> Any:
    return page.get_element_by_id(name)


def text(element: Any) -> str:
    return " ".join(element.text_content().split())


def heads(table: Any) -> list[str]:
    return [text(head) for head in table.xpath(".//thead//th")]


def data(page: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(page.get_element_by_id("data").text_content())
    return read


def test_one_run_has_its_numbers_with_interval_n_and_failures(output: Path) -> None:
    found = {"rouge_l": number(0.4321, n=37, failed=3), "rouge_l_unseen": number(0.1234)}
    write_run(output / "a", metrics=found)
    page = page_of(["a"], output)
    table = section(page, "main-table").xpath(".//table")[0]
    assert len(table.xpath("./tbody/tr")) == 1
    column = next(place for place, head in enumerate(heads(table)) if "ROUGE-L" in head)
    cell = table.xpath("./tbody/tr/*")[column]
    shown = [text(one) for one in cell.xpath("./div")]
    assert shown[0] == "0.432 [0.382, 0.482] n 37, failed 3"
    assert shown[1] == "not measured"
    assert shown[2] == "0.123 [0.073, 0.173] n 40, failed 0"
    assert (cell.get("data-all"), cell.get("data-seen"), cell.get("data-unseen")) == ("0.4321", "", "0.1234")
    assert "higher is better" in heads(table)[column]
    assert "0.432 [0.382, 0.482]" in text(section(page, "helpfulness"))


def test_each_run_is_a_row_and_every_metric_is_somewhere(output: Path) -> None:
    for name, rouge in (("a", 0.25), ("b", 0.5), ("c", 0.75)):
        write_run(output / name, rouge)
    page = page_of(["a", "b", str(output / "c")], output)
    rows = section(page, "main-table").xpath(".//tbody/tr")
    assert [text(row[0]) for row in rows] == ["a", "b", "c"]
    assert page.xpath("/html/head/title/text()") == ["Report: a, b, c"]
    everything = text(section(page, "all-numbers"))
    for name in ("trait_warmth", "nll_swapped", "swap_accuracy_cluster"):
        assert name in everything
    assert "detects 0.07" in everything
    dependence = text(section(page, "dependence"))
    for said in (
        "Swap accuracy, same cluster",
        "another querier of the cluster",
        "no history",
        "nats per token, n = 40",
    ):
        assert said in dependence
    assert section(page, "dependence").xpath(".//*[@class='reference']")
    assert "trait warmth" in text(section(page, "helpfulness"))


def test_what_is_not_known_is_said_and_is_no_number(output: Path) -> None:
    write_run(output / "a", metrics={"rouge_l": number(None, n=0, failed=4)})
    found = json.loads((output / "a" / "results.json").read_text())
    found["metrics"]["chrf"] = number(0.5) | {"low": None, "high": None}
    found["metrics"]["bleu"] = number(0.5) | {"value": float("nan")}
    (output / "a" / "results.json").write_text(json.dumps(found))
    (output / "a" / "metrics.csv").unlink()
    (output / "a" / "examples.jsonl").unlink()
    page = page_of(["a"], output)
    assert "not measured" in text(section(page, "all-numbers"))
    assert "0.500 no interval" in text(section(page, "all-numbers"))
    assert "nan" not in text(page).lower().split()
    assert "cold_start=true" in text(section(page, "cold-start"))
    assert "No metrics.csv: a" in text(section(page, "training"))
    assert "No examples.jsonl: a" in text(section(page, "examples"))
    assert not page.xpath("//*[@id='data']")


def test_cold_start_curves_of_both_kinds_of_queriers(output: Path) -> None:
    from made_runs import cold_start

    write_run(output / "a", cold_start=cold_start(0.25))
    write_run(output / "b")
    found = section(page_of(["a", "b"], output), "cold-start")
    titles = [text(one) for one in found.xpath(".//figcaption/b")]
    assert titles[0] == "NLL per token, seen queriers"
    assert len(titles) == 6
    assert sum("unseen" in title for title in titles) == 3
    points = [text(one) for one in found.xpath(".//figure[1]//path/title")]
    assert points == [
        "a, 0 items: 2.5000 [2.4500, 2.5500], n 40 of 8 queriers",
        "a, 4 items: 2.2500 [2.2000, 2.3000], n 39 of 8 queriers",
        "a, all items: 2.0000 [1.9500, 2.0500], n 38 of 8 queriers",
    ]
    swapped = found.xpath(".//figure[3]")[0]
    assert len(swapped.xpath(".//path/title")) == 2  # without history there is nobody to swap
    assert "Without these curves: b" in text(found)


def test_training_curves_have_one_figure_for_each_column(output: Path) -> None:
    write_run(output / "a")
    path = write_run(output / "b") / "metrics.csv"
    path.write_text(path.read_text().replace("2.5,", "nan,"))
    found = section(page_of(["a", "b"], output), "training")
    assert [text(one) for one in found.xpath(".//figcaption/b")] == ["val/nll_per_byte", "train/loss"]
    assert "b: 1 values are no finite number" in text(found)
    points = [text(one) for one in found.xpath(".//figure[2]//path/title")]
    assert "a, step 19: 2.5" in points
    assert not [one for one in points if one.startswith("b, step 19")]


def test_exclusions_by_reason(output: Path) -> None:
    write_run(output / "a")
    parts = {"main": {"unseen querier without history": 2}, "cluster": {}, "cold start, seen, 4": {"too short": 3}}
    write_run(output / "b", excluded=parts)
    rows = [
        [text(cell) for cell in row] for row in section(page_of(["a", "b"], output), "excluded").xpath(".//tbody/tr")
    ]
    assert ["swap, cluster", "nobody to swap with", "5", "0"] in rows
    assert ["all numbers", "unseen querier without history", "0", "2"] in rows
    assert ["cold start, seen, 4", "too short", "0", "3"] in rows
    write_comparison(output / "compare" / "small")
    part = section(page_of(["compare/small"], output), "excluded")
    assert ["swap, cluster", "nobody to swap with", "0", "5", "0"] in [
        [text(cell) for cell in row] for row in part.xpath(".//tbody/tr")
    ]
    assert "ft" in text(part.xpath(".//p")[0])  # of which nothing is known


WICKED = "</script><script>alert('x')</script><img src=x onerror=alert(1)> & \"quoted\" \u2028 {{ 7 * 7 }}"


def test_nothing_that_others_wrote_becomes_html(output: Path) -> None:
    row = examples(1, 0.5)[0]
    row |= dict.fromkeys(("id", "query", "querier", "gold", "reply", "error"), WICKED)
    row["scores"] = {"<i>score</i>": 0.5}
    name = "a<b>bold<|b>"
    write_run(
        output / name,
        rows=[row],
        metrics={"<i>score</i>": number(0.5)},
        excluded={"<u>part</u>": {WICKED: 1}},
        config={"method": WICKED},
    )
    whole = render(gather([name], str(output), title=WICKED))
    page = html.fromstring(whole)
    assert whole.count("</script>") == 2
    assert len(page.xpath("//script")) == 2
    assert not page.xpath("//img | //i | //u | //*[@onerror]")
    assert not [one for one in page.xpath("//b/text()") if "bold" in one]
    assert page.xpath("/html/head/title/text()") == [WICKED]
    found = data(page)
    assert found["runs"] == [name]
    only = found["rows"][0]
    assert only["query"] == only["gold"] == only["querier"] == only["of"][0]["reply"] == WICKED
    assert "49" not in only["query"]


def test_half_a_letter_in_a_log_does_not_stop_the_page(output: Path, tmp_path: Path) -> None:
    row = examples(2, 0.5)[1] | {"reply": "half \ud83d a letter"}
    write_run(output / "a", rows=[row])
    into = write_report(gather(["a"], str(output)), tmp_path / "page.html")
    assert "half ? a letter" in into.read_text(encoding="utf-8")


def test_the_page_needs_no_network_and_names_no_folder(output: Path, tmp_path: Path) -> None:
    row = examples(2, 0.5)[1] | {"reply": "see https://example.org/x"}
    write_run(output / "a", rows=[row], config={"decoder": {"kind": "pretrained", "path": "/home/secret/models/tiny"}})
    write_run(output / "b")
    whole = render(gather([str(output / "a"), str(output / "b")], str(output)))
    page = html.fromstring(whole)
    for element in page.iter():
        for name, value in element.attrib.items():
            assert not re.match(r"(https?:)?//", value), (element.tag, name, value)
    assert not page.xpath("//link | //iframe | //img | //script[@src]")
    style = page.xpath("//style")[0].text_content()
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page.xpath("//meta[@http-equiv]/@content")[0]
    assert re.findall(r"https?://\S{11}", whole) == ["https://example.org"]
    assert "secret" not in whole
    assert str(tmp_path) not in whole
    assert "log.jsonl" in whole
    assert "tiny" in text(section(page, "runs"))


def test_the_head_says_what_differs_and_what_may_not_be_compared(output: Path) -> None:
    write_run(output / "a", config={"seed": 1, "loss": {"swap": 0.1}})
    write_run(
        output / "b", config={"seed": 2, "loss": {"swap": 0.0}}, n_failed=3, settings={"split": "test", "draws": 2}
    )
    other = json.loads((output / "b" / "run.json").read_text())
    (output / "b" / "run.json").write_text(json.dumps(other | {"data_digest": "fedcba9876543210"}))
    found = section(page_of(["a", "b"], output), "runs")
    shown = {text(row[0]): [text(cell) for cell in row[1:]] for row in found.xpath(".//tbody/tr")}
    assert shown["loss.swap"] == ["0.1", "0.0"]
    assert shown["seed"] == ["1", "2"]
    assert shown["data digest"] == ["01234567", "fedcba98"]
    assert shown["dialogues"] == ["40, failed 0", "40, failed 3"]
    assert "torch 2.13.0" in shown["trained with"][0]
    told = " ".join(text(one) for one in found.find_class("warning"))
    assert "different data" in told
    assert "different settings (draws" in told
    assert "b: 3 dialogues could not be scored" in told
    write_run(output / "c")
    write_run(output / "d")
    assert not section(page_of(["c", "d"], output), "runs").find_class("warning")
    path = output / "d" / "results.json"
    read = json.loads(path.read_text())
    for penalty, warned in ((1.0, False), (1.2, True)):  # which c has nothing of, as results from before
        read["settings"]["repetition_penalty"] = penalty
        path.write_text(json.dumps(read))
        said = [text(one) for one in section(page_of(["c", "d"], output), "runs").find_class("warning")]
        assert any("(repetition_penalty)" in one for one in said) == bool(said) == warned


def test_replies_of_one_dialogue_stand_side_by_side(output: Path) -> None:
    write_run(output / "a", 0.25)
    rows = examples(8, 0.5)
    rows[3] |= {"gold": "Another true reply."}  # other data under the same id
    rows[5] |= {"reply": None, "error": "no reply was generated", "scores": {"nll_per_byte": 0.5, "rouge_l": None}}
    rows[7]["reply_empty_history"] = "Nobody asked."
    write_run(output / "b", rows=rows)
    found = data(page_of(["a", "b"], output))
    assert len(found["rows"]) == 9
    by_id: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        by_id.setdefault(row["id"], []).append(row)
    assert [[one is None for one in row["of"]] for row in by_id["d3"]] == [[False, True], [True, False]]
    place = [one["name"] for one in found["scores"]].index("rouge_l")
    (both,) = by_id["d1"]
    assert [one["scores"][place] for one in both["of"]] == pytest.approx([0.5 / 9, 1 / 9], rel=1e-4)
    (failed,) = by_id["d5"]
    assert failed["of"][1]["error"] == "no reply was generated"
    assert failed["of"][1]["scores"][place] == "failed"
    assert by_id["d0"][0]["of"][0]["scores"][place] is None
    assert by_id["d7"][0]["of"][1]["empty"] == "Nobody asked."
    assert found["first"] == place


def test_of_many_examples_failures_and_replies_come_first(output: Path) -> None:
    rows = examples(20, 0.5)
    rows[18] |= {"error": "the reply could not be scored"}
    write_run(output / "a", rows=rows)
    page = page_of(["a"], output, examples=5)
    assert [row["id"] for row in data(page)["rows"]] == ["d18", "d1", "d3", "d5", "d7"]
    assert "5 of 20 dialogues" in text(section(page, "examples"))
    assert "holds texts of queriers" in text(page)
    bare = page_of(["a"], output, examples=0)
    assert "bread" not in html.tostring(bare, encoding="unicode")
    assert "20 dialogues were left out" in text(section(bare, "examples"))
    assert "holds texts of queriers" not in text(bare)


# comparisons


def test_a_comparison_shows_methods_and_differences(output: Path) -> None:
    write_comparison(output / "compare" / "small")
    write_run(output / "querier-0", config={"seed": 0})
    page = page_of(["compare/small"], output)
    assert [text(row[0]) for row in section(page, "main-table").xpath(".//tbody/tr")] == [
        "ft",
        "querier",
        "querier+no_gate",
    ]
    table = section(page, "comparison").xpath(".//table")[0]
    cells = {text(row[0]): text(row[1][0]) for row in table.xpath("./tbody/tr")}
    unseen = table.xpath("./tbody/tr[2]/td/div[@class='g g-unseen']")[0]
    assert text(unseen) == "0.438 [0.388, 0.487] n 40, failed 0 Δ +0.375* [+0.325, +0.425] p 0.500 n 9, failed 0"
    assert cells["querier"].endswith("Δ +0.250* [+0.200, +0.300] p < 0.001 n 40, failed 0")
    assert "Δ +0.125 [+0.075, +0.175] p 0.250" in cells["querier+no_gate"]  # its seeds disagree: no star
    assert "Δ" not in cells["ft baseline"]
    assert "2 seeds (0, 1), baseline ft" in text(section(page, "comparison"))
    found = data(page)
    assert found["rows"][0]["of"][1]["reply"] == "querier of seed 0"
    assert "querier, step 9: 3.5" in [text(one) for one in section(page, "training").xpath(".//path/title")]
    assert [text(one) for one in page_of(["small"], output).xpath("/html/head/title")] == ["Report: small"]
    write_comparison(output / "compare" / "monday" / "small")
    deeper = section(page_of(["compare/monday/small"], output), "training")
    assert "querier, step 9: 3.5" in [text(one) for one in deeper.xpath(".//path/title")]


def test_what_is_left_of_a_method_without_its_control_is_shown(output: Path) -> None:
    folder = write_comparison(output / "compare" / "small")
    found = json.loads((folder / "results.json").read_text())
    left = {"gain": number(0.0625, p=0.01, sure=True), "gain_seen": number(0.5), "swap_accuracy_cluster": number(0.125)}
    found["controls"] = {"querier+no_gate": {"of": "querier", **left}}
    (folder / "results.json").write_text(json.dumps(found))
    write_run(output / "querier")
    for names, shown in ((["small"], "querier"), (["querier", "small"], "small/querier")):
        part = section(page_of(names, output), "comparison")
        (said,) = part.xpath(".//p[@class='personal']")
        assert f"What is personal, {shown} less querier+no_gate, which" in text(said)
        items = [text(one) for one in said.xpath("./following-sibling::ul[1]/li")]
        assert len(items) == 2
        assert items[0].startswith("Gain over no history Δ +0.0625*")
        assert items[1].startswith("Swap accuracy, same cluster Δ +0.1250")


def test_averages_over_queriers_can_be_chosen(output: Path) -> None:
    folder = write_run(output / "a")
    found = json.loads((folder / "results.json").read_text())
    found["metrics"]["rouge_l_macro"] = number(0.8125)
    (folder / "results.json").write_text(json.dumps(found))
    page = page_of(["a"], output)
    cell = section(page, "main-table").xpath(".//td[.//div[@class='g g-macro']/b[text()='0.812']]")
    assert [one.get("data-macro") for one in cell] == ["0.8125"]
    assert page.xpath("//button[@data-show='macro']")


def test_equal_names_are_told_apart(output: Path) -> None:
    write_comparison(output / "compare" / "small")
    write_run(output / "querier")
    write_run(output / "sweep" / "querier", 0.5)
    report = gather(["querier", "sweep/querier", "small"], str(output))
    names = [entry.name for entry in report.entries]
    assert names == ["outputs/querier", "sweep/querier", "ft", "small/querier", "querier+no_gate"]
    assert set(report.comparisons[0].differences) == {"small/querier", "querier+no_gate"}
    assert "Δ" in text(section(html.fromstring(render(report)), "comparison"))


def test_what_two_runs_and_a_judge_came_to_is_shown(output: Path) -> None:
    for name in ("a", "b", "c"):
        write_run(output / name)
    write_against(output / "a", "b")
    write_against(output / "a", "c", judged=False)
    page = page_of(["a", "b"], output)
    found = section(page, "against")
    assert [text(one) for one in found.xpath(".//h3")] == ["a = a, b = b"]  # c is not on the page
    numbers, judge = found.xpath(".//table")
    row = [text(cell) for cell in numbers.xpath("./tbody/tr[1]/*")]
    assert row[0].startswith("ROUGE-L")
    assert row[1:] == ["0.500", "0.250", "Δ +0.250 [+0.200, +0.300] p 0.010 n 40, failed 0", "0.070"]
    assert text(numbers.xpath("./tbody/tr[2]/*[3]")[0]) == "–"  # nothing was measured of b
    cells = [text(cell) for cell in judge.xpath("./tbody/tr[1]/*")]
    assert cells == [
        "a over b",
        "0.625 [0.575, 0.675] n 16, failed 1",
        "3 (2)",
        "0.750 [0.700, 0.800] n 40, failed 0",
        "31 / 29",
    ]
    assert "Judged by <wise> one" in text(found)
    assert "anew since" not in text(found)
    assert "against" not in [one.get("id") for one in page_of(["a"], output).xpath("//section")]


def test_a_pair_of_older_weights_is_told(output: Path) -> None:
    for name in ("a", "b"):
        write_run(output / name)
    write_against(output / "a", "b", models=("feedfeedfeedfeed", "0123456789abcdef"))
    assert "querier test run=a against=b compares them again" in text(section(page_of(["a", "b"], output), "against"))
    (output / "a" / "against_b.json").write_text('{"b": "b"}')
    with pytest.raises(InputError, match="against_b.json: not as `querier test` writes it"):
        gather(["a", "b"], str(output))


# what is refused


def test_runs_that_cannot_be_shown_are_refused(output: Path, tmp_path: Path) -> None:
    write_run(output / "a")
    (output / "b").mkdir()
    (output / "b" / "run.json").write_text(json.dumps(card()))
    with pytest.raises(InputError, match="it was not tested yet on the test split; `querier test run=.*b` first"):
        gather(["a", "b"], str(output))
    with pytest.raises(InputError, match="no run 'c'"):
        gather(["a", "c"], str(output))
    with pytest.raises(InputError, match="named twice"):
        gather(["a", str(output / "a")], str(output))
    with pytest.raises(InputError, match="must end in .html"):
        write_report(gather(["a"], str(output)), tmp_path / "page.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(gather(["a"], str(output)), tmp_path / "file" / "page.html")


def test_a_report_replaces_a_report_and_no_other_page(output: Path, tmp_path: Path) -> None:
    write_run(output / "a")
    first = write_report(gather(["a"], str(output)), tmp_path / "page.html").read_bytes()
    assert write_report(gather(["a"], str(output)), tmp_path / "page.html").read_bytes() == first
    (tmp_path / "mine.html").write_text("<!DOCTYPE html><title>querier, my notes</title>")
    with pytest.raises(InputError, match=r"mine\.html holds another page.*give another name"):
        write_report(gather(["a"], str(output)), tmp_path / "mine.html")
    assert "my notes" in (tmp_path / "mine.html").read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("results.json", "{", "results.json: not as `querier test` writes it"),
        ("results.json", "[]", "results.json must hold a JSON object"),
        ("results.json", "{}", "no 'metrics'"),
        ("results.json", '{"metrics": {"rouge_l": {"value": "much"}}}', "could not convert"),
        ("examples.jsonl", '{"id": "a"}\n', "examples.jsonl, line 1: .*no 'query'"),
        ("metrics.csv", "step,train/loss\n1,high\n", "metrics.csv: .*could not convert"),
    ],
)
def test_a_damaged_file_is_named(output: Path, name: str, content: str, said: str) -> None:
    write_run(output / "a")
    (output / "a" / name).write_text(content)
    with pytest.raises(InputError, match=said):
        gather(["a"], str(output))


def test_the_newest_finished_run_is_shown_where_none_is_named(output: Path) -> None:
    write_run(output / "a")
    assert [entry.name for entry in gather([], str(output)).entries] == ["a"]


# parts


def test_sections_can_be_added(output: Path) -> None:
    write_run(output / "a")

    def mine(report: Report) -> tuple[str, Markup]:
        return "Mine: <b>", Markup("<em>{}</em>").format(report.entries[0].name)

    page = html.fromstring(render(gather(["a"], str(output)), (*SECTIONS, mine)))
    assert page.get_element_by_id("mine").xpath("./em/text()") == ["a"]
    assert "comparison" not in [one.get("id") for one in page.xpath("//section")]  # it had nothing to show


@pytest.mark.parametrize(
    "values", [[0.0], [0.0, 1.0], [-0.0102, 0.0], [0.07, 0.085], [1234.0, 99999.0], [5.0, 5.0], [1e-9, 2e-9], []]
)
def test_an_axis_holds_its_values_and_has_round_numbers(values: list[float]) -> None:
    made = scale(values, 20, 320)
    places = [made(value) for value in values]
    assert all(20 <= place <= 320 for place in places)
    assert places == sorted(places)
    ticks = made.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(20 <= place <= 320 for place, _ in ticks)
    assert [place for place, _ in ticks] == pytest.approx([made(float(said)) for _, said in ticks], abs=0.2)
    assert len({said for _, said in ticks}) == len(ticks)


def test_runs_differ_by_more_than_colour() -> None:
    looks = [style(place) for place in range(35)]
    assert len({(one.colour, one.shape, one.dash) for one in looks}) == 35
    assert len({one.shape for one in looks[:7]}) == len({one.colour for one in looks[:7]}) == 7


def test_long_curves_are_means_of_neighbours() -> None:
    curve = [(float(step), float(step % 10)) for step in range(3000)]
    thin = thinned(curve)
    assert len(thin) <= 150
    assert thin[0] == (19.0, 4.5)
    assert thin[-1][0] == 2999.0
    assert thinned(curve[:100]) == curve[:100]


def test_examples_without_a_score_do_no_harm(output: Path) -> None:
    rows = [row | {"scores": {}} for row in examples(4, 0.5)]
    folder = write_run(output / "a", rows=rows)
    assert data(page_of(["a"], output))["scores"] == []
    write_lines(folder / "examples.jsonl", [])
    assert "no examples" in text(section(page_of(["a"], output), "examples")).lower()
