"""Options and output shared by ``reason`` and ``compare``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpar2.engines import engine_names
from mpar2.engines.as_json import mean_attention_ratio
from mpar2.engines.names import TRAINED
from mpar2.prompts import mode_names

if TYPE_CHECKING:
    from mpar2.audio import Clip
    from mpar2.engines.base import Arm, Decoding, Engine, Generation
    from mpar2.question import Question


def add_question_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the recording and the question."""
    parser.add_argument("audio", metavar="AUDIO", help="a recording: wav, flac, mp3, ogg, opus, m4a, aac or webm")
    parser.add_argument("--question", required=True, help="what to ask about it")
    parser.add_argument(
        "--choice", action="append", default=[], metavar="TEXT", help="a possible answer; give the option once for each"
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of decoding and of the recorded attention."""
    group = parser.add_argument_group("decoding")
    group.add_argument("--max-new-tokens", type=int, default=512, metavar="N")
    group.add_argument("--temperature", type=float, default=0.0, help="0, the default, is greedy")
    group.add_argument("--top-p", type=float, default=1.0)
    group.add_argument("--seed", type=int, default=0)
    add_engine_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--attention",
        type=Path,
        metavar="FILE.npz",
        help="write where the model attended: FILE.npz, of several arms FILE-1.npz, FILE-2.npz, ..; "
        "mpar2.attention.load_record reads one",
    )
    output.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the choice of engine, from all registered ones."""
    group = parser.add_argument_group("what runs the model")
    group.add_argument("--engine", choices=engine_names(), default="transformers", help="default: %(default)s")
    group.add_argument("--device", help="transformers: cpu, cuda or mps; by default the best there is")
    add_precision_options(group)


def add_precision_options(group: argparse._ActionsContainer) -> None:
    """Add ``--dtype`` and ``--quantize``, equal in all commands."""
    group.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="transformers: of the weights")
    group.add_argument(
        "--quantize", choices=("4bit", "8bit"), help="transformers: store the text stack's weights so (bitsandbytes)"
    )


def add_prompt_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--prompt``, equal in all commands."""
    parser.add_argument(
        "--prompt",
        metavar="SET|FILE",
        help="words of the prompt: ours (default), ours-exact, r1-aqa, r1-aqa-think, ke-omni, plain, or a text file "
        "with the slot {question}",
    )


def add_arm_option(parser: argparse._ActionsContainer, *, several: bool) -> None:
    """Add ``--arm``, equal in all commands."""
    repeat_help = "; give the option once for each" if several else ""
    parser.add_argument(
        "--arm",
        action="append",
        default=[],
        metavar="ARM",
        help="NAME=MODEL[+ADAPTER][:MODE]; MODEL may be server:http://host:port/v1#MODEL or gemini:MODEL" + repeat_help,
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of one model, as single options or as one ``--arm``; :func:`read_arm` parses them."""
    add_prompt_option(parser)
    add_arm_option(parser, several=False)
    parser.add_argument("--model", help=f"short name, folder or hub id (default: {TRAINED})")
    parser.add_argument("--adapter", help="a LoRA adapter for it: folder or hub id")
    parser.add_argument("--mode", choices=mode_names(), help="how it is asked (default: mpar2)")


def read_arm(options: argparse.Namespace) -> Arm:
    """Parse the arm of :func:`add_model_options`.

    Raises:
        ArmError: Several arms, ``--arm`` beside another way, or an arm that cannot be read.
    """
    from mpar2.arms import ArmError
    from mpar2.engines.base import Arm

    arms = read_arms(options, ("model", "adapter", "mode"))
    if len(arms) > 1:
        raise ArmError(f"{options.command} asks one arm: use mpar2 compare for several")
    model = options.model or TRAINED
    return arms[0] if arms else Arm(model, model, options.adapter, options.mode or "mpar2", prompt=options.prompt)


def read_arms(options: argparse.Namespace, others: Sequence[str]) -> tuple[Arm, ...]:
    """Parse the arms of ``--arm``, with the prompt set of ``--prompt``; empty without ``--arm``.

    ``others`` are options that specify arms in another way, exclusive with ``--arm``.

    Raises:
        ArmError: ``--arm`` and another way, or an arm that cannot be read.
    """
    from mpar2.arms import ArmError, parse_arms

    if not options.arm:
        return ()
    for name in others:
        if getattr(options, name) is not None:
            raise ArmError(f"--arm and --{name.replace('_', '-')} both name arms: give one or the other")
    return tuple(replace(arm, prompt=options.prompt) for arm in parse_arms(options.arm))


