"""The report's script in a real browser: sorting, switching, searching, turning pages, and a page that fits a phone."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from lxml import etree
from made_runs import cold_start, examples, write_comparison, write_run

from querier.analysis.report.page import write_report
from querier.analysis.report.sources import gather
from querier.analysis.report.space import Map

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WICKED = "<img src=x onerror=alert(1)>"
SECONDS = 120

# Uses the page as a reader does and leaves what it saw in an attribute.
PROBE = """
const seen = {};
const root = document.documentElement;
const all = (query) => Array.from(document.querySelectorAll(query));
const set = (id, value) => {
  const one = document.getElementById(id);
  one.value = value;
  one.dispatchEvent(new Event("input", { bubbles: true }));
  return Number(root.dataset.shown);
};
const order = () => all("#main-table tbody tr").map((row) => row.cells[0].textContent.trim());
const button = document.querySelector("#main-table [data-metric=rouge_l]");
const cards = () => all(".card").map((card) => card.querySelector(".query").textContent);
seen.width = innerWidth;
seen.overflow = root.scrollWidth - innerWidth;
button.click();
seen.best = [order(), button.closest("th").getAttribute("aria-sort")];
button.click();
seen.worst = [order(), button.closest("th").getAttribute("aria-sort")];
document.querySelector("#main-table [data-metric=nll_per_byte], #main-table [data-text]").click();
seen.named = order();
document.querySelector("[data-show=unseen]").click();
const visible = (query) => all(query).map((one) => Boolean(one.offsetParent));
seen.unseen = [visible("#main-table .g-unseen").every(Boolean), visible("#main-table .g-all").some(Boolean)];
seen.pressed = all("[data-show][aria-pressed=true]").map((one) => one.dataset.show);
seen.replied = Number(root.dataset.shown);
seen.shown = cards().length;
seen.first = cards()[0];
document.getElementById("after").click();
seen.second = cards()[0];
seen.everything = set("kind", "all");
seen.failed = set("kind", "failed");
seen.errors = all(".card .bad").map((one) => one.textContent);
set("kind", "replied");
seen.querier = set("querier", "QUERIER 1");
set("querier", "");
seen.found = set("find", "number 13 rise");
set("find", "");
set("order", "-1");
seen.last = cards()[0];
set("order", "1");
set("of", "1-0");
seen.ahead = cards()[0];
seen.nothing = set("find", "nobody said this");
set("find", "onerror");
seen.wicked = all(".card .text").map((one) => one.textContent).filter((one) => one.includes("onerror")).length;
seen.images = all("img").length;
parent.document.documentElement.dataset.probe = JSON.stringify(seen);
"""


# Saves each kind of picture and leaves what would have been downloaded.
SAVER = """
const saved = {};
HTMLAnchorElement.prototype.click = function () {
  saved[this.download] = this.href;
  parent.document.documentElement.dataset.probe = JSON.stringify(saved);
};
const press = (query) => document.querySelector(query).click();
press("#helpfulness .save button[aria-label^='Save as SVG']");
press("#space .save button[aria-label^='Save as SVG']");
press("#space .save button[aria-label^='Save as PNG']");
"""


# Makes the rules for paper hold on the screen, and leaves which controls are still seen.
PRINTER = """
const rules = Array.from(document.styleSheets).flatMap((sheet) => Array.from(sheet.cssRules));
const print = rules.filter((rule) => rule.media && rule.media.mediaText === "print");
const paper = print.flatMap((rule) => Array.from(rule.cssRules));
const seen = (query) => Array.from(document.querySelectorAll(query)).filter((one) => one.offsetParent).length;
const controls = ["nav", ".switch", ".controls", ".save", ".pages"];
const before = controls.map(seen);
const style = document.createElement("style");
style.textContent = paper.map((rule) => rule.cssText).join(" ");
document.head.append(style);
const left = { before, after: controls.map(seen), cards: seen(".card") };
parent.document.documentElement.dataset.probe = JSON.stringify(left);
"""


# Leaves which way texts and what stands beside a name are written.
WRITING = """
const card = document.querySelector(".card");
const who = card.querySelector(".who");
const beside = Array.from(who.childNodes).find((one) => one.nodeType === 3 && one.data.includes("querier"));
const at = (place) => {
  const range = document.createRange();
  range.setStart(beside, place);
  range.setEnd(beside, place + 1);
  return range.getBoundingClientRect().left;
};
const first = beside.data.indexOf("querier");
const texts = Array.from(card.querySelectorAll(".text"));
const directions = texts.map((one) => getComputedStyle(one).direction);
const written = { forwards: at(first) < at(first + 6), directions };
parent.document.documentElement.dataset.probe = JSON.stringify(written);
"""


def browse(page: Path, profile: Path) -> tuple[str, str]:
    """What the page is after its script ran, and what the browser said."""
    assert CHROMIUM is not None
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    words += ["--window-size=1400,900", f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def page(tmp_path: Path) -> Path:
    for name, rouge in (("a-run-with-quite-a-long-name-" * 3, 0.25), ("b", 0.75), ("c", 0.5)):
        rows = examples(30, rouge)
        if name == "b":
            rows[0] |= {"error": "the reply could not be scored"}
            rows[1] |= {"reply": WICKED + "a" * 500}
            rows[21]["scores"]["rouge_l"] = 1.0
        write_run(tmp_path / "outputs" / name, rouge, rows, cold_start=cold_start(rouge))
    names = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    write_comparison(tmp_path / "outputs" / "compare" / "small")
    return write_report(gather(names, str(tmp_path / "outputs")), tmp_path / "page.html")


def probed(page: Path, width: int, script: str = PROBE) -> dict[str, Any]:
    """What the script saw, in a copy that lets it run: the page itself lets no other script run.

    The copy lies in a frame of the asked width, because a window of the browser cannot be as narrow as a phone.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text(encoding="utf-8"))
    inner = html.escape(text.replace("</body>", f"<script>{script}</script></body>"))
    copy = page.with_name("probed.html")
    copy.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><iframe width="{width}" height="844" style="border:0" srcdoc="{inner}">'
        "</iframe>",
        encoding="utf-8",
    )
    dom, said = browse(copy, page.parent / "profile")
    assert "CONSOLE" not in said
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found, said
    seen: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return seen


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_reader_can_use_the_page(page: Path, width: int) -> None:
    dom, said = browse(page, page.parent / "profile")
    assert 'data-ready="true"' in dom
    assert "CONSOLE" not in said
    seen = probed(page, width)
    assert seen["width"] == width
    assert seen["overflow"] <= 0
    a = "a-run-with-quite-a-long-name-" * 3
    assert seen["best"] == [["b", "c", a], "descending"]
    assert seen["worst"] == [[a, "c", "b"], "ascending"]
    assert seen["named"] == [a, "b", "c"]
    assert seen["unseen"] == [True, False]
    assert set(seen["pressed"]) == {"unseen"}
    assert (seen["replied"], seen["shown"], seen["everything"]) == (15, 10, 30)
    assert (seen["failed"], seen["errors"]) == (1, ["Failed: the reply could not be scored"])
    assert seen["first"] == "Why does bread number 21 rise?"
    assert seen["second"] == "Why does bread number 9 rise?"
    assert (seen["querier"], seen["found"], seen["nothing"]) == (8, 1, 0)
    assert seen["last"] == "Why does bread number 1 rise?"
    assert seen["ahead"] == "Why does bread number 21 rise?"  # where b is furthest before a
    assert (seen["wicked"], seen["images"]) == (1, 0)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")
