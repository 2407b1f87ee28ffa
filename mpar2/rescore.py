"""Score one set of replies under every rule, to explain why one model has different numbers in different reports.

Each rule parses the text of a reply like its original tool; nothing is generated again.

================  ====================================================================================================
rule              scored value
================  ====================================================================================================
``official``      the MMAU and MMAR scripts on this project's prediction (``mpar2.answers``)
``official_raw``  the same scripts on the raw reply after its thoughts, without answer parsing
``strict``        the only choice that the answer names; anything else is wrong
``letter``        the last separate letter of a choice in the reply, "B" or "(B)"; anything else is wrong
``lmms_eval``     lmms-eval's parser of MMAU, MMAR and MMSU: "(B)", then " B ", then "B."; without a match it
                  *guesses*, and the value is the expectation of the guess, one over its number of letters
``nemo``          NeMo-RL's reward: the content of <answer>, letters and digits only, equals the answer
``judge``         verdicts of another judge from a file, joined by key
================  ====================================================================================================

``shuffled`` is the share that would stay right if the choices had been listed in another order and the model had
written the same words: an answer in words stays right, a bare letter refers to another choice. It measures how much a
result depends on the order of the choices, as far as possible without generating again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mpar2 import statistics
from mpar2.accuracy import answer_of
from mpar2.answers import visible_text
from mpar2.errors import MPAR2Error
from mpar2.items import ItemSet
from mpar2.question import Item, strict_match, string_match
from mpar2.runs import read_run
from mpar2.runs.lines import read_lines
from mpar2.trace import Trace, parse_trace

__all__ = ["RULES", "RescoreError", "read_verdicts", "rescore", "rescored_table", "score_by_rules"]

_LMMS_LETTERS = "ABCD"
_DIFFERENCE = ("difference", "difference_low", "difference_high", "p_value")
RULES = ("official", "official_raw", "strict", "letter", "lmms_eval", "nemo")


class RescoreError(MPAR2Error, ValueError):
    """A run cannot be rescored; the message gives the reason."""


class Rescored(NamedTuple):
    """One answer under every rule: ``values`` in [0, 1] by rule; ``guessed`` if lmms-eval would have guessed."""

    key: str
    id: str
    arm: str
    clip: str
    answer: str
    reply: str
    values: dict[str, float]
    guessed: bool


def score_by_rules(text: str, answer: str, choices: tuple[str, ...] | list[str]) -> tuple[dict[str, float], bool]:
    """Return the value of a reply under each rule, and whether lmms-eval would have guessed.

    >>> score_by_rules("The answer is B.", "Woman", ["Man", "Woman"])[0]["letter"]
    1.0
    """
    trace = parse_trace(text)
    record = {"text": text, "item": {"choices": choices}}
    parsed = answer_of(record, trace)
    reply = _reply(trace)
    lmms, guessed = _lmms_eval(reply, answer, choices)
    predicted = parsed.choice if choices else parsed.words
    right = float(strict_match(answer, predicted, choices))
    tagged = re.search(r"<answer>([\s\S]*)</answer>", text)
    values = {
        "official": float(string_match(answer, parsed.prediction, choices)),
        "official_raw": float(string_match(answer, reply, choices)),
        "strict": right,
        "letter": float(_last_letter(reply, choices) == answer),
        "lmms_eval": lmms,
        "nemo": float(tagged is not None and _alphanumeric(tagged[1]) == _alphanumeric(answer)),
    }
    # A right answer whose reply does not contain its words is a letter.
    by_letter = right and not string_match(predicted or "", reply, ())
    values["shuffled"] = right / max(len(choices), 1) if by_letter else right
    return values, guessed


def _reply(trace: Trace) -> str:
    """Return the part that tools score: the answer part, else the text outside of thoughts, else everything."""
    tagged = [part for part in trace.of_kind("answer") if part.text.strip()]
    if tagged:
        return tagged[-1].text.strip()
    return visible_text(trace) or trace.text.strip()


def _last_letter(reply: str, choices: tuple[str, ...] | list[str]) -> str | None:
    letters = re.findall(r"(?<![\w'])([A-Z])(?![\w'])", reply)
    indices = [ord(letter) - ord("A") for letter in letters if ord(letter) - ord("A") < len(choices)]
    return choices[indices[-1]] if indices else None


def _lmms_eval(reply: str, answer: str, choices: tuple[str, ...] | list[str]) -> tuple[float, bool]:
    """Apply lmms-eval's ``parse_multi_choice_response`` with its four letters; a guess scores its expectation."""
    cleaned = reply
    for character in ",.!?;:'":
        cleaned = cleaned.strip(character)
    cleaned = f" {cleaned} "
    by_form = ([a for a in _LMMS_LETTERS if form.format(a) in cleaned] for form in ("({})", " {} ", "{}."))
    candidates = next(filter(None, by_form), [])
    target = answer.strip().lower()
    pairs = zip(_LMMS_LETTERS, choices, strict=False)
    right = {letter for letter, choice in pairs if choice.strip().lower() == target}
    if not candidates:
        return len(right) / len(_LMMS_LETTERS), True
    # Of several, the last one between blanks; if there is none, all are at -1 and the first is taken.
    chosen = max(candidates, key=lambda letter: cleaned.rfind(f" {letter} "))
    return float(chosen in right), False


