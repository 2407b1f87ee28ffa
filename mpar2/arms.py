"""The arms of an evaluation: checkpoint, mode, decoding, and controls of the input.

One-line syntax of an arm (:func:`parse_arm`), the same in every command, in the app and, as ``arm``, in a file::

    NAME=MODEL[+ADAPTER][:MODE]        NAME= may be left out; MODE is direct, cot or mpar2 (the default)

    free=Qwen/Qwen2.5-Omni-3B:cot                       a short name, a folder or a hub id, in this process
    trained=Qwen/Qwen2.5-Omni-3B+runs/grpo/adapter      with a LoRA adapter
    served=server:http://127.0.0.1:8080/v1#my-model     a model behind an OpenAI-compatible server
    gemini:gemini-3.1-pro-preview:direct                a model of a service

A file of arms (YAML) has one entry for each; ``defaults`` apply to all arms that do not override them::

    defaults: {model: small-base, max_new_tokens: 512}
    arms:
      - {name: base direct, mode: direct}
      - {name: base cot, mode: cot}
      - {name: mpar2, model: small-mpar2, mode: mpar2}
      - {name: "mpar2, silent audio", model: small-mpar2, mode: mpar2, audio: silent}
      - {name: mpar2 oracle, model: small-mpar2, mode: mpar2, perception: oracle}
      - {name: "mpar2, at most 32 tokens", model: small-mpar2, mode: mpar2, max_reasoning_tokens: 32}
      - {name: cot of 8, mode: cot, samples: 8, temperature: 0.7}

Controls (ours; the paper has none). Each is one option of an arm:

``audio: silent``             silence of the same length: accuracy from the question alone
``audio: shuffled``           the recording of another item: accuracy from any audio
``perception: oracle``        the true events (else the item's caption) precede the question: the remaining errors
                              are errors of reasoning
``max_reasoning_tokens: N``   forced length: reasoning longer than N tokens is closed and the answer forced
``min_reasoning_tokens: N``   forced length: an answer before N tokens is suppressed and reasoning continued
``hide_audio_after: 50%``     the audio is masked from the middle of the trace on (or after a number of tokens)
``samples: K``                K answers per item, each with its own seed; the majority of the first k is reported for
                              each k with its tokens, so that voting and longer traces compare at equal cost
``max_new_tokens: N``         a token budget: an answer that exceeds it is missing

Forced lengths and hidden audio need the model in this process (``engines.forced_decoding``); services are refused. The
seed belongs to the run: several seeds are several runs, which the analysis compares.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from mpar2.audio import Clip
from mpar2.engines.base import Arm, Decoding, EngineError, Mode
from mpar2.errors import MPAR2Error
from mpar2.prompts import mode_names, prompt_identity
from mpar2.question import Event, Item, Question

__all__ = [
    "ArmError",
    "EvaluationArm",
    "apply_audio_control",
    "arm_from_json",
    "arm_to_json",
    "arms_of_base",
    "build_question",
    "load_arms",
    "parse_arm",
    "parse_arms",
    "short_name",
    "shuffled_partners",
    "split_engine",
    "unique_names",
]

_MAX_NAME = 80
_NAME = re.compile(rf"[^|/\\\x00-\x1f]{{1,{_MAX_NAME}}}")
_ARM_KEYS = ("name", "model", "adapter", "mode", "dtype", "quantize", "prompt")
_DTYPES = ("float32", "bfloat16", "float16")
_QUANTIZE = ("4bit", "8bit")
_OPTIONAL = ("max_reasoning_tokens", "hide_audio_after")  # options of decoding whose default is None
_MAX_SAMPLES = 1000

Audio = Literal["normal", "silent", "shuffled"]
Perception = Literal["own", "oracle"]


class ArmError(MPAR2Error, ValueError):
    """An arm that cannot be run as written."""


@dataclass(frozen=True)
class EvaluationArm:
    """An arm with its decoding, samples per item, and controls."""

    arm: Arm
    decoding: Decoding = field(default_factory=Decoding)
    samples: int = 1
    audio: Audio = "normal"
    perception: Perception = "own"

    @property
    def name(self) -> str:
        return self.arm.name

    def can_ask(self, item: Item) -> bool:
        """Return whether an item has the data that the arm needs: oracle perception needs events or a caption."""
        return self.perception == "own" or bool(item.events or item.caption)


def split_engine(model: str) -> tuple[str | None, str]:
    """Split ``ENGINE:MODEL`` at the name of a registered engine.

    Returns:
        The engine's name, or None for a model of this process, and the rest.

    >>> split_engine("server:http://127.0.0.1:8080/v1#m"), split_engine("Qwen/Qwen2.5-Omni-3B")
    (('server', 'http://127.0.0.1:8080/v1#m'), (None, 'Qwen/Qwen2.5-Omni-3B'))
    """
    prefix, colon, rest = model.partition(":")
    if not colon or not re.fullmatch(r"[\w-]{2,40}", prefix) or Path(model).exists():
        return None, model
    return (prefix, rest) if prefix in _engine_names() else (None, model)


def _engine_names() -> tuple[str, ...]:
    """Return the registered engines and services; a service is an engine too."""
    from mpar2.engines import engine_names
    from mpar2.llm.services import service_names

    return tuple(dict.fromkeys((*engine_names(), *service_names())))


def parse_arm(text: str, default_mode: Mode = "mpar2") -> Arm:
    """Parse one arm from ``NAME=MODEL[+ADAPTER][:MODE]`` (examples in the module docstring).

    Args:
        text: The arm as typed.
        default_mode: Mode if the text has none.

    Returns:
        The arm. Its default name consists of model, adapter and mode.

    Raises:
        ArmError: No model, an unknown mode, an address without a model.
    """
    modes = mode_names()
    name, equals, spec = text.partition("=")
    if not equals or "/" in name or ":" in name or "#" in name:  # "=" inside a path or an address
        name, spec = "", text
    name, spec = name.strip(), spec.strip()
    engine, rest = split_engine(spec)
    # the mode is the word after the last colon; a colon may also stand in an address or in a served model's name
    head, colon, tail = rest.rpartition(":")
    mode: str = default_mode
    if colon and tail in modes:
        rest, mode = head, tail
    elif colon and engine is None and re.fullmatch(r"\w{2,}", tail) and not Path(rest).exists():
        raise ArmError(
            f"arm {text!r}: {tail!r} is no mode (choose one of {', '.join(modes)}), and {head!r} is no engine "
            f"(known are {', '.join(_engine_names())})"
        )
    # Model and adapter of this process, or address and model of a server.
    adapter = None
    if engine is None:
        rest, adapter = _split_plus(rest)
    elif engine == "server":
        address, hash_, served = rest.partition("#")
        if not hash_ or not served.strip() or not re.match(r"https?://[^/]", address):
            raise ArmError(
                f"arm {text!r}: write a served model as server:http://host:port/v1#MODEL; a server lists its models at "
                "/v1/models"
            )
    # Nothing may be empty.
    if not rest.strip() or (adapter is not None and not adapter.strip()):
        raise ArmError(f"arm {text!r} names no {'adapter' if rest.strip() else 'model'}: NAME=MODEL[+ADAPTER][:MODE]")
    if equals and not name and spec != text:
        raise ArmError(f"arm {text!r} has an empty name before '='")
    if name and not _NAME.fullmatch(name):
        raise ArmError(f"arm name {name!r}: 1 to 80 characters without '|' or slashes are needed")
    model = rest if engine is None else f"{engine}:{rest}"
    parts = (short_name(model), *([short_name(adapter)] if adapter else []), mode)
    return Arm(name or " ".join(parts)[:_MAX_NAME].strip(), model, adapter, mode)  # type: ignore[arg-type]


def parse_arms(texts: Sequence[str], default_mode: Mode = "mpar2") -> tuple[Arm, ...]:
    """Parse several arms (:func:`parse_arm`). Equal names are made unique, and no arm is dropped."""
    return unique_names([parse_arm(text, default_mode) for text in texts])


def arms_of_base(model: str) -> tuple[Arm, ...]:
    """Return the three arms of one bare model: direct, free reasoning, and the MPAR² prompt."""
    short = short_name(model)
    return tuple(
        Arm(f"{short} {words}", model, None, mode)
        for mode, words in (("direct", "direct"), ("cot", "free reasoning"), ("mpar2", "MPAR² prompt"))
    )


def unique_names(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Rename arms of equal names: append the folder above the model or adapter, else a number.

    >>> [arm.name for arm in unique_names([Arm("model", "runs/seed0/model"), Arm("model", "runs/seed1/model")])]
    ['model (seed0)', 'model (seed1)']
    """
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        parents = [_parent(arm) for arm in arms]
        names = [
            f"{name} ({parent})"[:_MAX_NAME] if names.count(name) > 1 and parent else name
            for name, parent in zip(names, parents, strict=True)
        ]
    used_names: set[str] = set()
    unique: list[Arm] = []
    for arm, name in zip(arms, names, strict=True):
        candidate, number = name, 2
        while candidate in used_names or (number > 2 and candidate in names):
            candidate, number = f"{name[: _MAX_NAME - 5]} {number}", number + 1
        used_names.add(candidate)
        unique.append(replace(arm, name=candidate))
    return tuple(unique)


