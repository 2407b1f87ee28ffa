"""Engines, which run the models.

``base``          arms, decoding, generations: the interface of all engines
``names``         names of checkpoints and adapters
``families``      one class for each model family
``adapter``       LoRA adapters, checked against the model and attached; ``merge``, added into its weights
``chat``          the messages of a question and the chat template
``processor``     the model's inputs from a clip and messages, without vision libraries
``no_vision``     a vision tower without weights, for Gemma 3n
``checkpoint``    models and their adapters, loaded by name
``rows``          weights quantised to int8 by rows, half the size of bfloat16
``int8_linear``   linear layers over such rows, for decoding on a CPU
``precision``     the precision in which this processor multiplies fastest
``inputs``        clips and questions as prompts; the output of the audio encoder
``probe``         records attention while a model generates
``decode``        one batch of prompts through a model
``forced_decoding`` one row of a batch: sampling, forced lengths, hidden audio
``transformers``  the engine for checkpoints in this process
``server``        the engines for OpenAI-compatible servers and Gemini
``background``    threads of engines, and their updates
``routing``       arms on different engines, side by side
``as_json``       a generation as plain JSON values

Most modules other than ``base`` import torch and transformers: import them only to run a model.

``register_engine`` registers an engine for the shell (``--engine``), the app and files of arms::

    class Echo(Engine): ...

    register_engine("echo", lambda options: Echo())
"""

from __future__ import annotations

from collections.abc import Callable

from mpar2.engines.base import Engine, EngineError, EngineOptions

__all__ = ["engine_names", "make_engine", "register_engine"]

Factory = Callable[[EngineOptions], Engine]


def _transformers(options: EngineOptions) -> Engine:
    from mpar2.engines.transformers import TransformersEngine

    return TransformersEngine(
        device=options.device, dtype=options.dtype, quantize=options.quantize, max_models=options.max_models
    )


def _server(options: EngineOptions) -> Engine:
    from mpar2.engines.server import ServerEngine

    return ServerEngine(
        options.base_urls,
        in_flight=options.in_flight or 8,
        audio_as=options.audio_as,
        fields=options.fields,
        check_audio=options.check_audio,
    )


def _gemini(options: EngineOptions) -> Engine:
    from mpar2.engines.server import GeminiEngine

    return GeminiEngine(in_flight=options.in_flight or 4, base_url=(*options.base_urls, None)[0])


_ENGINES: dict[str, Factory] = {"transformers": _transformers, "server": _server, "gemini": _gemini}


def register_engine(name: str, factory: Factory) -> None:
    """Register an engine under a name; an engine of that name is replaced.

    Args:
        name: The name in ``--engine``, arms and the app.
        factory: Builds the engine from the options of the command line.
    """
    _ENGINES[name] = factory


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines, ``transformers`` first."""
    return tuple(_ENGINES)


def make_engine(name: str, options: EngineOptions | None = None) -> Engine:
    """Build an engine. Nothing is loaded and no service is called yet.

    Args:
        name: One of :func:`engine_names`.
        options: Engine options; each engine ignores those of others.

    Returns:
        The engine.

    Raises:
        EngineError: No engine has this name; the message lists the available ones.
    """
    if name not in _ENGINES:
        raise EngineError(f"no engine '{name}': choose one of {', '.join(_ENGINES)}")
    return _ENGINES[name](options or EngineOptions())
