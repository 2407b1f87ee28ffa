"""The judge by rules over exact truth, no model: the judge, and the parts that it is made of.

``judge``       the judge itself             ``mentions``    candidate mentions and the sentences they stand in
``vocabulary``  words for sounds, from ``sounds`` and ``mpar2.cafe.sound_classes``
``assertion``   asserted, questioned, negated, hedged
``times``, ``claims``  when; order, count, loudness         ``checks``  whether a claim is true
``unsure``      mentions of what the truth leaves open
"""