def _alphanumeric(text: str) -> str:
    return "".join(character for character in text if character.isalnum()).lower()


def rescore(
    run: str | Path,
    *,
    items: ItemSet | None = None,
    verdicts: Mapping[str, float] | None = None,
    arms: Iterable[str] = (),
) -> list[Rescored]:
    """Score every answer of a run under every rule.

    Args:
        run: A run folder, a zip of one, or its lines.
        items: Another version of the same questions (MMAU's original against its revision), joined by id. It replaces
            answers and choices, and items missing from it are skipped.
        verdicts: Verdicts of a judge in [0, 1] by key, as :func:`read_verdicts` reads them.
        arms: Names of arms to include; all by default.

    Raises:
        RescoreError: No answer of the run can be scored.
    """
    arm_names, items_by_id = set(arms), {item.id: item for item in items.items} if items else None
    rows = []
    for record in read_run(run).records():
        if record["status"] != "ok" or (arm_names and record["arm"] not in arm_names):
            continue
        item = record["item"]
        answer, choices = item["answer"], tuple(item["choices"] or ())
        # Another version of the question has its own answer and choices.
        if items_by_id is not None:
            version: Item | None = items_by_id.get(record["id"])
            if version is None:
                continue
            answer, choices = version.question.answer, version.question.choices
        if answer is None:
            continue
        # Score the reply by every rule, and by the judge if it has a verdict.
        values, guessed = score_by_rules(record["text"], answer, choices)
        if verdicts is not None and record["key"] in verdicts:
            values["judge"] = verdicts[record["key"]]
        reply = " ".join(_reply(parse_trace(record["text"])).split())[:200]
        clip = item["audio"] or record["id"]
        rows.append(Rescored(record["key"], record["id"], record["arm"], clip, answer, reply, values, guessed))
    if not rows:
        raise RescoreError(f"{run}: no answer with a known truth (and of these arms and items) is there to score")
    return rows


def read_verdicts(path: str | Path) -> dict[str, float]:
    """Read a judge's verdicts in [0, 1] by key: JSON lines with ``key`` (of the run's line) and ``right``."""
    path, verdicts = Path(path), {}
    with path.open("rb") as file:
        for number, raw in read_lines(file, path.name):
            key, right = raw.get("key"), raw.get("right")
            if not isinstance(key, str) or not isinstance(right, bool | int | float) or not 0 <= right <= 1:
                raise RescoreError(f"{path}, line {number}: 'key' as a text and 'right' from 0 to 1 are needed")
            verdicts[key] = float(right)
    return verdicts


def rescored_table(rows: list[Rescored], reference: str = "official") -> list[dict[str, Any]]:
    """Return a row for each arm and rule: accuracy, and the paired difference from the reference rule."""
    table = []
    for arm in dict.fromkeys(row.arm for row in rows):
        arm_rows = [row for row in rows if row.arm == arm]
        for rule in dict.fromkeys(name for row in arm_rows for name in row.values):
            rule_rows = [row for row in arm_rows if rule in row.values]
            clips = [row.clip for row in rule_rows]
            values = np.array([row.values[rule] for row in rule_rows])
            base = np.array([row.values[reference] for row in rule_rows])
            accuracy = statistics.bootstrap_interval(values, groups=clips)
            difference = statistics.paired_bootstrap(base, values, groups=clips)
            table.append(
                {
                    **{"arm": arm, "rule": rule},
                    **dict(zip(("accuracy", "low", "high"), accuracy, strict=False)),
                    "answers": len(rule_rows),
                    "items": len({row.id for row in rule_rows}),
                    "clips": accuracy.n,
                    **dict(zip(_DIFFERENCE, difference, strict=False)),
                    "more_right": int((values > base).sum()),
                    "less_right": int((values < base).sum()),
                    "guessed": sum(row.guessed for row in rule_rows) if rule == "lmms_eval" else None,
                    "behind": [row.key for row in rule_rows if row.values[rule] != row.values[reference]],
                }
            )
    return table