def _split_plus(text: str) -> tuple[str, str | None]:
    """Split MODEL+ADAPTER; a plus sign may also be part of an existing folder's name."""
    if "+" not in text or Path(text).exists():
        return text, None
    places = [place for place, ch in enumerate(text) if ch == "+"]
    place = next((place for place in reversed(places) if Path(text[:place]).exists()), places[0])
    return text[:place].strip(), text[place + 1 :].strip()


def short_name(model: str) -> str:
    """Return the last part of a path, hub id or address, without characters that an arm's name must not contain.

    >>> short_name("Qwen/Qwen2.5-Omni-3B"), short_name("server:http://127.0.0.1:8080/v1#omni")
    ('Qwen2.5-Omni-3B', 'omni')
    """
    last = re.split(r"[/\\#]", split_engine(model)[1].rstrip("/\\"))[-1]
    return re.sub(r"[|\x00-\x1f]", " ", last).strip() or "model"


def _parent(arm: Arm) -> str:
    """Return the folder, owner or host that distinguishes two arms of one name; "" if there is none."""
    engine, model = split_engine(arm.model)
    if engine is not None:
        return re.sub(r"[|/\\\x00-\x1f]", " ", urlsplit(model).netloc)
    return short_name(str(Path(arm.adapter or arm.model).parent)) if Path(arm.adapter or arm.model).parent.name else ""