def test_no_other_script_runs_in_the_page(page: Path) -> None:
    hurt = "<script>document.documentElement.dataset.hurt = 'true'</script></body>"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", hurt), encoding="utf-8")
    dom, said = browse(page, page.parent / "profile")
    assert "data-hurt" not in dom
    assert "Content Security Policy" in said
    assert 'data-ready="true"' in dom


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")
def test_on_paper_there_is_nothing_to_press(page: Path) -> None:
    seen = probed(page, 1280, PRINTER)
    assert min(seen["before"]) > 0
    assert seen["after"] == [0] * 5
    assert seen["cards"] > 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")
def test_a_name_turns_nothing_around_and_a_text_runs_as_its_letters_do(tmp_path: Path) -> None:
    rows = examples(2, 0.5)[1:]
    rows[0] |= {"querier": "Ann\u202e", "query": "\u05dc\u05de\u05d4?", "reply": "\u05db\u05db\u05d4."}
    write_run(tmp_path / "outputs" / "a", 0.5, rows)
    page = write_report(gather(["a"], str(tmp_path / "outputs")), tmp_path / "page.html")
    assert probed(page, 1280, WRITING) == {"forwards": True, "directions": ["rtl", "ltr", "rtl"]}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")
def test_pictures_are_saved_as_they_are_seen(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs" / "a")
    report = gather(["a"], str(tmp_path / "outputs"))
    square = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="40" height="30"/></svg>'
    source = "data:image/svg+xml;base64," + base64.b64encode(square.encode()).decode()
    page = write_report(replace(report, maps=[Map("a", "side", source, "n = 3")]), tmp_path / "page.html")
    _, said = browse(page, tmp_path / "profile")
    assert "CONSOLE" not in said  # the page's own rules let it show the picture
    saved = probed(page, 1280, SAVER)
    curve = next(unquote(text) for name, text in saved.items() if name.endswith(".svg") and "side" not in name)
    head, _, drawing = curve.partition(",")
    assert head == "data:image/svg+xml;charset=utf-8"
    assert etree.fromstring(drawing).tag == "{http://www.w3.org/2000/svg}svg"
    assert "font-size: 12px" in curve  # which is said by the page's style, not by the picture
    assert saved["a_queriers_by_side.svg"] == source
    dots = base64.b64decode(saved["a_queriers_by_side.png"].partition("base64,")[2])
    assert dots[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", dots[16:24]) == (120, 90)
