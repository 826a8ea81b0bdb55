"""Maps on the report: one for each label, the picture inside the page, and nothing drawn that is not known."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from fitted import untrained_responder
from lxml import html
from made_runs import write_run

from querier.analysis.figures import GREY
from querier.analysis.report.page import render
from querier.analysis.report.sources import Report, gather
from querier.analysis.report.space import SEEN, Map, read_labels, space_maps
from querier.errors import InputError
from querier.responder import Responder


@pytest.fixture(scope="module")
def responder(tmp_path_factory: pytest.TempPathFactory) -> Responder:
    return untrained_responder(tmp_path_factory.mktemp("maps"))


def test_each_label_has_a_map_with_its_numbers(responder: Responder) -> None:
    sides = {f"q{number}": "left" if number < 5 else "right" for number in range(10)}
    drawn = space_maps(responder, "first", {"side": sides, "team": {"q1": "north"}})
    assert [one.label for one in drawn] == ["side", "team", SEEN]
    assert "n = 10" in drawn[0].note
    assert "shuffled" in drawn[0].note
    assert drawn[1].note == "no probe: all who have this label have north"
    assert drawn[2].note == "no probe: a probe needs 3 queriers of each value, no has 1"
    head, _, content = drawn[1].source.partition(",")
    picture = base64.b64decode(content).decode()
    assert head == "data:image/svg+xml;base64"
    assert picture.rstrip().endswith("</svg>")
    assert space_maps(responder, "first", {"side": sides})[0].note == drawn[0].note
    assert "not known (9)" in picture


def test_who_has_no_label_is_drawn_in_grey_and_not_judged(responder: Responder) -> None:
    sides = {f"q{number}": "left" if number < 5 else "right" for number in range(9)}
    whole, _ = space_maps(responder, "first", {"side": {**sides, "q9": "right"}})
    some, _ = space_maps(responder, "first", {"side": sides})
    assert "n = 10" in whole.note
    assert "n = 9" in some.note  # and no class of those whom nobody labelled
    assert "chance .50" in some.note
    picture = base64.b64decode(some.source.partition(",")[2]).decode()
    assert "not known (1)" in picture
    assert GREY.lower() in picture
    assert space_maps(responder, "first", {"side": {"x": "y"}})[0].note == "no probe: nobody on the map has this label"


def test_the_page_holds_the_pictures_and_escapes_what_stands_beside_them(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs" / "a")
    report = gather(["a"], str(tmp_path / "outputs"))
    assert "The space of queriers" not in render(report)
    maps = [Map("a", "<b>side", "data:image/svg+xml;base64,AAAA", "n = 3")]
    page = html.fromstring(render(Report(report.title, report.entries, maps=maps)))
    figure = page.get_element_by_id("space").xpath(".//figure")[0]
    assert figure.xpath(".//img/@src") == ["data:image/svg+xml;base64,AAAA"]
    assert "queriers by <b>side" in " ".join(figure.text_content().split())
    assert "img-src data:" in page.xpath("//meta/@content")[-1]


def test_labels_may_hold_any_sign_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"querier": "Ann", "team": "one\u2028line"}\n\n{"querier": "Bob", "team": "south"}\n')
    assert read_labels(path) == {"team": {"Ann": "one\u2028line", "Bob": "south"}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"labels.jsonl:1: got '\{', wanted an object such as"),
        ('{"team": "north"}', "labels.jsonl:1: got .* wanted an object"),
        ('{"querier": "Ann"}', "no label in it; each line holds a querier and one label at least"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text(content + "\n")
    with pytest.raises(InputError, match=said):
        read_labels(tmp_path / "labels.jsonl")
    with pytest.raises(InputError, match="nowhere.jsonl: cannot be read"):
        read_labels(tmp_path / "nowhere.jsonl")
