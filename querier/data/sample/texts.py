"""Every phrase of the sample but the facts: what in a reply, and now and then in a query, tells the traits."""

from __future__ import annotations

from typing import Final

from querier.data.sample.facet import Facet
from querier.data.sample.facts_kitchen_and_nature import FACETS as KITCHEN_AND_NATURE
from querier.data.sample.facts_living_and_home import FACETS as LIVING_AND_HOME
from querier.data.sample.facts_machines import FACETS as MACHINES

FACETS: Final[tuple[Facet, ...]] = KITCHEN_AND_NATURE + LIVING_AND_HOME + MACHINES

EXPERTISE: Final = ("lay", "practitioner", "expert")
MANNER: Final = ("warm", "neutral", "terse")
LENGTH: Final = ("one", "three")
DOMAIN: Final = ("kitchen", "garden", "sea", "music", "football", "workshop")

OPENINGS: Final[dict[str, tuple[str, ...]]] = {
    "warm": (
        "Lovely question, my friend:",
        "So glad you asked, dear:",
        "What a joy to explain this:",
        "Happy to help you, friend:",
    ),
    "neutral": (
        "The answer is this:",
        "Here is the answer:",
        "This is how it stands:",
        "To answer the question:",
    ),
    "terse": ("Short version:", "Fact:", "Quick answer:", "Noted:"),
}

LEAD_INS: Final[dict[str, tuple[str, ...]]] = {
    "lay": ("put simply,", "in plain words,", "in everyday terms,"),
    "practitioner": ("on the job,", "in practice,", "in daily work,"),
    "expert": ("strictly speaking,", "in technical terms,", "more formally,"),
}

# Each points to a book, so that what the long replies share is a matter of content and not of length alone.
CLOSINGS: Final[dict[str, tuple[str, ...]]] = {
    "warm": (
        "Do borrow the library book on it, my friend.",
        "You will love the library book about it, dear.",
        "I would gladly lend you a library book on it.",
    ),
    "neutral": (
        "The library has a book on this.",
        "A library book covers the rest.",
        "More stands in the library book.",
    ),
    "terse": ("More in the library book.", "See the library book.", "Rest in a library book."),
}

COMPARISONS: Final[dict[str, tuple[str, ...]]] = {
    "kitchen": (
        "dough left to rise by the stove",
        "soup simmering in a heavy pot",
        "butter melting in a hot pan",
        "a cook tasting the sauce twice",
        "cake cooling on a kitchen rack",
    ),
    "garden": (
        "seedlings reaching for the greenhouse light",
        "roses pruned before the spring",
        "beans climbing a garden trellis",
        "a gardener watering beds at dawn",
        "weeds creeping back between the rows",
    ),
    "sea": (
        "a ship riding out the swell",
        "sailors hauling in a heavy anchor",
        "a lighthouse sweeping over the waves",
        "nets drying in the fishing harbour",
        "a captain steering by the stars",
    ),
    "music": (
        "a choir slowly finding its pitch",
        "drummers holding the beat together",
        "a pianist practising scales at night",
        "an orchestra waiting for the baton",
        "a melody passed between two flutes",
    ),
    "football": (
        "a striker waiting for the pass",
        "a goalkeeper guarding the near post",
        "defenders closing ranks before a corner kick",
        "a referee checking the offside line",
        "a team pressing after the kickoff",
    ),
    "workshop": (
        "a carpenter planing along the grain",
        "a hammer striking the waiting anvil",
        "a chisel cutting a clean joint",
        "glue curing between two clamped boards",
        "a lathe turning a table leg",
    ),
}

LIKENESS_IN_SENTENCE: Final = ("much like", "rather like", "a bit like")
LIKENESS_AS_SENTENCE: Final = ("Think of", "Picture", "It is rather like")

HINT_SHARE: Final = 0.12  # of the queries betray one trait, each trait of HINTS as often as another
HINTS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "expertise": {
        "lay": ("I am new to all this.", "I never studied anything like it."),
        "practitioner": ("I handle this every working day.", "I need it for my trade."),
        "expert": ("I hold a doctorate in this field.", "I lecture on this subject."),
    },
    "manner": {
        "warm": ("I always enjoy our chats.", "Hello again, dear tutor."),
        "neutral": ("A plain tone suits me.", "Keep it matter of fact."),
        "terse": ("No small talk please.", "I am in a hurry."),
    },
    "domain": {
        "kitchen": ("I cook for a living.", "My stove is still hot."),
        "garden": ("I just came in from the garden.", "My tomatoes are ripe at last."),
        "sea": ("I spent my life at sea.", "My boat leaves tonight."),
        "music": ("I play in an orchestra.", "I have choir practice later."),
        "football": ("I coach a football team.", "There is a match tonight."),
        "workshop": ("I have sawdust on my sleeves.", "I build furniture at home."),
    },
}

SMALL_QUESTIONS: Final = (
    "Are you there?",
    "May I ask you something?",
    "Do you have a minute?",
    "Can you hear me?",
    "Is this the tutor?",
    "Are you free now?",
)
ACKNOWLEDGEMENTS: Final = ("Yes, go ahead.", "Yes, please ask.", "I am listening.", "Yes, what is it?")
