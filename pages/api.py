"""Named endpoints for programs: ``/compare`` and ``/reason``, usable with gradio_client.

    from gradio_client import Client, handle_file
    client = Client("http://127.0.0.1:7860")
    result = client.predict(handle_file("clip.wav"), "Which sound comes first?", "dog bark\\nsiren", api_name="/reason")

The endpoints are generators that yield null until they end, so that a closed connection is noticed and the model stops.
``predict`` returns the last value, which is the result.

With ``python app.py --mcp`` both are tools of an MCP server at ``/gradio_api/mcp/``, described by their docstrings.

The audio goes through a ``gr.File`` input, so only uploaded files are opened (``gr.Audio`` would make every visitor
load a hidden player).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gradio as gr

from mpar2.engines.as_json import generation_to_json
from mpar2.prompts import mode_names
from pages.document import without_arrays
from pages.errors import guarded
from pages.limits import visitor_of
from pages.running import Asked, Comparer
from pages.services import Services


def build_api(services: Services) -> None:
    """Add the endpoints to the open ``gr.Blocks``. Their components are never shown."""
    comparer = Comparer(services)
    left, right = services.offers[0], services.offers[min(1, len(services.offers) - 1)]
    names = [offer.name for offer in services.offers]

    def session_of() -> str:
        return f"api {secrets.token_hex(8)}"  # calls of one client may run beside each other

    def compare(
        audio: str,
        question: str,
        choices: str,
        left_model: str,
        left_mode: str,
        right_model: str,
        right_mode: str,
        max_new_tokens: float,
        temperature: float,
        seed: float,
        full: bool,
        request: gr.Request,
    ) -> Iterator[dict[str, Any] | None]:
        """Ask two audio models the same question about a recording and return both reasoning traces side by side.

        Args:
            audio: The recording (wav, flac, mp3, ogg, opus, m4a, aac or webm).
            question: What to ask about it.
            choices: Possible answers, one a line; empty for an open question.
            left_model: Name of the first model.
            left_mode: How it is asked: direct (answer only), cot (reason freely) or mpar2 (perceive, reason, review).
            right_model: Name of the second model.
            right_mode: How it is asked.
            max_new_tokens: Longest trace.
            temperature: 0 is greedy.
            seed: Makes sampling repeatable.
            full: Add the attention of every token, the sound and its spectrogram: about a megabyte, for programs that
                draw. Without it the result is a few kilobytes of text and numbers.

        Returns:
            For each arm the text, its parts, answer, correctness where known, tokens, seconds, share of attention on
            the audio, and the sounds it mentions sorted where the truth is known. With ``full``, the same document as
            the page's JSON download.
        """
        asked = Asked(
            audio,
            question,
            choices or "",
            ((left_model, left_mode), (right_model, right_mode)),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
        with closing(comparer.run(asked, session_of(), visitor=visitor_of(request))) as documents:
            document: dict[str, Any] | None = None
            for document in documents:  # noqa: B007 - the last one is the result
                yield None
        yield document if full or document is None else without_arrays(document)

    def reason(
        audio: str,
        question: str,
        choices: str,
        model: str,
        mode: str,
        max_new_tokens: float,
        temperature: float,
        seed: float,
        request: gr.Request,
    ) -> Iterator[dict[str, Any] | None]:
        """Ask one audio model a question about a recording and return its reasoning trace and answer.

        Args:
            audio: The recording (wav, flac, mp3, ogg, opus, m4a, aac or webm).
            question: What to ask about it.
            choices: Possible answers, one a line; empty for an open question.
            model: Name of the model.
            mode: How it is asked: direct (answer only), cot (reason freely) or mpar2 (perceive, reason, review).
            max_new_tokens: Longest trace.
            temperature: 0 is greedy.
            seed: Makes sampling repeatable.

        Returns:
            answer, choice, mode, model, text, trace (parts with kind, text, character and token spans), tokens,
            seconds, audio_seconds, attention_ratio: the same object as ``mpar2 reason --json`` prints.
        """
        asked = Asked(
            audio,
            question,
            choices or "",
            ((model, mode),),
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
        with closing(comparer.reason(asked, session_of(), visitor=visitor_of(request))) as generations:
            for generation in generations:
                if generation is None:
                    yield None
                else:
                    yield generation_to_json(generation) | {"model": generation.arm.name}  # never a folder's path

    # Inputs must be components of the app, which Gradio describes to clients; they stay hidden.
    with gr.Column(visible=False):
        audio = gr.File(type="filepath", label="audio")
        question = gr.Textbox(label="question")
        choices = gr.Textbox(label="choices", value="")
        left_model = gr.Dropdown(names, value=left.name, label="left_model")
        left_mode = gr.Dropdown(list(mode_names()), value="cot", label="left_mode")
        right_model = gr.Dropdown(names, value=right.name, label="right_model")
        right_mode = gr.Dropdown(list(mode_names()), value="mpar2", label="right_mode")
        tokens = gr.Number(value=services.max_new_tokens, label="max_new_tokens")
        temperature = gr.Number(value=0, label="temperature")
        seed = gr.Number(value=0, label="seed", precision=0)
        full = gr.Checkbox(value=False, label="full")
        result = gr.JSON(label="result")
        start = gr.Button("start")
    decoding = [tokens, temperature, seed]
    # Both endpoints use the engine's queue, so that one request runs at a time.
    shared = {"concurrency_id": "engine", "concurrency_limit": 1}
    start.click(
        guarded(compare),
        [audio, question, choices, left_model, left_mode, right_model, right_mode, *decoding, full],
        result,
        api_name="compare",
        **shared,
    )
    start.click(
        guarded(reason),
        [audio, question, choices, right_model, right_mode, *decoding],
        result,
        api_name="reason",
        **shared,
    )
