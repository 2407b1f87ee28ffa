"""Occlusion of one arm as the page draws it: the windows of the clip on which the answer depends.

    measure    "log-probability" (drops in nats) or "changed answer" (1 where the answer changed)
    edges_s    where the windows begin and end
    drops      drop of each window, null where it is unknown
    summary    the track in one sentence

``mpar2.occlusion`` computes it; windows are silence.
"""

from __future__ import annotations

from typing import Any

from mpar2.occlusion import Occlusion

WINDOWS = 20


def occlusion_document(result: Occlusion, agreement: float | None = None) -> dict[str, Any]:
    """Return a result as the page draws it."""
    data = result.to_json()
    summary = _summary(result) + ("" if agreement is None else f" Rank correlation with attention: {agreement:+.2f}.")
    return {"measure": data["measure"], "edges_s": data["edges_s"], "drops": data["drops"][0], "summary": summary}


def check_occlusion(data: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a track that cannot be drawn; the types of its values are already checked."""
    edges, drops = data["edges_s"], data["drops"]
    if len(edges) != len(drops) + 1 or sorted(edges) != edges:
        raise ValueError("the windows of an occlusion do not follow each other")


def _summary(result: Occlusion) -> str:
    drops, edges, count = result.drops[0], result.edges, result.drops.shape[1]
    if result.finished < count:
        return f"{result.finished} of {count} windows are done."

    def window(place: int) -> str:
        return f"{edges[place]:.1f}–{edges[place + 1]:.1f} s"

    if result.measure == "changed answer":
        changed = [window(place) for place in range(count) if drops[place] > 0]
        if not changed:
            return f"The answer is the same with each of the {count} windows as silence."
        return f"The answer changes with {', '.join(changed[:5])}{' and others' if changed[5:] else ''} as silence."
    most = int(drops.argmax())
    if not drops[most] > 0:
        return "With no window as silence the log-probability of the answer falls."
    return (
        f"With {window(most)} as silence the log-probability of the answer falls most, by {drops[most]:.2g} nats "
        f"({count} windows)."
    )
