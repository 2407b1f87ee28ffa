"""CAFE: accuracy of the audio events that a reasoning trace mentions (arXiv 2603.02266; the rules are in ``schema``).

``schema``      truth, mentions, verdicts, and the decision table of all judges
``truth``       the truth of an item, or a truth that a person wrote

``rules``       the rule-based judge over exact truth            ``sound_classes``  the classes of the project's scenes
``llm_judge``   judges that are language models                  ``quotes``    spans of a model's quotes in a text
``caption``     captions by an audio model                       ``prompts``   prompts in versions; the canaries
``judges``      the judges by name

``metrics``     rates with intervals from verdicts               ``score``     the scores of a run
``validation``  agreement, perturbed truth, prompt injection, rating sheets
``probes``      yes/no questions about single events             ``grounding`` attention inside the event's interval

    verdict = annotate(text, Truth((Event("dog bark", 0.0, 2.0),)))
    rates = rates_of_trace(count_events(verdict))
"""

from mpar2.cafe.judges import JudgeOptions, judge_names, make_judge, register_judge
from mpar2.cafe.metrics import EventCounts, count_events, rates_of_trace
from mpar2.cafe.rules.judge import ReferenceJudge, annotate
from mpar2.cafe.schema import Judge, JudgeRequest, Mention, MentionKind, Truth, Unscored, Verdict
from mpar2.cafe.truth import truth_from_json, truth_of

__all__ = [
    "EventCounts",
    "Judge",
    "JudgeOptions",
    "JudgeRequest",
    "Mention",
    "MentionKind",
    "ReferenceJudge",
    "Truth",
    "Unscored",
    "Verdict",
    "annotate",
    "count_events",
    "judge_names",
    "make_judge",
    "rates_of_trace",
    "register_judge",
    "truth_from_json",
    "truth_of",
]
