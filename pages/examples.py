"""The examples of the Compare tab: clips with a question, their truth and credits, and a stored comparison.

A folder ``examples/<name>`` holds the clip, ``example.json`` and ``comparison.json`` (written by
``python -m pages.store``): a comparison document (``pages.document``) without the audio, which is read from the clip.

    example.json   title, clip (file name), kind (recording or scene), question, choices, answer, domain, difficulty,
                   events [{label, onset_s, offset_s}] or null, truth_origin (scene, human, ...) or null,
                   credits (who made the sound, where it is from), licence

``examples/index.json`` is ``{"order": [names], "first": name}``: the order of the list, and the example of the first
screen. Folders missing in it follow by name. Without ``first``, the first screen shows the example with the largest
gain: free reasoning is wrong, MPAR² is right, and the share of right claims (Acc_per) increases most; ties are resolved
by the order of the list.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpar2.audio import AudioError, Clip, load_clip
from mpar2.question import Event, Question, item_from_json
from pages.document import DocumentError, audio_uri, check_document

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_LARGEST = 16_000_000  # bytes of a stored comparison
_GROUPS = {
    (False, True): "MPAR² helps",
    (True, True): "Both right",
    (False, False): "Both wrong",
    (True, False): "MPAR² harms",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One example. ``folder`` is part of the app, never an upload."""

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
        """Decode the clip, under the name of the example."""
        return load_clip(self.clip_path, name=self.title)

    @property
    def digest(self) -> str:
        return self.clip.digest

    @property
    def comparison_path(self) -> Path:
        return self.folder / "comparison.json"

    @cached_property
    def outcome(self) -> dict[str, Any] | None:
        """Return the outcome of the stored comparison; None if nothing is stored or it cannot be read.

        Returns:
            ``free`` and ``mpar2`` (true, false or None), and ``gain``: MPAR²'s share of right claims minus that of
            free reasoning (or None).
        """
        try:
            arms = json.loads(self.comparison_path.read_text(encoding="utf-8"))["arms"]
            free = next(arm for arm in arms if arm["mode"] == "cot")
            trained = next(arm for arm in arms if arm["mode"] == "mpar2")
            rates = [((arm["cafe"] or {}).get("metrics") or {}).get("acc_per") for arm in (free, trained)]
            gain = None if None in rates else rates[1] - rates[0]
            return {"free": free["correct"], "mpar2": trained["correct"], "gain": gain}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
            return None

    def card(self) -> dict[str, Any]:
        """Return the entry in the list of examples: the question, and the outcomes of free reasoning and MPAR²."""
        outcome = self.outcome
        words = {True: "right", False: "wrong", None: "unscored"}
        group, shows = "Not run yet", "runs when you choose it"
        if outcome is not None:
            results = (outcome["free"], outcome["mpar2"])
            group = _GROUPS.get(results, "Others")
            shows = f"free reasoning {words[results[0]]}, MPAR² {words[results[1]]}"
        return {
            "name": self.name,
            "title": self.title,
            "question": self.question.text,
            "choices": list(self.question.choices),
            "answer": self.question.answer,
            "kind": self.kind,
            "difficulty": self.question.difficulty,
            "seconds": round(self.clip.seconds, 1),
            "digest": self.digest,
            "group": group,
            "shows": shows,
        }


def read_example(folder: Path) -> Example:
    """Read ``example.json``.

    Raises:
        ValueError: The file is missing or incomplete.
    """
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
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"example '{folder.name}' cannot be read: {type(error).__name__} {error}") from error


def load_examples(root: Path = EXAMPLES) -> tuple[Example, ...]:
    """Return all examples in their order. An example that cannot be read is logged and left out."""
    folders = sorted(path.parent for path in root.glob("*/example.json"))
    order = _index(root).get("order") or []
    folders.sort(key=lambda folder: (order.index(folder.name) if folder.name in order else len(order), folder.name))
    examples = []
    for folder in folders:
        try:
            example = read_example(folder)
            example.clip  # noqa: B018 - decoded here, so that a damaged clip is found at the start
        except (ValueError, AudioError) as error:
            _log.warning("left out: %s", error)
        else:
            examples.append(example)
    return tuple(examples)


def first_example(examples: tuple[Example, ...], root: Path = EXAMPLES) -> str | None:
    """Name the example of the first screen: the index's, else that of the largest gain, else a stored one."""
    names = [example.name for example in examples]
    if (configured := _index(root).get("first")) in names:
        return configured
    gains = [
        (example.outcome["gain"], example.name)
        for example in examples
        if example.outcome and (example.outcome["free"], example.outcome["mpar2"]) == (False, True)
    ]
    if known_gains := [pair for pair in gains if pair[0] is not None]:
        return max(known_gains, key=lambda pair: pair[0])[1]
    stored = [example.name for example in examples if example.comparison_path.exists()]
    return next(iter([name for _, name in gains] or stored or names), None)


def stored_comparison(example: Example) -> dict[str, Any] | None:
    """Return the example's stored comparison, checked and with its audio; None if there is none or it is damaged."""
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
