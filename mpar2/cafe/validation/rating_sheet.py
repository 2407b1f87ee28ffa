"""A rating sheet: one HTML page on which a person rates mentions, blind to every judge.

The page is self-contained (audio included), sends no request, and saves a JSON file. It shows the clip, the question
with its choices, the trace with one mention marked, and the kinds with the decision table. It contains neither the
truth nor any verdict. All text by models or other people is embedded as JSON without any "<", and is inserted as text,
never as markup. A content security policy allows only the page's own script.

``rate_judge`` compares a judge with the ratings of a person, and ``rate_person`` those of two people;
``read_ratings`` reads them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mpar2.cafe.schema import MentionKind, Verdict, decision_text
from mpar2.cafe.score import ScoreError, TraceScore
from mpar2.cafe.validation.agreement import KINDS, kappa
from mpar2.statistics import Interval, bootstrap_interval, bootstrap_statistic
from mpar2.trace import Span

__all__ = [
    "Ratings",
    "RatingsReport",
    "Unit",
    "choose_units",
    "rate_judge",
    "rate_person",
    "read_ratings",
    "sheet_html",
]

FORMAT = "mpar2-cafe-ratings"
CANNOT_TELL = "cannot tell"
_KIND_TEXTS = {
    MentionKind.MATCHED: "claimed, and in the clip",
    MentionKind.HALLUCINATED: "claimed, and not in the clip",
    MentionKind.MISUSED: "in the clip, but its time, order, count, source or attribute is claimed wrongly, "
    "or it is used for what it does not show",
    MentionKind.NEUTRAL: "not claimed: asked, denied, left open, or a general word that names no event",
}


@dataclass(frozen=True)
class Unit:
    """One mention to rate. ``id`` depends on the trace and the span only, not on any verdict."""

    id: str
    key: str
    item: str
    audio: str
    question: str
    choices: tuple[str, ...]
    trace: str
    start: int
    stop: int


@dataclass(frozen=True)
class Ratings:
    """The ratings of one person: kind by unit id. Units marked "cannot tell" are excluded from agreement."""

    rater: str
    sheet: str
    kinds: Mapping[str, str]
    mentions: int | None = None  # number of mentions on the sheet; None in older files


@dataclass(frozen=True)
class RatingsReport:
    """Agreement of a judge with a person, over the units that both rated."""

    rater: str
    units: int
    cannot_tell: int
    unrated: int | None  # number of unrated mentions of the sheet; None where its size is unknown
    agreement: Interval
    kappa: Interval
    precision: dict[str, Interval]
    recall: dict[str, Interval]
    confusion: np.ndarray  # (kinds, kinds): person, judge

    def __str__(self) -> str:
        unrated = "" if self.unrated is None else f", {self.unrated} of the sheet not rated"
        lines = [
            f"{self.rater}: {self.units} mentions rated, {self.cannot_tell} cannot tell{unrated}",
            f"agreement {self.agreement}, kappa {self.kappa}",
        ]
        lines += [f"{k:14}precision {self.precision[k]}  recall {self.recall[k]}" for k in KINDS]
        return "\n".join(lines)


def choose_units(
    scores: Sequence[TraceScore], records: Mapping[str, Mapping[str, Any]], n: int, *, seed: int = 0
) -> list[Unit]:
    """Sample mentions of scored traces, balanced over the kinds of the judge as far as possible.

    The sample is balanced because misused and hallucinated mentions may be rare, and then shuffled, so that the order
    is uninformative.

    Returns:
        At most ``n`` units, in random order.

    Raises:
        ValueError: ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"{n} mentions cannot be rated; ask for at least 1")
    rng = random.Random(f"rating sheet {seed}")
    pools: dict[MentionKind, list[Unit]] = {kind: [] for kind in MentionKind}
    for score in scores:
        if not isinstance(score.outcome, Verdict):
            continue
        record = records[score.key]
        item = record["item"]
        fields = (
            score.key,
            score.id,
            item["audio"],
            item["question"],
            tuple(item.get("choices") or ()),
            record["text"],
        )
        for mention in score.outcome.mentions:
            span = mention.chars
            pools[mention.kind].append(Unit(_unit_id(score, span), *fields, span.start, span.stop))
    # Take one of each kind in turn until there are enough.
    for pool in pools.values():
        rng.shuffle(pool)
    units: list[Unit] = []
    while len(units) < n and any(pools.values()):
        for pool in pools.values():
            if pool and len(units) < n:
                units.append(pool.pop())
    rng.shuffle(units)
    return units