def load_arms(path: str | Path, **defaults: Any) -> tuple[EvaluationArm, ...]:
    """Read the arms of a YAML file; ``defaults`` are values of the command line. An error names the arm."""
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ArmError(f"{path} cannot be read as YAML: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("arms"), list) or not data["arms"]:
        raise ArmError(f"{path}: a list of arms under the key 'arms' is needed")
    if extra := sorted(set(map(str, data)) - {"arms", "defaults"}):
        raise ArmError(f"{path}: unknown key {extra[0]!r}; a file of arms has 'defaults' and 'arms'")
    common = data.get("defaults") or {}
    if not isinstance(common, dict) or not all(isinstance(entry, (dict, str)) for entry in data["arms"]):
        raise ArmError(f"{path}: 'defaults' must be written as 'key: value', each arm so or as NAME=MODEL:MODE")
    arms = tuple(arm_from_json(_expand_entry(entry, defaults | common)) for entry in data["arms"])
    names = [arm.name for arm in arms]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ArmError(f"{path}: two arms are named {duplicates[0]!r}: their results could not be distinguished")
    return arms


def _expand_entry(entry: str | Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an entry; one-line arms (a string, or the key ``arm``) are parsed by :func:`parse_arm`."""
    entry = {"arm": entry} if isinstance(entry, str) else dict(entry)
    if "arm" not in entry:
        return dict(common) | entry
    text = entry.pop("arm")
    if not isinstance(text, str):
        raise ArmError(f"arm is {text!r}: write NAME=MODEL[+ADAPTER][:MODE]")
    if duplicates := [key for key in ("name", "model", "adapter", "mode") if key in entry]:
        raise ArmError(f"arm {text!r} stands beside {duplicates[0]!r}: give one or the other")
    mode = common.get("mode", "mpar2")
    if mode not in mode_names():
        raise ArmError(f"mode is {mode!r}; choose one of {', '.join(mode_names())}")
    arm = parse_arm(text, mode)
    rest = {key: value for key, value in common.items() if key not in ("model", "adapter")}
    return rest | {"name": arm.name, "model": arm.model, "adapter": arm.adapter, "mode": arm.mode} | entry


def arm_from_json(data: Mapping[str, Any]) -> EvaluationArm:
    """Build an arm from flat values: those of :class:`Arm`, :class:`Decoding`, and the controls.

    Raises:
        ArmError: A key is unknown, or a value is of a wrong type or out of range.
    """
    decoding_types = {f.name: type(f.default) for f in fields(Decoding) if f.name not in ("seed", *_OPTIONAL)}
    allowed_keys = (*_ARM_KEYS, *decoding_types, *_OPTIONAL, "samples", "audio", "perception")
    if extra := [key for key in data if key not in allowed_keys]:
        raise ArmError(f"unknown key {extra[0]!r} in an arm; known are {', '.join(allowed_keys)}")
    # Names.
    name, model, mode = data.get("name"), data.get("model"), data.get("mode", "mpar2")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != name.strip():
        raise ArmError(f"arm name {name!r}: 1 to 80 characters without '|' or slashes are needed")
    where = f"arm {name!r}"
    if not isinstance(model, str) or not model.strip():
        raise ArmError(f"{where} names no model")
    adapter = data.get("adapter")
    if adapter is not None and (not isinstance(adapter, str) or not adapter.strip()):
        raise ArmError(f"{where}: adapter is {adapter!r}; a name or a folder is needed, or nothing")
    # Values from fixed lists.
    for key, value, allowed in (
        ("mode", mode, mode_names()),
        ("audio", data.get("audio", "normal"), get_args(Audio)),
        ("perception", data.get("perception", "own"), get_args(Perception)),
        ("dtype", data.get("dtype"), (None, *_DTYPES)),
        ("quantize", data.get("quantize"), (None, *_QUANTIZE)),
    ):
        if value not in allowed:
            raise ArmError(f"{where}: {key} is {value!r}; choose one of {', '.join(filter(None, allowed))}")
    # Decoding: numbers, then the optional values.
    values: dict[str, Any] = {}
    for key, kind in decoding_types.items():
        if key in data:
            value = data[key]
            if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
                raise ArmError(f"{where}: {key} is {value!r}; a number is needed")
            values[key] = kind(value)
    for key, kinds, requirement in (
        ("max_reasoning_tokens", (int,), "a whole number"),
        ("hide_audio_after", (int, str), "a number of tokens, or a share of the trace such as 50%,"),
    ):
        if (value := data.get(key)) is not None:
            if type(value) not in kinds:
                raise ArmError(f"{where}: {key} is {value!r}; {requirement} is needed")
            values[key] = value
    try:
        decoding = Decoding(**values)
    except EngineError as error:
        raise ArmError(f"{where}: {error}") from None
    if mode == "direct" and (decoding.min_reasoning_tokens or decoding.max_reasoning_tokens is not None):
        raise ArmError(f"{where}: mode direct does not reason, so its reasoning has no length: choose cot or mpar2")
    # Several samples need a temperature.
    samples = data.get("samples", 1)
    if type(samples) is not int or not 1 <= samples <= _MAX_SAMPLES:
        raise ArmError(f"{where}: samples is {samples!r}; a whole number from 1 to {_MAX_SAMPLES} is needed")
    if samples > 1 and decoding.temperature == 0:
        raise ArmError(f"{where}: {samples} samples at temperature 0 would all be the same: set a temperature")
    controls = {"audio": data.get("audio", "normal"), "perception": data.get("perception", "own")}
    # Load the prompt now, to report a missing file before anything runs.
    prompt = data.get("prompt")
    try:
        prompt_identity(mode, prompt)
    except (MPAR2Error, TypeError) as error:
        raise ArmError(f"{where}: prompt: {error}") from None
    arm = Arm(name, model, adapter, mode, data.get("dtype"), data.get("quantize"), prompt)
    return EvaluationArm(arm, decoding, samples, **controls)


def arm_to_json(arm: EvaluationArm) -> dict[str, Any]:
    """Return the inverse of :func:`arm_from_json`, with all values explicit."""
    decoding = {key: value for key, value in asdict(arm.decoding).items() if key != "seed"}
    # unset options are omitted, so that runs started before the option existed can be resumed
    optional = ("dtype", "quantize", "prompt")
    entry = {key: value for key, value in asdict(arm.arm).items() if value is not None or key not in optional}
    return entry | decoding | {"samples": arm.samples, "audio": arm.audio, "perception": arm.perception}


def shuffled_partners(items: Sequence[Item], seed: int) -> dict[str, Item]:
    """Assign each item the recording of another one, for the control with shuffled audio.

    Args:
        items: The items.
        seed: Seed of the permutation, which is the same on every machine.

    Returns:
        The partner of each item by id; never an item with the same recording.

    Raises:
        ArmError: All items have the same recording.
    """
    order = sorted(items, key=lambda item: hashlib.sha256(f"{seed}|{item.id}".encode()).digest())
    partners: dict[str, Item] = {}
    for place, item in enumerate(order):
        candidates = (order[(place + step) % len(order)] for step in range(1, len(order)))
        partner = next((candidate for candidate in candidates if candidate.audio != item.audio), None)
        if partner is None:
            raise ArmError("audio: shuffled needs items with at least two different recordings")
        partners[item.id] = partner
    return partners


def apply_audio_control(arm: EvaluationArm, clip: Clip) -> Clip:
    """Return the clip (for ``shuffled`` audio the partner's), or silence of its length for ``silent`` audio."""
    return replace(clip, samples=clip.samples * 0, source="silence") if arm.audio == "silent" else clip


def build_question(arm: EvaluationArm, item: Item) -> Question:
    """Build the question of an arm for an item; with oracle perception, after the true events or the caption."""
    if arm.perception == "own":
        return item.question
    if not item.events:
        if not item.caption:
            raise ArmError(f"item {item.id} has no events and no caption: oracle perception needs the truth")
        return replace(item.question, text=f"About the audio: {item.caption.strip()} {item.question.text}")
    return after_events(item.question, item.events)


def after_events(question: Question, events: Sequence[Event]) -> Question:
    """Return the question preceded by a sentence that lists events."""
    order = sorted(events, key=lambda event: (event.onset_s is None, event.onset_s or 0.0))
    contained = "; ".join(
        event.label
        if event.onset_s is None or event.offset_s is None
        else f"{event.onset_s:.1f}-{event.offset_s:.1f} s {event.label}"
        for event in order
    )
    return replace(question, text=f"The audio contains: {contained}. {question.text}")
