"""MPAR²: see, measure and train away audio perception decay (arXiv 2603.02266).

Contents, in the order in which data flows:

``audio``      any recording -> :class:`~mpar2.audio.Clip`; ``decoder`` decodes it in a process
               of its own (``child``); ``containers``, which format it has; ``formats`` reads other files from outside
``question``   questions, choices, items, answer matching
``trace``      generated text -> :class:`~mpar2.trace.Trace` (perception, steps, review, answer)
``answers``    the answer of a reply, tagged or not, and the choice that it names
``prompts``    the prompts of the modes ``direct``, ``cot`` and ``mpar2``
``engines``    the programs that run a model
``attention``  attention to the audio over the tokens of a trace; ``occlusion``, the windows that an answer depends on
``cafe``       audio events of a trace: matched, hallucinated, misused or missed
``tagger``     an audio event detector for clips without annotation
``llm``        clients of judges, captioners and served models
``items``      benchmarks, read unchanged
``arms``       models, modes and controls to compare; ``tasks``, one per answer; ``evaluation``, the loop over them
``runs``       folders of finished generations; ``predictions``, the same for the official scripts;
               ``inspect_log``, for Inspect's viewer; ``lmms_eval``, runs of lmms-eval, read
``accuracy``   accuracy of a run; ``rescore``, the same under every rule; ``statistics``, intervals and tests
``library``    the functions for use from Python
``export``     checkpoints and adapters in the layouts that other programs serve
``gguf_converter``  llama.cpp's converter, run by ``export``
``errors``     the base of all errors; ``locks``, one process at a time on a file;
               ``terminal``, text cleaned for printing; ``threads``, work in a thread that ends
``cli``        the command line; ``commands``, one module for each

Importing this package is fast and needs neither torch nor a key.
"""

__version__ = "0.1.0"

# Public names, imported on first access: name -> module.
_EXPORTS = {
    "load_clip": "mpar2.audio",
    "Question": "mpar2.question",
    "make_question": "mpar2.question",
    "read_answer": "mpar2.answers",
    "parse_trace": "mpar2.trace",
    "read_run": "mpar2.runs",
    "read_items": "mpar2.items",
    "register_benchmark": "mpar2.items",
    "evaluate": "mpar2.library",
    "compare": "mpar2.library",
    "score": "mpar2.library",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'mpar2' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
