"""Claims of a trace about sounds: rows of a table, built from classified mentions.

The rule is that of ``mpar2.cafe.metrics``: an event is misused if any mention of it is, else matched if any mention is,
else missed. Hallucinated mentions with one label are one claim. So the rows agree with Acc_per and its siblings. Where
the events are a tagger's ``opinion``, the sentences state only the disagreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_FAULTS = {
    "wrong time": "at a wrong time",
    "wrong order": "in a wrong order",
    "wrong count": "with a wrong count",
}


def claims_of(
    mentions: Sequence[Mapping[str, Any]], targets: Sequence[str], *, opinion: bool = False
) -> list[dict[str, Any]]:
    """List each claimed or missed sound, in the order of the trace, missed sounds last.

    Returns:
        For each sound ``label``, ``fate`` (matched, misused, hallucinated, missed), ``event`` (index in ``targets``,
        or None), ``mentions`` (indices), ``said`` and ``right`` (numbers of mentions) and ``why``, a sentence.
    """
    by_event: dict[Any, list[int]] = {}
    for number, mention in enumerate(mentions):
        if mention["kind"] == "hallucinated":
            by_event.setdefault(" ".join(mention["label"].lower().split()), []).append(number)
        elif mention["kind"] in ("matched", "misused"):
            for event in mention["events"]:
                by_event.setdefault(event, []).append(number)
    rows = []
    for key, numbers in by_event.items():
        kinds = [mentions[number]["kind"] for number in numbers]
        event = key if isinstance(key, int) else None
        fate = "hallucinated" if event is None else "misused" if "misused" in kinds else "matched"
        label = mentions[numbers[0]]["label"] if event is None else targets[event]
        rows.append(
            {
                "label": label,
                "fate": fate,
                "event": event,
                "mentions": numbers,
                "said": len(numbers),
                "right": kinds.count("matched"),
                "why": _explanation(fate, [mentions[number] for number in numbers], opinion),
            }
        )
    missed = [event for event in range(len(targets)) if event not in by_event]
    for event in missed:
        row = {"label": targets[event], "fate": "missed", "event": event, "mentions": [], "said": 0, "right": 0}
        rows.append(row | {"why": f"{'The tagger finds it' if opinion else 'It is in the clip'}; no claim names it."})
    return rows


def reason_in_words(mention: Mapping[str, Any], *, opinion: bool = False) -> str:
    """Return the reason for the kind of a mention, as a sentence."""
    reason = str(mention.get("reason") or "").strip()
    detail = reason.partition(": ")[2] or reason
    if opinion:
        return {
            "matched": "The tagger finds it too.",
            "hallucinated": "The tagger does not find it.",
            "misused": f"The tagger disagrees: {reason or 'on time, order or count'}.",
        }.get(mention["kind"], "Not checked: only asked about or denied, or the tagger is unsure of it.")
    return {
        "matched": f"Right: the clip holds it ({detail})." if detail else "Right: the clip holds it.",
        "hallucinated": "Made up: the clip does not hold it.",
        "misused": f"Wrong: {reason}." if reason else "Wrong: used at a wrong time, in a wrong order or count.",
    }.get(mention["kind"], f"Not a claim: {detail}." if detail else "Not a claim: only asked about or denied.")


def _explanation(fate: str, mentions: Sequence[Mapping[str, Any]], opinion: bool) -> str:
    times = "once" if len(mentions) == 1 else f"{len(mentions)} times"
    if fate == "hallucinated":
        return f"Named {times}; {'the tagger does not find it' if opinion else 'it is not in the clip'}."
    misused = [mention for mention in mentions if mention["kind"] == "misused"]
    if not misused:
        return f"Named {times}, {'as the tagger has it' if opinion else 'rightly'}."
    faults = list(dict.fromkeys(_fault(mention) for mention in misused))
    right = len(mentions) - len(misused)
    if opinion:
        return f"Named {times}: in {len(misused)} of them the tagger disagrees on time, order or count."
    start = f"Named {times}: {right} right, {len(misused)}" if right else f"Named {times},"
    return f"{start} {' and '.join(faults[:2])}. One wrong use makes the claim wrong."


def _fault(mention: Mapping[str, Any]) -> str:
    head = str(mention.get("reason") or "").partition(":")[0].strip()
    return _FAULTS.get(head, "wrongly used")
