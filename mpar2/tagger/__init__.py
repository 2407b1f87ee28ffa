"""A small audio tagger, independent of the models under study. It runs offline and without a key.

    from mpar2.tagger import tag

    tagging = tag(clip)          # mpar2.audio.Clip -> Tagging; 10 s of sound in less than 0.3 s
    tagging.events               # TaggedEvent(label, onset_s, offset_s, confidence), in order of onset
    tagging.unsure               # the same for unsure events
    tagging.truth()              # mpar2.cafe.schema.Truth with origin "tagger": a mention of an unsure event is neutral
    errors()                     # its error rates, measured on held-out recordings (see ``profile``)

Its events are predictions with a confidence, not the truth. ``errors().note()`` summarises their accuracy in one
sentence, which belongs wherever the events are shown.

``model``    log-mel input and the network            ``names``    the AudioSet names
``profile``  thresholds, confidences, measured errors  ``tagging``  events from scores
Weights, settings with errors, and the card: ``tagger.safetensors``, ``tagger.json`` and ``CARD.md``.
"""

from mpar2.tagger.profile import ErrorProfile, errors
from mpar2.tagger.tagging import ORIGIN, TaggedEvent, Tagging, frame_scores, tag

__all__ = ["ORIGIN", "ErrorProfile", "TaggedEvent", "Tagging", "errors", "frame_scores", "tag"]
