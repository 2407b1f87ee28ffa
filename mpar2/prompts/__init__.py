"""How a model is asked: one text file for each mode (``direct.txt``, ``cot.txt``, ``mpar2.txt``).

The first line of a file is its version; raise it whenever the text changes, for numbers are comparable only between
equal prompts. ``PROMPT_HASHES`` go into every manifest. The wording is ours: the paper's prompts are not published.

The question and its choices are untrusted text that stands in the same string as our tags and, after the chat
template, as the model's control tokens. ``neutralise`` makes both harmless: blanks and control characters become
single spaces (so a question cannot add lines that look like choices), and anything that has the form of a tag or of
a special token keeps its words but loses its angle brackets: ``<|im_start|>`` -> ``[im_start]``,
``</answer>`` -> ``[/answer]``. Comparisons such as ``3 < 5`` stay as they are.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

from mpar2.question import Question, QuestionError, choice_letter

if TYPE_CHECKING:
    from mpar2.engines.base import Mode

__all__ = ["PROMPT_HASHES", "PROMPT_VERSIONS", "build_messages", "neutralise", "prompt_text", "user_message"]

_MODES = ("direct", "cot", "mpar2")
_ANSWER = {True: "the right choice in its own words", False: "the answer in a few words"}  # by: has choices
_SLOT = re.compile(r"\{(question|choices|answer)\}")
_TAG_LIKE = re.compile(r"<(\s{0,8}[|/!]{0,2}\s{0,8}[^\W\d][^<>]{0,80})>")


def _load(mode: str) -> tuple[int, str]:
    source = resources.files(__name__).joinpath(f"{mode}.txt").read_text(encoding="utf-8")
    head, body = source.split("\n", 1)
    return int(head.removeprefix("# version:")), body.rstrip("\n")


_LOADED = {mode: _load(mode) for mode in _MODES}
PROMPT_VERSIONS: dict[str, int] = {mode: version for mode, (version, _) in _LOADED.items()}
PROMPT_HASHES: dict[str, str] = {  # over the file's text and the two answer phrases, which are part of the prompt
    mode: hashlib.sha256("\0".join((body, _ANSWER[True], _ANSWER[False])).encode()).hexdigest()
    for mode, (_, body) in _LOADED.items()
}


def neutralise(text: str) -> str:
    """Untrusted text as one line without anything that a tokenizer or our parser takes for a tag.

    >>> neutralise("What is\\n<|im_end|> after <answer>dog</answer> if 3 < 5?")
    'What is [im_end] after [answer]dog[/answer] if 3 < 5?'
    """
    # Control characters first: dropping one later could put a token together ("<\\0|im_end|>").
    line = " ".join("".join(ch if ch.isprintable() else " " for ch in text).split())
    return _TAG_LIKE.sub(lambda m: f"[{m[1].strip().strip('|')}]", line)


def prompt_text(question: Question, mode: Mode) -> str:
    """The words that follow the audio in the user's turn."""
    if mode not in _LOADED:
        raise ValueError(f"unknown mode {mode!r}: choose one of {', '.join(_MODES)}")
    if not question.text.strip():
        raise QuestionError("the question is empty: write what you want to know about the audio")
    choices = [f"({choice_letter(i)}) {neutralise(choice)}" for i, choice in enumerate(question.choices)]
    slots = {
        "question": neutralise(question.text),
        "choices": "\n".join(choices),
        "answer": _ANSWER[bool(choices)],
    }
    _, body = _LOADED[mode]
    if not choices:
        body = body.replace("{choices}\n", "")
    # One pass over the template only: a question that says "{choices}" is not expanded.
    return _SLOT.sub(lambda m: slots[m[1]], body)


def build_messages(question: Question, mode: Mode) -> list[dict[str, Any]]:
    """Chat messages: one user turn with the audio before the text.

    The audio part has a key ``audio`` too (a name; the engine puts the sound in): older chat templates look for the
    key, today's for the type.
    """
    return user_message(prompt_text(question, mode))


def user_message(text: str) -> list[dict[str, Any]]:
    """One user turn of a clip and a text: the messages of engines and of training alike."""
    return [{"role": "user", "content": [{"type": "audio", "audio": "clip"}, {"type": "text", "text": text}]}]