def sheet_html(units: Sequence[Unit], audio_of: Callable[[str], bytes]) -> str:
    """Render the page of a rating sheet, complete in one file.

    Args:
        units: The mentions to rate.
        audio_of: Returns the WAV bytes of a clip by name; each clip is embedded once.

    Raises:
        ScoreError: There is no mention.
    """
    if not units:
        raise ScoreError("there is no mention to rate: the scored traces name no event")
    sounds = {unit.audio: base64.b64encode(audio_of(unit.audio)).decode() for unit in units}
    places = {audio: number for number, audio in enumerate(sounds)}
    data = {
        "format": FORMAT,
        "sheet": hashlib.sha256("|".join(unit.id for unit in units).encode()).hexdigest()[:16],
        "kinds": [*map(list, _KIND_TEXTS.items()), [CANNOT_TELL, "the clip does not settle it"]],
        "rules": decision_text(),
        "audio": list(sounds.values()),
        "units": [
            {
                "id": unit.id,
                "audio": places[unit.audio],
                "question": unit.question,
                "choices": list(unit.choices),
                # Split here: JavaScript counts UTF-16 units, the spans count characters.
                "before": unit.trace[: unit.start],
                "quote": unit.trace[unit.start : unit.stop],
                "after": unit.trace[unit.stop :],
            }
            for unit in units
        ],
    }
    # The content security policy allows style and script by their hashes.
    page = (resources.files(__package__) / "rating_sheet.html").read_text(encoding="utf-8")
    style = page.split("<style>", 1)[1].split("</style>", 1)[0]
    script = page.rsplit("<script>", 1)[1].split("</script>", 1)[0]
    page = page.replace("{style_hash}", _sha256(style)).replace("{script_hash}", _sha256(script))
    # The data come last, so that no placeholder in them is replaced.
    return page.replace("{data}", _escape_json(json.dumps(data, ensure_ascii=True)))


def read_ratings(path: str | Path) -> Ratings:
    """Read the file that a rating sheet saved; another form raises :class:`ScoreError`."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        allowed = {*map(str, MentionKind), CANNOT_TELL}
        kinds = {str(unit): str(kind) for unit, kind in data["ratings"].items()}
        unknown = sorted(set(kinds.values()) - allowed)
        if data["format"] != FORMAT or unknown:
            raise ValueError(f"kind {unknown[0]!r}" if unknown else f"format {data['format']!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ScoreError(f"{path} is no file of ratings that a rating sheet saved ({error})") from None
    mentions = data.get("mentions")
    has_size = type(mentions) is int and mentions >= len(kinds)
    rater = str(data.get("rater") or Path(path).stem)[:60]
    return Ratings(rater, str(data.get("sheet", "")), kinds, mentions if has_size else None)


def rate_judge(ratings: Ratings, scores: Sequence[TraceScore], **options: Any) -> RatingsReport:
    """Compare a judge's scores with a person's ratings; intervals are clustered by clip."""
    by_unit: dict[str, tuple[str, str]] = {}
    for score in scores:
        if isinstance(score.outcome, Verdict):
            for mention in score.outcome.mentions:
                by_unit[_unit_id(score, mention.chars)] = (score.clip or score.id, str(mention.kind))
    return _report(ratings, by_unit, options)


def rate_person(ratings: Ratings, other: Ratings, **options: Any) -> RatingsReport:
    """Compare two people, over the mentions that both rated with a kind.

    Ratings do not contain their items, so the bootstrap draws single mentions, and the intervals are narrower than
    those of a judge.

    Args:
        ratings: Ratings of the first person.
        other: Ratings of the second person, in the judge's place in the report.
        **options: Options of the bootstrap (:func:`mpar2.statistics.bootstrap_interval`).

    Raises:
        ScoreError: The two have no mention in common.
    """
    by_unit = {unit: (unit, kind) for unit, kind in other.kinds.items() if kind != CANNOT_TELL}
    return _report(ratings, by_unit, options)


def _unit_id(score: TraceScore, span: Span) -> str:
    return hashlib.sha256(f"{score.key}|{span.start}|{span.stop}".encode()).hexdigest()[:16]


def _report(ratings: Ratings, by_unit: Mapping[str, tuple[str, str]], options: dict[str, Any]) -> RatingsReport:
    kinds = {unit: kind for unit, kind in ratings.kinds.items() if kind != CANNOT_TELL}
    units = [unit for unit in kinds if unit in by_unit]
    if not units:
        raise ScoreError(
            f"none of the {len(kinds)} ratings of {ratings.rater!r} is of a mention in these scores (or ratings): give "
            "those of the same sheet"
        )
    # Kinds as indices, so that the bootstrap can resample them as arrays.
    names = [str(kind) for kind in KINDS]
    person = np.array([names.index(kinds[unit]) for unit in units])
    judge = np.array([names.index(by_unit[unit][1]) for unit in units])
    options = {"groups": [by_unit[unit][0] for unit in units], **options}
    confusion = np.zeros((len(KINDS), len(KINDS)), dtype=np.int64)
    np.add.at(confusion, (person, judge), 1)

    def statistic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        pairs = np.stack([(a == i) & (b == j) for i in range(len(KINDS)) for j in range(len(KINDS))], axis=-1)
        return kappa(pairs.sum(axis=1).reshape(-1, len(KINDS), len(KINDS)))

    right = (person == judge).astype(float)

    def rates(side: np.ndarray) -> dict[str, Interval]:
        masks = {kind: (side == k).astype(float) for k, kind in enumerate(KINDS)}
        return {kind: bootstrap_interval(right * mask, mask, **options) for kind, mask in masks.items()}

    return RatingsReport(
        rater=ratings.rater,
        units=len(units),
        cannot_tell=len(ratings.kinds) - len(kinds),
        unrated=None if ratings.mentions is None else ratings.mentions - len(ratings.kinds),
        agreement=bootstrap_interval(right, **options),
        kappa=bootstrap_statistic(statistic, person, judge, **options),
        precision=rates(judge),
        recall=rates(person),
        confusion=confusion,
    )


def _escape_json(text: str) -> str:
    """Escape JSON so that it can neither close the enclosing script element nor open a comment in it."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
