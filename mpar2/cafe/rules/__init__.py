"""The rule-based judge over exact truth, and its parts. It uses no model.

``judge``       the judge itself             ``mentions``    candidate mentions and their sentences
``vocabulary``  words for sounds, from ``sounds`` and ``mpar2.cafe.sound_classes``
``assertion``   asserted, questioned, negated, hedged
``times``, ``claims``  claims of time; of order, count and loudness    ``checks``  whether a claim is true
``unsure``      mentions of events that the truth marks as unsure
"""
