"""The examples of the Compare tab: clips with a question, their truth and credits, and a stored comparison.

A folder ``examples/<name>`` holds the clip, ``example.json`` and, once made (``python -m pages.store``),
``comparison.json``: a comparison document (``pages.document``) without the audio, which is read from the clip.

    example.json   title, clip (file name), kind (recording or scene), question, choices, answer, domain, difficulty,
                   events [{label, onset_s, offset_s}] or null, truth_origin (scene, human, ...) or null,
                   credits (who made the sound, where it is from), licence

``examples/index.json`` is ``{"order": [names], "first": name}``: the order of the cards, and what the first screen
shows. Folders that it leaves out come after, by name.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpar2.audio import AudioError, Clip, load_clip
from mpar2.question import Event, Question, QuestionError, item_from_json
from pages.document import DocumentError, audio_uri, check_document

__all__ = ["EXAMPLES", "Example", "first_example", "load_examples", "read_example", "stored_comparison"]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_LARGEST = 16_000_000  # bytes of a stored comparison
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One example. ``folder`` is ours, never a visitor's."""

    name: str
    folder: Path
    title: str
    clip_path: Path
    kind: str
    question: Question
    events: tuple[Event, ...] | None
    truth_origin: str | None
    credits: str

    @cached_property
    def clip(self) -> Clip:
        """The decoded clip, under the name of the example."""
        return load_clip(self.clip_path, name=self.title)

    @property
    def digest(self) -> str:
        return self.clip.digest

    @property
    def comparison_path(self) -> Path:
        return self.folder / "comparison.json"

    def card(self) -> dict[str, Any]:
        """What the gallery shows."""
        return {
            "name": self.name,
            "title": self.title,
            "kind": self.kind,
            "difficulty": self.question.difficulty,
            "domain": self.question.domain,
            "seconds": round(self.clip.seconds, 1),
            "stored": self.comparison_path.exists(),
        }


def read_example(folder: Path) -> Example:
    """Read ``example.json``. Raises ``ValueError`` where it is not complete."""
    try:
        data = json.loads((folder / "example.json").read_text(encoding="utf-8"))
        item = item_from_json(data | {"audio": data["clip"]}, id=folder.name)
        clip_path = folder / Path(data["clip"]).name
        credits = " · ".join(text for text in (data.get("credits"), data.get("licence")) if text)
        if not clip_path.is_file() or not credits:
            raise ValueError("its clip is missing" if credits else "it has no credits or licence")
        return Example(
            name=folder.name,
            folder=folder,
            title=str(data["title"]),
            clip_path=clip_path,
            kind=str(data.get("kind", "recording")),
            question=item.question,
            events=item.events,
            truth_origin=item.truth_origin,
            credits=credits,
        )
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, QuestionError) as error:
        raise ValueError(f"example '{folder.name}' cannot be read: {type(error).__name__} {error}") from error


def load_examples(root: Path = EXAMPLES) -> tuple[Example, ...]:
    """All examples in their order. One that cannot be read is left out, and the log says why."""
    folders = sorted(path.parent for path in root.glob("*/example.json"))
    order = _index(root).get("order") or []
    folders.sort(key=lambda folder: (order.index(folder.name) if folder.name in order else len(order), folder.name))
    found = []
    for folder in folders:
        try:
            example = read_example(folder)
            example.clip  # noqa: B018 - decoded here, so that a damaged clip is found at the start
        except (ValueError, AudioError) as error:
            _log.warning("left out: %s", error)
        else:
            found.append(example)
    return tuple(found)


def first_example(examples: tuple[Example, ...], root: Path = EXAMPLES) -> str | None:
    """The example of the first screen: the index's, else the first with a stored comparison, else the first."""
    names = [example.name for example in examples]
    if (named := _index(root).get("first")) in names:
        return named
    stored = [example.name for example in examples if example.comparison_path.exists()]
    return next(iter(stored or names), None)


def stored_comparison(example: Example) -> dict[str, Any] | None:
    """The example's stored comparison, checked, with the audio put back in; None where none can be shown."""
    path = example.comparison_path
    try:
        if path.stat().st_size > _LARGEST:
            raise DocumentError(f"it has {path.stat().st_size} bytes; the limit is {_LARGEST}")
        document = check_document(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("the stored comparison of '%s' is left out: %s", example.name, error)
        return None
    clip = document["clip"] | {"audio": audio_uri(example.clip)}
    return document | {"clip": clip, "stored": True}


def _index(root: Path) -> dict[str, Any]:
    try:
        data = json.loads((root / "index.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("examples/index.json cannot be read: %s", error)
        return {}
    return data if isinstance(data, dict) else {}