def engine_of(options: argparse.Namespace, arms: Sequence[Arm] = ()) -> Engine:
    """Build the engine of the options of :func:`add_engine_options`, or a router if arms name engines."""
    from mpar2.engines.base import EngineOptions
    from mpar2.engines.routing import engine_for_arms

    quiet_libraries()
    engine_options = EngineOptions(device=options.device, dtype=options.dtype, quantize=options.quantize)
    return engine_for_arms(arms, options.engine, engine_options)


def read_question(options: argparse.Namespace) -> tuple[Clip, Question, Decoding]:
    """Return the clip, the question and the decoding of the options.

    Raises:
        AudioError: The recording cannot be read.
        QuestionError: The question is empty, or a choice is repeated.
        EngineError: A decoding option, or the attention file, cannot be used.
    """
    from mpar2.audio import load_clip
    from mpar2.engines.base import Decoding, EngineError
    from mpar2.question import make_question

    if options.attention is not None:
        if options.attention.suffix != ".npz":
            raise EngineError(f"--attention {options.attention}: the name must end in .npz")
        if not options.attention.parent.is_dir():
            raise EngineError(f"--attention {options.attention}: there is no folder {options.attention.parent}")
    decoding = Decoding(
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )
    question = make_question(options.question, options.choice)
    return load_clip(options.audio), question, decoding


def run_arms(
    clip: Clip,
    question: Question,
    arms: Sequence[Arm],
    decoding: Decoding,
    engine: Engine,
    *,
    attention: Path | None,
    live: bool,
) -> list[Generation]:
    """Generate every arm, write its attention to a file, and return the generations in order.

    ``attention`` is FILE.npz (:func:`attention_files`). ``live`` prints the text of a single arm while it is generated,
    and the names of written files.

    Raises:
        PromptError: A prompt set or file cannot be used.
        EngineError: The engine lacks a requested capability.
    """
    from mpar2.attention import save_record
    from mpar2.engines.base import EngineError
    from mpar2.prompts import prompt_identity

    for arm in arms:
        prompt_identity(arm.mode, arm.prompt)  # refuse an invalid prompt before anything is loaded
    if attention is not None and not any(engine.engine_for(arm).attention for arm in arms):
        raise EngineError(
            f"--attention: {type(engine.engine_for(arms[0])).__name__} does not tell where a model attends"
        )
    printed = 0
    done: dict[int, Generation] = {}
    for update in engine.stream(clip, question, arms, decoding, attention=True):
        if live and len(arms) == 1:
            print(printable(update.text[printed:]), end="", flush=True)
            printed = max(printed, len(update.text))
        if update.generation is not None:
            done[update.index] = update.generation
    generations = [done[index] for index in range(len(arms))]
    for path, generation in zip(attention_files(attention, len(arms)), generations, strict=False):
        if generation.attention is not None:
            file = save_record(generation.attention, path)
            if live:
                print(f"attention of {generation.arm.name}: {file}", file=sys.stderr)
    return generations


def printable(text: str) -> str:
    """Return model output for a terminal: control characters are replaced by marks."""
    return "".join(ch if ch.isprintable() or ch in "\n\t" else "\ufffd" for ch in text)


def attention_files(path: Path | None, arms: int) -> list[Path]:
    """Return the attention file of each arm: FILE.npz for one arm, FILE-1.npz, FILE-2.npz, .. for several."""
    if path is None or arms == 1:
        return [] if path is None else [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, arms + 1)]


def print_summary(generation: Generation, question: Question) -> None:
    """Print answer, choice, tokens, time and attention of a generation."""
    answer = generation.trace.answer or generation.choice
    print(f"answer:     {printable(answer) if answer is not None else '(none given)'}")
    if question.choices:
        print(f"choice:     {generation.choice if generation.choice is not None else '(none of the choices)'}")
    ending = {"length": " (cut at the limit of tokens)", "cancelled": " (stopped)"}.get(generation.finish, "")
    print(f"tokens:     {'not counted' if generation.token_count is None else generation.token_count}{ending}")
    print(f"time:       {generation.seconds:.2f} s for {generation.audio_seconds:.2f} s of audio")
    ratio = mean_attention_ratio(generation)
    print(f"attention:  {'not recorded' if ratio is None else f'{ratio:.1%} on audio, mean over tokens'}")


def print_warnings(clip: Clip, generations: Sequence[Generation]) -> None:
    """Print each warning once, on stderr."""
    for warning in dict.fromkeys([*clip.warnings, *(w for g in generations for w in g.warnings)]):
        print(f"warning: {warning}", file=sys.stderr)


def quiet_libraries() -> None:
    """Silence the progress bars and notices of libraries, which do not belong in a command's output."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.captureWarnings(True)
