"""Decode one row of a batch: sampling, and experimental interventions.

The interventions of :class:`mpar2.engines.base.Decoding` (ours; after budget forcing, arXiv 2501.19393):

``max_reasoning_tokens: N``
    A trace that still reasons after N tokens is cut: open tags are closed, ``<answer>`` is appended, and the model
    continues from there. A cut inside a tag or a character is delayed to its end, by at most
    ``_MAX_DELAY_TOKENS`` tokens.
``min_reasoning_tokens: N``
    If a trace ends sooner or begins its answer (``cot``: or closes its thoughts; ``mpar2``: or begins its review),
    that tag is removed and the reasoning continues: ``cot`` after "Wait,", ``mpar2`` in another step.
``hide_audio_after: N``
    After N tokens the audio is masked from all later queries. Earlier tokens keep the information from it in the
    cache.

With greedy decoding the traces of one item under several N are one trace, cut or extended. Forced text counts as
generated tokens; removed text does not count, and the model no longer sees it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from mpar2.engines.base import Decoding, EngineError, ItemError, Mode
from mpar2.engines.checkpoint import Checkpoint
from mpar2.engines.decode import Prompt, Sampler, TextStream, end_tokens
from mpar2.trace import parse_trace

__all__ = ["DecodingStep", "ForcedDecoding"]

_MAX_DELAY_TOKENS = 8  # largest delay of a cut, in tokens
_CLOSES_REASONING = {
    "cot": re.compile(r"<\s*/\s*think\s*>|<\s*answer\s*>", re.IGNORECASE),
    "mpar2": re.compile(r"<\s*(?:review|answer)\s*>", re.IGNORECASE),
}
_CONTINUATIONS = {"cot": "Wait,", "mpar2": "<step><ask>"}
_IN_A_TAG = re.compile(r"<[^<>]{0,12}$")


class DecodingStep(NamedTuple):
    """Result of one pass: the next token to feed, the number of fed tokens to remove first, and the finish reason."""

    token: int
    rollback: int = 0
    finish: Literal["stop", "length"] | None = None


class ForcedDecoding:
    """Choose the tokens of one row and collect their text.

    Args:
        checkpoint: The loaded checkpoint.
        prompt: Prompt of the row.
        decoding: Decoding parameters, including the interventions.
        mode: Mode of the arm, which determines the end of the reasoning.
        seed: Seed of the samples; None: that of ``decoding``.
        written: Tokens at the beginning of the trace.
        hide_after: Tokens after which the audio is hidden, if ``decoding`` gives no number.

    Attributes:
        text: The text so far.
        passes: For each token, the forward pass of its query.

    Raises:
        EngineError: A reasoning length is forced, and the mode does not reason.
        ItemError: The prompt leaves no position for an answer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompt: Prompt,
        decoding: Decoding,
        mode: Mode,
        *,
        seed: int | None = None,
        written: Sequence[int] = (),
        hide_after: int | None = None,
    ) -> None:
        self._tokenizer = checkpoint.processor.tokenizer
        self._sampler = Sampler(decoding, prompt.ids, seed)
        self._budget, self._ends = _token_budget(checkpoint, prompt, decoding), end_tokens(checkpoint)
        self.text = TextStream(self._tokenizer)
        self.passes: list[int] = []  # for each token, the forward pass of its query
        self._least, self._most = decoding.min_reasoning_tokens, decoding.max_reasoning_tokens
        if (self._least or self._most is not None) and mode not in _CONTINUATIONS:
            raise EngineError(f"mode {mode} does not reason: its reasoning has no length to force")
        self._mode = mode
        self._forced = deque(written)
        fixed = decoding.hide_audio_after
        self._hide_after = fixed if isinstance(fixed, int) else hide_after
        self._answers = False  # forced or by the model itself
        self._pass = 0

    def step(self, logits: torch.Tensor) -> DecodingStep:
        """Choose the next token.

        Args:
            logits: Logits of the latest pass, (V,).
        """
        current_pass, self._pass = self._pass, self._pass + 1
        if not self._forced and self._must_close():
            closing = self._closing()
            self._force(closing + self._line(closing) + "<answer>")
        chooses = not self._forced
        token = self._sampler.choose(logits, self.text.ids) if chooses else self._forced.popleft()
        if chooses and token in self._ends:
            if len(self.text.ids) >= self._least:
                return DecodingStep(token, finish="stop")
            self._force(self._continuation())
            token, chooses = self._forced.popleft(), False
        self._push(token, current_pass)
        rollback = self._rollback_early_end() if chooses else 0
        return DecodingStep(self.text.ids[-1], rollback, "length" if len(self.text.ids) >= self._budget else None)

    def should_hide_audio(self) -> bool:
        """Return whether to hide the audio now; true only once."""
        if self._hide_after is None or len(self.text.ids) < self._hide_after:
            return False
        self._hide_after = None
        return True

    def _push(self, token: int, from_pass: int) -> None:
        self.text.push(token)
        self.passes.append(from_pass)

    def _force(self, text: str) -> None:
        self._forced.extend(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _must_close(self) -> bool:
        """Return whether to cut the trace here."""
        tokens = len(self.text.ids)
        if self._most is None or self._answers or tokens < self._most:
            return False
        if (_IN_A_TAG.search(self.text.text) or not self.text.whole) and tokens < self._most + _MAX_DELAY_TOKENS:
            return False
        self._answers = True
        return not any(part.kind == "answer" for part in parse_trace(self.text.text).parts)

    def _rollback_early_end(self) -> int:
        """Remove a tag that ends the reasoning too soon, and return how many of its tokens were already fed."""
        last = self.text.spans[-1]
        if not self._least or ">" not in self.text.text[last.start : last.stop]:
            return 0
        match = _CLOSES_REASONING[self._mode].search(self.text.text)
        if match is None:
            return 0
        first = next(n for n, span in enumerate(self.text.spans) if span.stop > match.start())
        if first >= self._least:
            return 0
        fed, prefix = len(self.text.ids) - first - 1, self.text.text[self.text.spans[first].start : match.start()]
        from_pass = self.passes[first]
        del self.passes[first:]
        self.text.rollback(fed + 1)
        self._force(prefix + self._continuation(prefix))
        self._push(self._forced.popleft(), from_pass)
        return fed

    def _continuation(self, prefix: str = "") -> str:
        """Return the text that makes the model continue reasoning; ``prefix`` is text that will precede it."""
        closing = self._closing(prefix) if self._mode == "mpar2" else ""
        return closing + self._line(prefix + closing) + _CONTINUATIONS[self._mode]

    def _closing(self, prefix: str = "") -> str:
        """Return the closing tags of all open parts."""
        text = self.text.text + prefix + "."  # the open parts are those that would hold one more letter
        open_parts = [p.kind for p in parse_trace(text).parts if p.kind != "text" and p.chars.stop == len(text)]
        return "".join(f"</{kind}>" for kind in reversed(open_parts))

    def _line(self, prefix: str) -> str:
        """Return a line break, unless a line has just begun."""
        text = prefix or self.text.text
        return "" if not text or text.endswith("\n") else "\n"


def _token_budget(checkpoint: Checkpoint, prompt: Prompt, decoding: Decoding) -> int:
    """Return the number of tokens that may follow the prompt."""
    positions = checkpoint.family.max_positions(checkpoint.model.config)
    room = positions - len(prompt.ids) if positions else decoding.max_new_tokens
    if room < 1:
        raise ItemError(
            f"the prompt has {len(prompt.ids)} tokens; '{checkpoint.name}' reads {positions}: use a shorter "
            "clip or question"
        )
    return min(room, decoding.max_new_tokens)
