"""Pictures of why a reply is as it is: attention over the history, the gate, and the gain of each token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from querier.analysis.extra import need
from querier.analysis.figures import COLOURS, REST, finished, plain

if TYPE_CHECKING:
    from pandas import DataFrame

LETTERS = 46  # of a text beside a bar


def attention_figure(table: DataFrame, who: str, run: str, path: Path | None = None, most: int = 12) -> Any:
    """Bars of a table of `why.attention`, the most looked at on top; the line is even attention.

    Args:
        table: Of one reply.
        who: Who asked.
        run: Its id.
        path: Where the picture is written; the ending gives the format.
        most: Bars.

    >>> table = attention(responder, responder.request("how does rust work", "q3"))
    >>> attention_figure(table, "q3", "first").axes[0].get_xlabel()
    'attention (share; the shares of all 9 sum to 1)'
    """
    shown = table.head(most)
    height = 1.4 + 0.34 * len(shown)
    figure = need("matplotlib.figure").Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots()
    names = [
        _short(query) if rank is None or rank != rank else f"{_short(query)}  [{int(rank)}]"
        for query, rank in zip(
            shown["query"], shown["rank"].astype(object).where(shown["rank"].notna(), None), strict=True
        )
    ]
    shades = [REST if empty else COLOURS[0] for empty in shown["rank"].isna()]
    axes.barh(range(len(shown)), shown["attention"], color=shades)
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(float(table["even"].iloc[0]), color=COLOURS[5], linestyle="--", linewidth=1, label="even attention")
    axes.set_xlabel(f"attention (share; the shares of all {len(table)} sum to 1)")
    axes.set_ylabel("query of the item [rank from newest]", fontsize=8)
    axes.set_title(plain(f"What was read of {who}, n = {len(table) - 1} items, run {run}"), fontsize=11)
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    return finished(figure, path=path)


def gate_figure(table: DataFrame, who: str, run: str, path: Path | None = None) -> Any:
    """Bars of a table of `why.gate`: how far each virtual token is the querier's own.

    Args:
        table: Of one reply.
        who: Who asked.
        run: Its id.
        path: Where the picture is written; the ending gives the format.

    >>> table = gate(responder, responder.request("how does rust work", "q3"))
    >>> gate_figure(table, "q3", "first").axes[0].get_ylabel()
    'virtual token'
    """
    figure = need("matplotlib.figure").Figure(figsize=(6.4, 1.5 + 0.35 * len(table)), layout="constrained")
    axes = figure.subplots()
    axes.barh(table["token"], table["specific"], color=COLOURS[0], label="specific: of the querier")
    axes.barh(table["token"], table["general"], left=table["specific"], color=REST, label="general: of the query")
    axes.set_yticks(list(table["token"]))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("gate (share)")
    axes.set_ylabel("virtual token")
    axes.set_title(plain(f"How far {who} decides, n = {len(table)} virtual tokens, run {run}"), fontsize=11)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    return finished(figure, path=path)


def gain_figure(table: DataFrame, own: str, other: str, run: str, path: Path | None = None) -> Any:
    """Bars of a table of `why.token_gain`, for paper; `html_pieces.gain_html` shows the same as coloured text.

    Args:
        table: Of one reply.
        own: Who asked.
        other: With whom they are compared.
        run: Its id.
        path: Where the picture is written; the ending gives the format.

    >>> table = pd.DataFrame({"token": ["yes", ""], "own": [-0.1, -2.0], "other": [-1.1, -0.5], "gain": [1.0, -1.5]})
    >>> gain_figure(table, "Ann", "Bob", "first").axes[0].get_ylabel()
    'gain (nats)'
    """
    width = min(16.0, 2.5 + 0.24 * len(table))
    figure = need("matplotlib.figure").Figure(figsize=(width, 3.4), layout="constrained")
    axes = figure.subplots()
    shades = [COLOURS[0] if gain > 0 else COLOURS[1] for gain in table["gain"]]
    axes.bar(range(len(table)), table["gain"], color=shades)
    axes.axhline(0, color="black", linewidth=0.8)
    tokens = [plain(token.strip()) or ("␣" if token else "⏎") for token in table["token"]]
    axes.margins(x=0.01)
    axes.set_xticks(range(len(table)), tokens, rotation=90, fontsize=8)
    axes.set_xlabel("token of the reply")
    axes.set_ylabel("gain (nats)")
    title = f"Likelier for {own} (up) than for {other}, n = {len(table)} tokens, run {run}"
    axes.set_title(plain(title), fontsize=11, loc="left", wrap=True)
    return finished(figure, path=path)


def _short(text: str) -> str:
    """One line of a text."""
    line = " ".join(text.split())
    return plain(line if len(line) <= LETTERS else f"{line[: LETTERS - 1]}…")
