"""What text the decoder reads: the dialogue's turns, querier as user and responder as assistant.

A method may put earlier dialogues before them, as turns of their own, and a description of querier or responder at the
head of the dialogue's first user turn. A prompt is cut at its left, so the most relevant earlier dialogue stands last.
"""

from __future__ import annotations

from collections.abc import Sequence

from querier.choices import Profile
from querier.config import Config, PromptConfig
from querier.data.preparation import Prepared
from querier.data.requests import Reading, Render
from querier.llm import Completes, Llm
from querier.methods.profiles import profiler
from querier.methods.retrieval import Item, retriever
from querier.types import Dialogue, Rendered

NAMELESS = "the user"  # in a description, where the querier's name is not shown


def build_renderer(config: Config, prepared: Prepared | None, llm: Completes | None = None) -> Render:
    """The prompt of a run, with the text LLM that its configuration names where one is needed and none is given.

    Raises:
        InputError: The prompt needs a pool, a file or a text LLM that is not there.
    """
    asked = Llm(config.llm) if config.prompt.asks_llm and llm is None else llm
    return renderer(config.prompt, prepared, asked)


def renderer(config: PromptConfig, prepared: Prepared | None = None, llm: Completes | None = None) -> Render:
    """The prompt of a method.

    Args:
        config: What stands in it.
        prepared: The corpus, for prompts that read its training pool.
        llm: Writes descriptions for `distil=llm`.

    Raises:
        InputError: The prompt needs a pool, a file or a text LLM that is not there.
    """
    retrieve, describe = retriever(config, prepared), profiler(config, prepared, llm)

    def render(reading: Reading) -> Rendered:
        shown = (reading.name or reading.dialogue.querier) if config.name_querier else None
        items = [] if retrieve is None else retrieve(reading)
        names = [(item.querier or shown) if config.name_querier else None for item in items]
        about = "" if describe is None else describe(reading)
        if about:
            whom = reading.dialogue.responder if config.profile is Profile.responder else shown or NAMELESS
            about = f"[About {whom}: {about}]"
        return render_plain(reading.dialogue, shown, list(zip(names, items, strict=True)), about)

    return render


def render_plain(
    dialogue: Dialogue, name: str | None, items: Sequence[tuple[str | None, Item]] = (), about: str = ""
) -> Rendered:
    """Turns by role; consecutive turns of one role are joined, a leading responder turn is quoted as context.

    Args:
        dialogue: Whose last turn is the reply.
        name: The querier's name, written before their first words; None leaves it out, and a decoder without a chat
            template then reads `User:`.
        items: Earlier dialogues and the names that are written before their queries, the most relevant first.
        about: A line at the head of the dialogue's first user turn.
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
    head = [about] if about else []
    if quoted:
        head.append('"' + "\n".join(quoted) + '"')
    turns[0] = ("user", "\n".join([*head, _said(name, turns[0][1])]))
    names = [*(shown for shown, _ in reversed(items)), name]
    earlier = [
        turn
        for shown, item in reversed(items)
        for turn in (("user", _said(shown, item.query)), ("assistant", item.reply))
    ]
    named = tuple(2 * place for place, shown in enumerate(names) if shown)
    marks = tuple((2 * place, item.marks) for place, (_, item) in enumerate(reversed(items)) if item.marks)
    return Rendered((*earlier, *turns), dialogue.reply, (name or "User", dialogue.responder), named, marks)


def _said(name: str | None, text: str) -> str:
    return f"{name}: {text}" if name else text
