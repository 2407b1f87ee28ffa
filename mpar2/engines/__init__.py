"""What runs a model.

``base``          arms, decoding, generations: what every engine shares
``names``         where checkpoints and adapters are found
``families``      what differs between model families: one class for each
``adapter``       LoRA adapters, checked against the model and attached; ``merge``, added into its weights
``chat``          the messages of a question and the chat template
``processor``     from a clip and messages to the model's inputs, without vision libraries
``checkpoint``    from a name to a loaded model with its adapters
``rows``          weights as int8 rows, which halve a checkpoint
``precision``     which precision this processor multiplies fast
``inputs``        clips and questions as prompts; the output of the audio encoder
``probe``         records attention while a model generates
``decode``        one batch of prompts through a model
``forced_decoding`` one row of a batch: sampling, forced lengths, hidden audio
``transformers``  the engine that runs checkpoints in this process
``server``        the engines that ask OpenAI-compatible servers and Gemini
``background``    threads of engines, and their updates
``routing``       arms that run in different places, side by side
``as_json``       a generation as plain JSON values

Most modules other than ``base`` import torch and transformers: import them only where a model is really run.

``register_engine`` makes an engine known to the shell (``--engine``), the app and files of arms under a name::

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
    """Make an engine known under a name; an engine of that name is replaced.

    Args:
        name: The name in ``--engine``, arms and the app.
        factory: Makes the engine from the options of the command line.
    """
    _ENGINES[name] = factory


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines, ``transformers`` first."""
    return tuple(_ENGINES)


def make_engine(name: str, options: EngineOptions | None = None) -> Engine:
    """Make an engine. Nothing is loaded and no service is called yet.

    Args:
        name: One of :func:`engine_names`.
        options: What the command line says of engines; what does not concern this one is not read.

    Returns:
        The engine.

    Raises:
        EngineError: No engine has this name; the message lists those that there are.
    """
    if name not in _ENGINES:
        raise EngineError(f"no engine '{name}': choose one of {', '.join(_ENGINES)}")
    return _ENGINES[name](options or EngineOptions())
