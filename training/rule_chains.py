"""Chains by rule from listed events: a cold start without a language model, for items with exact events or a caption.

A chain lists every event with its times (perception), takes one step for each sound that question or choices name and
a concluding step, checks each sound again (review) and ends in the right choice. It is shallow compared with a language
model's chain (``cold_start``): the last step states the answer without deriving it. Every chain must pass the checks of
:func:`training.cold_start.check_chain`, or it is dropped with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpar2.question import Event, Item
from training.cold_start import Chain, Chains, check_chain, format_chain
from training.rewards.words import Lexicon, read_claims

_MOST_STEPS = 4
_TIMES = {1: "once", 2: "twice"}


def caption_of_events(events: Sequence[Event]) -> str:
    """Return events as a caption, in order of onset.

    >>> caption_of_events([Event("siren", 2, 3), Event("dog bark", 0.44, 1.6), Event("rain")])
    '0.4-1.6 s dog bark; 2.0-3.0 s siren; rain'
    """
    ordered = sorted(events, key=lambda event: float("inf") if event.onset_s is None else event.onset_s)
    return "; ".join(_timed(event) for event in ordered)


def rule_chain(item: Item) -> Chain | None:
    """Return the chain of an item; None where it has neither events nor a caption with known sounds."""
    events = item.events if item.events is not None else _events_of_caption(item.caption or "")
    if not events or not item.question.answer:
        return None
    question = item.question
    question_text = " ".join((question.text, *question.choices)).lower()
    by_label: dict[str, list[Event]] = {}
    for event in events:
        by_label.setdefault(event.label, []).append(event)
    labels = [label for label in by_label if label.lower() in question_text] or list(by_label)
    steps = [_step(label, by_label[label]) for label in labels[: _MOST_STEPS - 1]]
    named_events = caption_of_events([event for label in labels for event in by_label[label]])
    review = "; ".join(f"{part}: supported" for part in named_events.split("; "))
    steps.append({"ask": question.text, "hear": named_events, "infer": f"So the answer is {question.answer}."})
    return Chain.model_validate(
        {"perception": caption_of_events(events), "steps": steps, "review": review, "answer": question.answer}
    )


def rule_chains(items: Sequence[Item]) -> Chains:
    """Write and check a chain for each item; dropped ones are counted by reason."""
    outcome = Chains()
    for item in items:
        chain = rule_chain(item)
        if chain is None:
            outcome.drop("no_truth" if item.question.answer else "no_answer", item)
            continue
        text = format_chain(chain)
        caption = caption_of_events(item.events) if item.events is not None else item.caption
        if reason := check_chain(text, replace(item, caption=caption)):
            outcome.drop(reason, item)
        else:
            outcome.keep(item, text, "rules", "rules")
    return outcome


def _step(label: str, events: Sequence[Event]) -> dict[str, str]:
    count = _TIMES.get(len(events), f"{len(events)} times")
    return {
        "ask": f"When is the {label} heard?",
        "hear": caption_of_events(events),
        "infer": f"It is heard {count}" + ("." if events[0].onset_s is None else f", first at {_first(events):.1f} s."),
    }


def _first(events: Sequence[Event]) -> float:
    return min(event.onset_s for event in events if event.onset_s is not None)


def _timed(event: Event) -> str:
    if event.onset_s is None or event.offset_s is None:
        return event.label
    return f"{event.onset_s:.1f}-{event.offset_s:.1f} s {event.label}"


def _events_of_caption(caption: str) -> tuple[Event, ...]:
    """Return the sounds that a caption asserts, by the training scorer's lexicon."""
    claims = [claim for claim in read_claims(caption, Lexicon()) if not claim.denied]
    return tuple(Event(claim.sound, claim.onset_s, claim.offset_s) for claim in claims for _ in range(claim.count))
