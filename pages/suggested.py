"""Suggested questions, of the kinds that the shipped pairs were trained on (``training.scenes.kinds``).

Choices are given only where they do not depend on the clip.
"""

from __future__ import annotations

from typing import Any

QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What can be heard in the audio?", ()),
    ("Which sound comes first?", ()),
    ("Which sound comes last?", ()),
    ("Is there a dog bark in the clip?", ("Yes", "No")),
    ("How many separate times do you hear a bell?", ("1", "2", "3", "4")),
    ("Which sound comes right after the siren?", ()),
    ("Which sound is the longest?", ()),
    ("Which sound is the loudest?", ()),
    ("Which sound is heard more than once?", ()),
    ("Which sound starts right after the longest sound?", ()),
)

_NOTE = (
    "The shipped small pair knows 64 kinds of everyday sound, music and speech in clips of up to about ten seconds, "
    "and questions of these kinds. It understands no speech, and names no song or person: ask it anything else and "
    "it will guess. Give it choices where you can."
)


def suggestion_value() -> dict[str, Any]:
    """Return the questions and the note for the page."""
    return {"questions": [{"text": text, "choices": list(choices)} for text, choices in QUESTIONS], "note": _NOTE}
