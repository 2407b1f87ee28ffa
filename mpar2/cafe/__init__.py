"""CAFE: which audio events a reasoning trace really heard (arXiv 2603.02266; the rules are in ``schema``).

``schema``      truth, mentions, verdicts, and the decision table of all judges
``truth``       the truth that an item carries, or that a person writes down

``reference``   a judge by rules over exact truth, no model; its parts are
``mentions``      places that name a sound        ``vocabulary``, ``sounds``, ``sound_classes``  words for sounds
``stance``        claimed, asked, denied, open    ``times``, ``claims``       time; order, count, loudness
``checks``        whether a claim is true
``llm_judge``   judges that are language models   ``quotes``    where a model's quotes stand in a text
``caption``     captions by a model that hears    ``prompts`` their words, in versions; the canaries
``judging``     many traces, resumable            ``canary``    how easily a judge is talked into a verdict

``metrics``     from verdicts to rates with intervals
``score``       the scores of a run               ``agree``     two judges on the same traces
``damage``      what a bad truth does to a score  ``sheet``     a page on which people rate mentions, blind
``probes``      asking the model directly         ``grounding`` attention inside the event's interval

    verdict = annotate(text, Truth((Event("dog bark", 0.0, 2.0),)))
    rates = rates_of_trace(count_events(verdict))
"""

from mpar2.cafe.metrics import EventCounts, count_events, rates_of_trace
from mpar2.cafe.reference import ReferenceJudge, annotate
from mpar2.cafe.schema import Judge, JudgeRequest, Mention, MentionKind, Truth, Unscored, Verdict
from mpar2.cafe.truth import truth_from_json, truth_of

__all__ = [
    "EventCounts",
    "Judge",
    "JudgeRequest",
    "Mention",
    "MentionKind",
    "ReferenceJudge",
    "Truth",
    "Unscored",
    "Verdict",
    "annotate",
    "count_events",
    "rates_of_trace",
    "truth_from_json",
    "truth_of",
]
