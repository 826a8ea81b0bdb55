"""What text the decoder reads: the dialogue's turns, querier as user and responder as assistant (design 2)."""

from __future__ import annotations

from collections.abc import Callable

from querier.config import PromptConfig
from querier.types import Dialogue, Rendered

Renderer = Callable[[Dialogue, str | None], Rendered]


def renderer(config: PromptConfig) -> Renderer:
    """A function that renders a dialogue, showing the querier under the given name (None: under their own)."""

    def render(dialogue: Dialogue, name: str | None = None) -> Rendered:
        shown = (name or dialogue.querier) if config.name_querier else None
        return render_plain(dialogue, shown)

    return render


def render_plain(dialogue: Dialogue, name: str | None) -> Rendered:
    """Turns by role; consecutive turns of one role are joined, a leading responder turn is quoted as context.

    Args:
        dialogue: Whose last turn is the reply.
        name: The querier's name, written before their first words; None leaves it out, and a decoder without a chat
            template then reads `User:`.
    """
    quoted: list[str] = []
    turns: list[tuple[str, str]] = []
    for turn in dialogue.turns[:-1]:
        role = "assistant" if turn.speaker == dialogue.responder else "user"
        if role == "assistant" and not turns:
            quoted.append(turn.text)
        elif turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n{turn.text}")
        else:
            turns.append((role, turn.text))
    opening = f"{name}: {turns[0][1]}" if name else turns[0][1]
    if quoted:
        opening = '"' + "\n".join(quoted) + '"\n' + opening
    turns[0] = ("user", opening)
    return Rendered(tuple(turns), dialogue.reply, (name or "User", dialogue.responder))
