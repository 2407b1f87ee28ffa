"""The functions of ``import mpar2`` for use from Python.

``evaluate``  evaluate models on a benchmark: a frame with one row for each answer
``compare``   run models on one question about one recording: their generations, with traces and attention
``score``     score one reply under every rule

Models are written as in the shell: ``[NAME=]MODEL[+ADAPTER][:MODE]``, where MODEL is a short name, a folder, a hub id,
``server:http://host:port/v1#MODEL`` or ``gemini:MODEL`` (``mpar2.arms``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpar2.audio import Clip, load_clip
from mpar2.engines.names import BASE, TRAINED
from mpar2.question import Question, make_question
from mpar2.rescore import score_by_rules

if TYPE_CHECKING:
    import pandas as pd

    from mpar2.engines.base import Engine, EngineOptions, Generation, Mode
    from mpar2.runs import Run

__all__ = ["compare", "evaluate", "score"]


def score(reply: str, answer: str, choices: Sequence[str] = ()) -> dict[str, float]:
    """Score one reply by every rule (described in ``mpar2.rescore``).

    Args:
        reply: The text of the model.
        answer: The true choice, as written in ``choices``.
        choices: All choices; empty for an open question.

    Returns:
        Value in [0, 1] by rule.

    >>> import mpar2
    >>> mpar2.score("The answer is B.", "Woman", ["Man", "Woman"])["strict"]
    1.0
    """
    return score_by_rules(reply, answer, tuple(choices))[0]


def evaluate(
    model: str | Sequence[str],
    benchmark: str,
    data: str | Path,
    *,
    mode: Mode = "mpar2",
    audio_root: str | Path | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    engine: str | Engine = "transformers",
    options: EngineOptions | None = None,
    batch_size: int = 8,
    seed: int = 0,
    attention_share: float = 0.0,
    report: Callable[[int, int, int], None] = lambda done, total, failed: None,
    **settings: Any,
) -> pd.DataFrame:
    """Evaluate models on a benchmark, and score the answers.

    Args:
        model: One model, or several, for the same questions.
        benchmark: A name of :func:`mpar2.items.benchmark_names`.
        data: Its question file or folder.
        mode: Mode of models without one.
        audio_root: Base of relative audio paths; by default beside the questions.
        limit: Number of items, from the first; None for all.
        out: The run's folder, readable by the shell and the app. If it has answers, only missing ones are generated.
            None: nothing is kept but the frame.
        engine: The engine's name for models without one, or an engine.
        options: Device, precision and addresses, if the engine is a name.
        batch_size: Batch size of an engine in this process.
        seed: Seed of all randomness.
        attention_share: Share of the items whose attention to audio is recorded, in [0, 1].
        report: Called with the numbers of finished, all and failed answers.
        **settings: Settings of every arm, as in a file of arms: ``max_new_tokens``, ``temperature``, ``samples``, ...

    Returns:
        One row for each answer: ``arm``, ``id``, ``sample``, the item's ``audio``, ``question``, ``choices``,
        ``answer``, ``domain``, ``category``, ``difficulty``; the ``reply``, its ``choice`` and ``prediction``;
        ``right`` by the official rule and ``strict`` (1 or 0; NaN if the answer is withheld), ``answered``;
        ``tokens``, ``seconds``, ``attention`` (mean ratio), ``finish``, ``error``. A failed answer is wrong.
        ``attrs["metrics"]`` has the content of ``metrics.json``: accuracy by arm with intervals, paired differences.

    Raises:
        MPAR2Error: No such model, benchmark or file; the message gives the remedy.
    """
    from mpar2.arms import arm_from_json, parse_arms
    from mpar2.engines.base import EngineOptions
    from mpar2.engines.routing import engine_for_arms
    from mpar2.evaluation import Settings, engine_settings
    from mpar2.evaluation import evaluate as run_evaluation
    from mpar2.items import read_items
    from mpar2.runs import read_run

    models = parse_arms([model] if isinstance(model, str) else list(model), mode)
    keys = ("name", "model", "adapter", "mode")
    arms = [arm_from_json({key: getattr(arm, key) for key in keys} | settings) for arm in models]
    items = read_items(benchmark, data, audio_root).first(limit)
    run_settings = Settings(seed=seed, attention_share=attention_share, batch_size=batch_size)
    if isinstance(engine, str):  # the same settings as the shell's, so that each can resume the other's run
        options = options or EngineOptions()
        run_settings = replace(run_settings, engine=engine_settings(engine, options))
        engine = engine_for_arms([arm.arm for arm in arms], engine, options)
    with tempfile.TemporaryDirectory(prefix="mpar2-") as scratch:
        folder = Path(out) if out is not None else Path(scratch)
        metrics = run_evaluation(items, arms, engine, folder, run_settings, report)
        frame = _frame(read_run(folder))
    frame.attrs["metrics"] = metrics
    return frame


def compare(
    audio: str | Path | bytes | Clip,
    question: str | Question,
    models: Sequence[str] = (f"{BASE}:cot", TRAINED),
    *,
    choices: Sequence[str] = (),
    mode: Mode = "mpar2",
    attention: bool = False,
    engine: str | Engine = "transformers",
    options: EngineOptions | None = None,
    **decoding: Any,
) -> list[Generation]:
    """Run several models on one question about one recording.

    Args:
        audio: A file, its bytes, or a clip.
        question: Its text, or a question with its choices.
        models: The small pair by default.
        choices: Choices of a question given as text.
        mode: Mode of models without one.
        attention: Record each token's attention to the audio, if the engine supports it.
        engine: As in :func:`evaluate`.
        options: As in :func:`evaluate`.
        **decoding: Fields of :class:`mpar2.engines.base.Decoding`: ``max_new_tokens``, ``temperature``, ``seed``, ...

    Returns:
        A generation for each model: ``text``, ``trace`` (perception, steps, review, answer), ``choice``,
        ``token_count``, ``attention``.

    Raises:
        MPAR2Error: A recording, model or question that cannot be used.
    """
    from mpar2.arms import ArmError, parse_arms
    from mpar2.engines.base import Decoding
    from mpar2.engines.routing import engine_for_arms

    clip = audio if isinstance(audio, Clip) else load_clip(audio)
    checked_question = question if isinstance(question, Question) else make_question(question, choices)
    arms = parse_arms(list(models), mode)
    if unknown := set(decoding) - set(asdict(Decoding())):
        raise ArmError(f"unknown setting {min(unknown)!r}; known are {', '.join(asdict(Decoding()))}")
    if isinstance(engine, str):
        engine = engine_for_arms(arms, engine, options)
    updates = engine.stream(clip, checked_question, arms, Decoding(**decoding), attention=attention)
    done = {update.index: update.generation for update in updates if update.generation is not None}
    return [done[index] for index in range(len(arms))]


_ITEM_COLUMNS = ("audio", "question", "choices", "answer", "domain", "category", "difficulty")


def _frame(run: Run) -> pd.DataFrame:
    """Return the answers of a run, one row each (:func:`evaluate` describes the columns)."""
    import pandas as pd

    from mpar2.accuracy import answer_of, score

    rows = []
    for record in run.records():
        item, ok = record["item"], record["status"] == "ok"
        answer = answer_of(record) if ok else None
        scored = score(record, answer) if ok else None
        wrong = float("nan") if item["answer"] is None else 0.0
        ratios = (record["attention"] or {}).get("ratio")
        rows.append(
            {name: record[name] for name in ("arm", "id", "sample")}
            | {name: item[name] for name in _ITEM_COLUMNS}
            | {
                "reply": record["text"],
                "choice": answer.choice if answer else None,
                "prediction": answer.prediction if answer else None,
                "right": float(scored.official) if scored else wrong,
                "strict": float(scored.strict) if scored else wrong,
                "answered": bool(answer and (answer.choice is not None or answer.words is not None)),
                "attention": sum(ratios) / len(ratios) if ratios else float("nan"),
            }
            | {name: record[name] for name in ("tokens", "seconds", "finish", "error")}
        )
    return pd.DataFrame(rows)
