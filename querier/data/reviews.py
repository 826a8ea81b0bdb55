"""Reader of Amazon's reviews: a querier wants the review that they would write of an item, and gets it.

The layouts of 2014 and 2018 (`reviewerID`, `asin`, `overall`, `summary`, `reviewText`, `unixReviewTime`) and of 2023
(`user_id`, `parent_asin` or `asin` or `item_id`, `rating`, `title`, `text`, `timestamp`) are told apart by who writes.
One object on each line; a name that ends in `.gz` is unpacked. `data.items` names a file of the same form with the
items: `parent_asin` or `asin` or `item_id`, `title`, `description` (a text or a list of texts).

The query is `data.tasks.review.query`, filled from the review (`rating`, `title`) and the item (`item`, `item_title`,
`item_description`); the reply is the review. Which reviews are used, and their parts, is told in
`querier/data/review_filters.py`. Reviews without a text, and copies of a review, are left out and counted.

References:
    Hou et al.: Bridging language and items for retrieval and recommendation, 2024 (Amazon Reviews 2023).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from querier.choices import Filters, SplitBy
from querier.data.parsing import check_text, check_time, counted
from querier.data.questions import ASSISTANT, Task
from querier.data.review_filters import Item, Review, filtered
from querier.data.sources import Source, check_exists, decode, open_bytes
from querier.data_config import DataConfig
from querier.errors import InputError

TASK = "review"
ITEMS = ("parent_asin", "asin", "item_id")
KNOWN = ("item", "item_title", "item_description", "rating", "title")
MARKER = "Product Description"  # a heading that stands first in many descriptions of 2023


@dataclass(frozen=True)
class Layout:
    """What the fields of a review are called."""

    user: str
    rating: str
    title: str
    text: str
    time: str


LAYOUTS = (
    Layout("reviewerID", "overall", "summary", "reviewText", "unixReviewTime"),
    Layout("user_id", "rating", "title", "text", "timestamp"),
)


def read_reviews(config: DataConfig, notes: list[str]) -> Iterator[Source]:
    """The reviews of a file as dialogues, filtered, with their parts.

    Raises:
        InputError: When the layout is not known, a needed setting is missing, or nothing passes the filters.
    """
    task = _task(config)
    reviews, faults = _reviews(Path(config.path), notes)
    yield from faults
    items = _items(Path(config.items), {review.item for review in reviews}) if config.items else {}
    if config.items:
        known = sum(review.item in items for review in reviews)
        notes.append(f"{known} of {counted(len(reviews), 'review')} are of an item that data.items describes")
    parts = filtered(reviews, items, config.filters, notes)
    if reviews and not parts:
        raise InputError(f"no review of {config.path} passes data.filters={config.filters}; {'; '.join(notes)}")
    often: Counter[str] = Counter()
    for review, part in sorted(parts, key=lambda one: (one[0].time, one[0].place)):
        often[f"{review.user}/{review.item}"] += 1
        yield _record(review, part, items.get(review.item), often[f"{review.user}/{review.item}"], task)


def _task(config: DataConfig) -> Task:
    if config.filters is not Filters.none and config.split is not SplitBy.given:
        raise InputError(
            f"data.filters={config.filters} brings parts of its own: data.split=given, got data.split={config.split}"
        )
    if config.filters is Filters.dpl and not config.items:
        raise InputError(
            "data.filters=dpl chooses items by their descriptions; say data.items=<the file that has them>, or take "
            "data.filters=min_reviewers_4"
        )
    if TASK not in config.tasks:
        raise InputError(f"data.tasks has no `{TASK}`; take it from the file: data=reviews data.path=...")
    task = Task(TASK, config.tasks[TASK])
    task.query.check(KNOWN)  # the text itself is the answer
    task.reply.check((*KNOWN, "text"))
    return task


def _reviews(path: Path, notes: list[str]) -> tuple[list[Review], list[Source]]:
    """The reviews with a text, each once, and the records that cannot be used."""
    reviews: list[Review] = []
    faults: list[Source] = []
    met: set[tuple[str, str, int, str]] = set()
    layout: Layout | None = None
    empty = copies = 0
    for line, text, record, fault in _objects(path, "data.path"):
        try:
            if fault:
                raise InputError(fault)
            layout = layout or _layout(record)
            review = _review(record, layout, len(reviews), Source(str(path), line, text))
        except InputError as error:
            faults.append(Source(str(path), line, text, fault=str(error)))
            continue
        key = (review.user, review.item, review.time, review.text)
        if not review.text.strip():
            empty += 1
        elif key in met:
            copies += 1
        else:
            met.add(key)
            reviews.append(review)
    if empty:
        notes.append(f"{counted(empty, 'review')} left out: no text")
    if copies:
        notes.append(f"{counted(copies, 'review')} left out: the same stands there before")
    return reviews, faults


def _layout(record: Mapping[str, Any]) -> Layout:
    for layout in LAYOUTS:
        if layout.user in record:
            return layout
    users = " or ".join(f"`{layout.user}`" for layout in LAYOUTS)
    raise InputError(
        f"no {users} says who wrote it, the record has {', '.join(sorted(map(str, record)))}; take a published file of "
        "reviews, or another data.reader"
    )


def _review(record: Mapping[str, Any], layout: Layout, place: int, source: Source) -> Review:
    item = next((name for name in ITEMS if record.get(name) is not None), "")
    for name in (layout.user, item, layout.time):
        if record.get(name) is None:
            missing = f"`{name}`" if name else " or ".join(f"`{one}`" for one in ITEMS)
            raise InputError(f"field {missing}: missing; take a published file of reviews")
    text, title = (_or_empty(record.get(name), name) for name in (layout.text, layout.title))
    return Review(
        source=source,
        place=place,
        user=check_text(record[layout.user], f"field `{layout.user}`"),
        item=check_text(record[item], f"field `{item}`"),
        rating=record.get(layout.rating),
        title=title,
        text=text,
        time=check_time(record[layout.time], f"field `{layout.time}`"),
    )


def _or_empty(value: object, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise InputError(f"field `{name}`: must be text, got {value!r}")
    return value or ""


def _items(path: Path, wanted: set[str]) -> dict[str, Item]:
    """Title and description of the items that are reviewed."""
    found: dict[str, Item] = {}
    for line, _, record, fault in _objects(path, "data.items"):
        name = next((record[name] for name in ITEMS if record.get(name)), None) if not fault else None
        if name is None:
            reason = fault or f"none of {', '.join(ITEMS)} names the item"
            raise InputError(f"{path}:{line}: {reason}; data.items takes one object a line for each item")
        if name in wanted and name not in found:
            found[name] = Item(str(record.get("title") or "").strip(), _description(record.get("description")))
    return found


def _description(value: object) -> str:
    parts = value if isinstance(value, list) else [value]
    texts = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    return " ".join(texts[1:] if texts[:1] == [MARKER] else texts)


def _objects(path: Path, setting: str) -> Iterator[tuple[int, str, dict[str, Any], str]]:
    """Line, text and object of each line that is not empty, and what is wrong with it."""
    check_exists(path, setting)
    if path.is_dir():
        raise InputError(f"{setting}: {path} is a folder; give one file")
    for line, content in enumerate(_lines(path), start=1):
        text, fault = decode(content, first=line == 1)
        if not text.strip():
            continue
        record: Any = {}
        if not fault:
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                fault = f"not JSON: {error}; one object in braces on each line is read"
        if not fault and not isinstance(record, dict):
            fault = f"a record must be a JSON object, got {type(record).__name__}"
        yield line, text, record if not fault else {}, fault


def _lines(path: Path) -> Iterable[bytes]:
    with open_bytes(path) as file:
        if path.suffix != ".gz":
            yield from file
            return
        try:
            with gzip.open(file) as unpacked:
                yield from unpacked
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked ({error}); load it again") from error


def _record(review: Review, part: str, item: Item | None, number: int, task: Task) -> Source:
    values = {
        "item": review.item,
        "item_title": item.title if item else None,
        "item_description": item.description if item else None,
        "rating": review.rating,
        "title": review.title,
        "text": review.text,
    }
    record = {
        "id": f"{review.user}/{review.item}" + (f"/{number}" if number > 1 else ""),
        "querier": review.user,
        "responder": ASSISTANT,
        "query": task.query(values),
        "reply": task.reply(values),
        "time": review.time,
        "item": review.item,
        "split": part,
        "task": TASK,
        "rating": review.rating,
    }
    return Source(review.source.file, review.source.line, review.source.text, record)
