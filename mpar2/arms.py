"""The arms of an evaluation: checkpoint, mode, how it decodes, and what is done to what it hears.

A file of arms (YAML) has one entry for each; ``defaults`` hold for all that do not say otherwise::

    defaults: {model: tiny-base, max_new_tokens: 512}
    arms:
      - {name: base direct, mode: direct}
      - {name: base cot, mode: cot}
      - {name: mpar2, model: tiny-mpar2, mode: mpar2}
      - {name: mpar2 deaf, model: tiny-mpar2, mode: mpar2, audio: silent}
      - {name: mpar2 oracle, model: tiny-mpar2, mode: mpar2, perception: oracle}
      - {name: mpar2 cut at 32, model: tiny-mpar2, mode: mpar2, max_reasoning_tokens: 32}
      - {name: cot of 8, mode: cot, samples: 8, temperature: 0.7}

Controls (ours; the paper has none of them). Each is one option of an arm:

``audio: silent``             as much silence as there was sound: what the question alone gives away
``audio: shuffled``           the recording of another item: what any audio gives away
``perception: oracle``        the true events (else the item's caption) stand before the question: what remains to be
                              lost by reasoning
``max_reasoning_tokens: N``   forced length: a trace that still reasons after N tokens is closed and made to answer
``min_reasoning_tokens: N``   forced length: a trace that would answer sooner is made to reason on
``hide_audio_after: 50%``     the audio is masked from the middle of the trace on (or after a number of tokens)
``samples: K``                K answers an item, each of its own seed; the majority of the first k is reported for each
                              k with its tokens, so that votes and longer traces compare at equal cost
``max_new_tokens: N``         a token budget: an answer that does not come within it is missing

Forced lengths and hidden audio need the model in this process (``engines.writer``); services are refused. The seed is
the run's: several seeds are several runs, which the analysis puts beside each other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mpar2.audio import Clip
from mpar2.engines.base import Arm, Decoding, EngineError, Mode
from mpar2.errors import MPAR2Error
from mpar2.question import Event, Item, Question

__all__ = ["ArmError", "EvaluationArm", "arm_from_json", "arm_to_json", "heard", "load_arms", "partners", "told"]

_NAME = re.compile(r"[^|/\\\x00-\x1f]{1,80}")
_ARM_KEYS = ("name", "model", "adapter", "mode")
_OPTIONAL = ("max_reasoning_tokens", "hide_audio_after")  # of decoding: None where they are not asked for
_MAX_SAMPLES = 1000

Audio = Literal["normal", "silent", "shuffled"]
Perception = Literal["own", "oracle"]


class ArmError(MPAR2Error, ValueError):
    """An arm that cannot be run as written."""


@dataclass(frozen=True)
class EvaluationArm:
    """An arm, how it decodes, how often it answers an item, and its controls."""

    arm: Arm
    decoding: Decoding = field(default_factory=Decoding)
    samples: int = 1
    audio: Audio = "normal"
    perception: Perception = "own"

    @property
    def name(self) -> str:
        return self.arm.name

    def can_ask(self, item: Item) -> bool:
        """Whether the item has what the arm needs: a true perception needs the truth."""
        return self.perception == "own" or bool(item.events or item.caption)


def load_arms(path: str | Path, **defaults: Any) -> tuple[EvaluationArm, ...]:
    """The arms of a YAML file; ``defaults`` (of the command line) stand behind those of the file."""
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArmError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("arms"), list) or not data["arms"]:
        raise ArmError(f"{path}: a list of arms under the key 'arms' is needed")
    if extra := sorted(set(map(str, data)) - {"arms", "defaults"}):
        raise ArmError(f"{path}: unknown key {extra[0]!r}; a file of arms has 'defaults' and 'arms'")
    common = data.get("defaults") or {}
    if not isinstance(common, dict) or not all(isinstance(entry, dict) for entry in data["arms"]):
        raise ArmError(f"{path}: 'defaults' and each arm must be written as 'key: value'")
    arms = tuple(arm_from_json(defaults | common | entry) for entry in data["arms"])
    names = [arm.name for arm in arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ArmError(f"{path}: two arms are named {twice[0]!r}: results could not be told apart")
    return arms


def arm_from_json(data: Mapping[str, Any]) -> EvaluationArm:
    """An arm from flat values: those of :class:`Arm`, :class:`Decoding`, and the controls."""
    decoding_types = {f.name: type(f.default) for f in fields(Decoding) if f.name not in ("seed", *_OPTIONAL)}
    known = (*_ARM_KEYS, *decoding_types, *_OPTIONAL, "samples", "audio", "perception")
    if extra := [key for key in data if key not in known]:
        raise ArmError(f"unknown key {extra[0]!r} in an arm; known are {', '.join(known)}")
    name, model, mode = data.get("name"), data.get("model"), data.get("mode", "mpar2")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != name.strip():
        raise ArmError(f"arm name {name!r}: 1 to 80 characters without '|' or slashes are needed")
    where = f"arm {name!r}"
    if not isinstance(model, str) or not model.strip():
        raise ArmError(f"{where} names no model")
    adapter = data.get("adapter")
    if adapter is not None and (not isinstance(adapter, str) or not adapter.strip()):
        raise ArmError(f"{where}: adapter is {adapter!r}; a name or a folder is needed, or nothing")
    for key, value, allowed in (
        ("mode", mode, get_args(Mode)),
        ("audio", data.get("audio", "normal"), get_args(Audio)),
        ("perception", data.get("perception", "own"), get_args(Perception)),
    ):
        if value not in allowed:
            raise ArmError(f"{where}: {key} is {value!r}; choose one of {', '.join(allowed)}")
    values: dict[str, Any] = {}
    for key, kind in decoding_types.items():
        if key in data:
            value = data[key]
            if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
                raise ArmError(f"{where}: {key} is {value!r}; a number is needed")
            values[key] = kind(value)
    for key, kinds, wanted in (
        ("max_reasoning_tokens", (int,), "a whole number"),
        ("hide_audio_after", (int, str), "a number of tokens, or a share of the trace such as 50%,"),
    ):
        if (value := data.get(key)) is not None:
            if type(value) not in kinds:
                raise ArmError(f"{where}: {key} is {value!r}; {wanted} is needed")
            values[key] = value
    try:
        decoding = Decoding(**values)
    except EngineError as error:
        raise ArmError(f"{where}: {error}") from None
    if mode == "direct" and (decoding.min_reasoning_tokens or decoding.max_reasoning_tokens is not None):
        raise ArmError(f"{where}: mode direct does not reason, so its reasoning has no length: choose cot or mpar2")
    samples = data.get("samples", 1)
    if type(samples) is not int or not 1 <= samples <= _MAX_SAMPLES:
        raise ArmError(f"{where}: samples is {samples!r}; a whole number from 1 to {_MAX_SAMPLES} is needed")
    if samples > 1 and decoding.temperature == 0:
        raise ArmError(f"{where}: {samples} samples at temperature 0 would all be the same: set a temperature")
    controls = {"audio": data.get("audio", "normal"), "perception": data.get("perception", "own")}
    return EvaluationArm(Arm(name, model, adapter, mode), decoding, samples, **controls)


def arm_to_json(arm: EvaluationArm) -> dict[str, Any]:
    """The inverse of :func:`arm_from_json`, with every value written out."""
    decoding = {key: value for key, value in asdict(arm.decoding).items() if key != "seed"}
    return asdict(arm.arm) | decoding | {"samples": arm.samples, "audio": arm.audio, "perception": arm.perception}


def partners(items: Sequence[Item], seed: int) -> dict[str, Item]:
    """For each item (by id) the item whose recording it hears when audio is shuffled: never its own.

    The order is drawn from the seed and the ids, so it is the same on every machine.
    """
    order = sorted(items, key=lambda item: hashlib.sha256(f"{seed}|{item.id}".encode()).digest())
    found: dict[str, Item] = {}
    for place, item in enumerate(order):
        others = (order[(place + step) % len(order)] for step in range(1, len(order)))
        partner = next((other for other in others if other.audio != item.audio), None)
        if partner is None:
            raise ArmError("audio: shuffled needs items with at least two different recordings")
        found[item.id] = partner
    return found


def heard(arm: EvaluationArm, clip: Clip) -> Clip:
    """What the arm hears in place of ``clip`` (for ``shuffled``, the caller gives the partner's clip)."""
    return replace(clip, samples=clip.samples * 0, source="silence") if arm.audio == "silent" else clip


def told(arm: EvaluationArm, item: Item) -> Question:
    """What the arm is asked: the question, for an oracle after the true events, or the caption."""
    if arm.perception == "own":
        return item.question
    if not item.events:
        if not item.caption:
            raise ArmError(f"item {item.id} has no events and no caption: oracle perception needs the truth")
        return replace(item.question, text=f"About the audio: {item.caption.strip()} {item.question.text}")
    return after_events(item.question, item.events)


def after_events(question: Question, events: Sequence[Event]) -> Question:
    """``question`` after a sentence that tells ``events`` in order of onset; those without times come last."""
    order = sorted(events, key=lambda event: (event.onset_s is None, event.onset_s or 0.0))
    contained = "; ".join(_event_words(event) for event in order)
    return replace(question, text=f"The audio contains: {contained}. {question.text}")


def _event_words(event: Event) -> str:
    if event.onset_s is None or event.offset_s is None:
        return event.label
    return f"{event.onset_s:.1f}-{event.offset_s:.1f} s {event.label}"
