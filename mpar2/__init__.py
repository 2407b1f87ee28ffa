"""MPAR²: see, measure and train away audio perception decay (arXiv 2603.02266).

Contents, in the order in which data flows:

``audio``      any recording -> :class:`~mpar2.audio.Clip`; ``formats`` reads the files of strangers
``question``   questions, choices, items, answer matching
``trace``      generated text -> :class:`~mpar2.trace.Trace` (perception, steps, review, answer)
``answers``    the answer that a reply gives, tagged or not, and the choice that it names
``prompts``    how a model is asked: ``direct``, ``cot``, ``mpar2``
``engines``    what runs a model
``attention``  where a model attends while it reasons
``cafe``       which audio events a trace really heard
``llm``        clients of judges, captioners and served models
``items``      benchmarks, read unchanged
``arms``       models, modes and controls to compare; ``tasks``, their work; ``evaluate``, which does it
``runs``       folders of finished generations; ``predictions``, the same for the official scripts
``accuracy``   what a run scored; ``statistics``, how sure its numbers are
``errors``     the base of all errors; ``locks``, what keeps two processes from one file
``cli``        the command line; ``commands``, one module for each

Importing this package is fast and needs neither torch nor a key.
"""

__version__ = "0.1.0"
