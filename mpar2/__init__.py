"""MPAR²: see, measure and train away audio perception decay (arXiv 2603.02266).

Contents, in the order in which data flows:

``audio``      any recording -> :class:`~mpar2.audio.Clip`
``question``   questions, choices, items, answer matching
``trace``      generated text -> :class:`~mpar2.trace.Trace` (perception, steps, review, answer)
``prompts``    how a model is asked: ``direct``, ``cot``, ``mpar2``
``engines``    what runs a model
``attention``  where a model attends while it reasons
``scenes``     audio scenes with exact truth
``cafe``       which audio events a trace really heard
``runs``       folders of finished generations

Importing this package is fast and needs neither torch nor a key.
"""

__version__ = "0.1.0"
