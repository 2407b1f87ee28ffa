"""What a trace claims to hear, sound by sound: from sorted mentions to the rows of a table, in words.

The rule is that of ``mpar2.cafe.metrics``: a sound of the clip is used wrongly if any mention of it is, else right if
any mention is, else missed; invented sounds of one name are one claim. So the rows agree with Acc_per and its siblings.
Where mentions are checked against a machine's ``opinion``, the sentences say no more than that the two differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["claims_of", "reason_in_words"]

_FIRST_WORDS = {
    "wrong time": "at a wrong time",
    "wrong order": "in a wrong order",
    "wrong count": "with a wrong count",
}


def claims_of(
    mentions: Sequence[Mapping[str, Any]], targets: Sequence[str], *, opinion: bool = False
) -> list[dict[str, Any]]:
    """List each claimed or missed sound, in the order in which the trace names them; missed ones last.

    Args:
        mentions: Sorted mentions of the trace.
        targets: Labels of the events that they were checked against.
        opinion: These are a tagger's, so that the sentences say no more than that the two differ.

    Returns:
        For each sound ``label``, ``fate`` (matched, misused, hallucinated, missed), ``event`` (its place among the
        targets, or None), ``mentions`` (their places), ``said`` and ``right`` (how many) and ``why``, a sentence.
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
                "why": _why(fate, [mentions[number] for number in numbers], opinion),
            }
        )
    missed = [event for event in range(len(targets)) if event not in by_event]
    for event in missed:
        row = {"label": targets[event], "fate": "missed", "event": event, "mentions": [], "said": 0, "right": 0}
        rows.append(row | {"why": f"{'The tagger finds it' if opinion else 'It is in the clip'}; it is never named."})
    return rows


def reason_in_words(mention: Mapping[str, Any], *, opinion: bool = False) -> str:
    """Return why a mention is of its kind, as a sentence.

    Args:
        mention: A sorted mention (``mpar2.cafe.schema``) as JSON.
        opinion: It was checked against a tagger's opinion.
    """
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


def _why(fate: str, mentions: Sequence[Mapping[str, Any]], opinion: bool) -> str:
    said = "once" if len(mentions) == 1 else f"{len(mentions)} times"
    if fate == "hallucinated":
        return f"Named {said}; {'the tagger does not find it' if opinion else 'it is not in the clip'}."
    wrong = [mention for mention in mentions if mention["kind"] == "misused"]
    if not wrong:
        return f"Named {said}, {'as the tagger has it' if opinion else 'rightly'}."
    ways = list(dict.fromkeys(_way(mention) for mention in wrong))
    right = len(mentions) - len(wrong)
    if opinion:
        return f"Named {said}: in {len(wrong)} of them the tagger disagrees on time, order or count."
    start = f"Named {said}: {right} right, {len(wrong)}" if right else f"Named {said},"
    return f"{start} {' and '.join(ways[:2])}. One wrong use makes the claim wrong."


def _way(mention: Mapping[str, Any]) -> str:
    head = str(mention.get("reason") or "").partition(":")[0].strip()
    return _FIRST_WORDS.get(head, "wrongly used")
