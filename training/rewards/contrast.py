"""The audio contrast: the policy's log-probability of a completion with its clip minus that with silence.

For a completion o of tokens o_t, ``mean_t(log pi(o_t | clip, o_<t) - log pi(o_t | silence, o_<t))`` in nats a token,
clipped at ``most`` on both sides and divided by it: in [-1, 1], 0 for a text that does not depend on the audio. Silence
is as long as the clip. No judge and no truth are needed. Definition ours; PAPO (arXiv 2507.06448) raises a divergence
of the same two passes as a term of the loss, with gradients; this is a reward of completions, compared within a group.

Alone it can be maximised by any text that follows the audio, right or wrong: give it a small weight beside ``accuracy``
or ``perception``. It costs two passes without gradients a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class AudioContrast:
    """The reward as TRL calls it; the trainer sets ``measure``, since the value needs its policy and clips.

    Args:
        most: Nats a token for a reward of 1.
    """

    __name__ = "audio_contrast"

    def __init__(self, most: float = 0.5) -> None:
        if not most > 0:
            raise ValueError(f"most is {most}: it must be above 0 nats a token")
        self._most = most
        self.measure: Callable[[Sequence[Sequence[int]]], list[float]] | None = None

    def __call__(self, completions: Any, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
        if self.measure is None:
            raise RuntimeError("audio_contrast needs training.audio_grpo.AudioGRPOTrainer, which measures it")
        return [max(-1.0, min(1.0, value / self._most)) for value in self.measure(completion_ids)]
