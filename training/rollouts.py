"""Generate the completions of a GRPO step on an OpenAI-compatible server (vLLM), and keep its weights up to date.

A serving engine (vLLM, SGLang) batches and compiles, and is several times faster than ``generate`` of transformers. TRL
1.16 sends images to vLLM but no audio, so its own client cannot be used. This client replaces TRL's ``vllm_generation``
object: TRL then computes the importance ratios between the server's log-probabilities and the trainer's, and truncates
them, by its own code (``vllm_importance_sampling_mode``, ``vllm_importance_sampling_clip_max`` in the recipe).

For each batch:

1. :meth:`ServerRollouts.sync_weights` saves the current adapter under the server's names of weights
   (``mpar2 export --as adapter``) and posts its folder to ``/v1/load_lora_adapter`` under a name of its step; the
   previous adapter is unloaded. The server must be started with ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`` and
   ``--enable-lora --max-lora-rank R --logprobs-mode processed_logprobs``, and must have access to the run's folder.
2. :meth:`ServerRollouts.generate` requests the G completions of each prompt from ``/v1/chat/completions``, with the
   clip as ``audio_url``, token ids (``return_token_ids``) and log-probabilities.
3. :meth:`ServerRollouts.check` compares the server's log-probabilities of each batch with the trainer's, and
   :meth:`ServerRollouts.check_audio` those of the first batch with the trainer's on silence. A server with other
   weights, or without the audio, stops the training before the first update.

While requests are in flight the trainer encodes the batch's clips, and each group is judged as soon as it arrives.

``ahead: true`` requests the next batch before the current one is trained on, so that server and trainer work at the
same time. Completions are then one update old, which the truncated ratios correct for. Each batch is trained on once.

An outage pauses the training (``wait_minutes``), then ends it with an error. The last checkpoint is complete, and
``--resume`` continues from it. Only LoRA training is supported, since all weights would have to be sent at every step.

Tested against a local server of this wire format with a small real model; vLLM itself was not run.
"""

from __future__ import annotations

import base64
import io
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import torch

from mpar2.audio import SAMPLE_RATE, load_clip
from mpar2.errors import MPAR2Error
from mpar2.export import export_checkpoint
from training.cost import StageTimer


class RolloutError(MPAR2Error, RuntimeError):
    """The rollout server cannot be used, or is unreachable for too long."""


@dataclass(frozen=True)
class GroupRequest:
    """A row of a batch: its clip, its messages, and its row of the dataset for the judge."""

    path: str
    messages: Sequence[Mapping[str, Any]]
    row: Mapping[str, Any] = field(compare=False, default_factory=dict)


Group = list[tuple[list[int], list[float]]]  # token ids and log-probabilities of the completions of a prompt


class ServerRollouts:
    """Client of one rollout server, in place of TRL's ``VLLMGeneration``.

    Args:
        base_url: Address of the server up to ``/v1``.
        checkpoint: The base model: short name, folder or hub id.
        model: Name of the base model on the server; by default ``checkpoint``. Adapters are loaded beside it.
        folder: Folder of the adapters of the steps.
        in_flight: Requests at a time.
        timeout_s: Timeout of a request.
        wait_minutes: Longest outage before the training stops.
        tolerance: Largest mean difference of log-probabilities between server and trainer, in nats a token; with
            ``ahead`` it must allow for one update.
        ahead: Whether the next batch is requested before the current one is trained on.
    """

    def __init__(
        self,
        *,
        base_url: str,
        checkpoint: str,
        model: str | None = None,
        folder: Path,
        in_flight: int = 32,
        timeout_s: float = 600.0,
        wait_minutes: float = 30.0,
        tolerance: float = 0.1,
        ahead: bool = False,
    ) -> None:
        import openai

        self._client = openai.OpenAI(base_url=base_url, api_key="none", timeout=timeout_s, max_retries=0)
        self._checkpoint = checkpoint
        self._base = model or checkpoint
        self._served = self._base
        self._folder = folder
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="rollouts")
        self._wait_s = 60 * wait_minutes
        self._tolerance = tolerance
        self._updates = 0
        self.ahead = ahead
        self._pending: tuple[list[GroupRequest], list[Future[Group]]] | None = None
        # Set by ``attach`` and before each batch, since TRL passes only token ids.
        self._trainer: Any = None
        self._sampling: Mapping[str, Any] = {}
        self.requests: list[GroupRequest] = []  # of the rows of a batch
        self._arrived: Callable[[GroupRequest, list[list[int]]], None] | None = None
        self._meanwhile: Callable[[], None] | None = None

    def attach(
        self,
        trainer: Any,
        sampling: Mapping[str, Any],
        timer: StageTimer,
        *,
        arrived: Callable[[GroupRequest, list[list[int]]], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """Use the adapter and clips of a trainer.

        Args:
            trainer: A trainer with ``save_policy``, ``clips`` and ``accelerator``.
            sampling: Fields of each request.
            timer: Timer of the stages of a step.
            arrived: Called in a thread with a request and the token ids of its completions as soon as they arrive.
            meanwhile: Called while the requests of a batch are in flight.
        """
        self._trainer, self._arrived, self._meanwhile = trainer, arrived, meanwhile
        self._timer = timer
        self._sampling = sampling

    # The two methods that TRL calls

    def sync_weights(self) -> None:
        """Send the current adapter to the server and unload the previous one.

        Raises:
            RolloutError: The server refuses the adapter, or is unreachable for longer than ``wait_minutes``.
        """
        if self._pending is not None:  # pending requests use the adapter that is about to be unloaded
            with self._timer.stage("rollout"):
                wait(self._pending[1])
        with self._timer.stage("sync"):
            self._send_adapter(f"policy-{self._updates}")
        self._updates += 1

    def _send_adapter(self, name: str) -> None:
        folder = self._folder / name
        raw_folder = folder.with_name(f".{name}")
        self._trainer.save_policy(raw_folder)  # on every process: sharded weights are gathered
        if self._trainer.accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            export_checkpoint(
                self._checkpoint, folder, "adapter", adapter=str(raw_folder)
            )  # the server's names of weights
            shutil.rmtree(raw_folder)
            body = {"lora_name": name, "lora_path": str(folder.resolve())}
            self._call(lambda: self._client.post("/load_lora_adapter", body=body, cast_to=str))
            if self._served != self._base:
                old_body = {"lora_name": self._served}
                self._call(lambda: self._client.post("/unload_lora_adapter", body=old_body, cast_to=str))
                shutil.rmtree(self._folder / self._served, ignore_errors=True)
        self._trainer.accelerator.wait_for_everyone()
        self._served = name

    def generate(
        self, prompts: Sequence[Sequence[int]], images: Any = None, num_generations: int = 1, profiler: Any = None
    ) -> tuple[Any, list[list[int]], list[list[list[float]]], Any]:
        """Return completions of the rows of a batch.

        Only the number of prompts is used: the server renders the prompt from the messages in ``requests``.

        Returns:
            As TRL expects: prompts, token ids of each row, log-probabilities of each token as lists of one, None.

        Raises:
            RolloutError: The rows do not match ``requests``.
        """
        if len(self.requests) != len(prompts) or len(prompts) % num_generations:
            raise RolloutError(f"{len(prompts)} rows do not fit {len(self.requests)} requests of {num_generations}")
        requests = self.requests[::num_generations]
        if self._pending is not None and self._pending[0] == requests:
            futures, self._pending = self._pending[1], None
        else:
            futures = self._ask(requests, num_generations)
        if self._meanwhile is not None:
            self._meanwhile()
        groups = [future.result() for future in futures]
        ids = [tokens for group in groups for tokens, _ in group]
        logprobs = [[[value] for value in values] for group in groups for _, values in group]
        return list(prompts), ids, logprobs, None

    def ask_ahead(self, requests: Sequence[GroupRequest], num_generations: int) -> None:
        """Request the completions of the next batch with the current adapter."""
        prompts = list(requests[::num_generations])
        if self._pending is None or self._pending[0] != prompts:
            self._pending = prompts, self._ask(prompts, num_generations)

    def _ask(self, requests: Sequence[GroupRequest], count: int) -> list[Future[Group]]:
        return [self._pool.submit(self._group, request, count, self._served) for request in requests]

    def _group(self, request: GroupRequest, count: int, served: str) -> Group:
        group = self._complete(request, count, served)
        if self._arrived is not None:
            self._arrived(request, [ids for ids, _ in group])
        return group

    def drop_pending(self) -> None:
        """Cancel requests that were made ahead and are not needed any more."""
        if self._pending is not None:
            for future in self._pending[1]:
                future.cancel()
            self._pending = None

    def check_audio(
        self, server: torch.Tensor, with_clip: torch.Tensor, with_silence: torch.Tensor, mask: torch.Tensor
    ) -> None:
        """Refuse a server whose log-probabilities match silence rather than the clip.

        All tensors are (N, T), in nats.

        Raises:
            RolloutError: The server's are closer to silence.
        """
        valid = mask.bool() & ~torch.isnan(server)
        to_clip, to_silence = ((server - trainer)[valid].abs().mean() for trainer in (with_clip, with_silence))
        distance = (with_clip - with_silence)[valid].abs().mean()
        if to_silence < to_clip and to_silence < distance / 2:  # far from both: other weights (``check`` reports them)
            raise RolloutError(
                "the rollout server does not get the audio: its log-probabilities differ by "
                f"{to_clip:.4f} nats a token from the trainer's with the clip, by {to_silence:.4f} with silence"
            )

    def check(self, server: torch.Tensor, trainer: torch.Tensor, mask: torch.Tensor) -> float:
        """Compare log-probabilities of the same tokens.

        Args:
            server: The server's log-probabilities, (N, T).
            trainer: The trainer's, with its own weights and audio, (N, T).
            mask: 1 for tokens of a completion, (N, T).

        Returns:
            Mean absolute difference, nats a token.

        Raises:
            RolloutError: It is larger than ``tolerance``.
        """
        if not mask.any():  # all completions are masked as truncated
            return 0.0
        valid = mask.bool() & ~torch.isnan(server)
        if not valid.any():
            raise RolloutError("the server gives no log-probabilities: it must support logprobs in chat completions")
        difference = float((server - trainer)[valid].abs().mean())
        if difference > self._tolerance:
            raise RolloutError(
                f"the server's log-probabilities differ from the trainer's by {difference:.3f} nats a token (limit "
                f"{self._tolerance:g}): it serves other weights, or was started without "
                "--logprobs-mode processed_logprobs"
            )
        return difference

    # Requests

    def _complete(self, request: GroupRequest, count: int, served: str) -> Group:
        """Return token ids and log-probabilities of ``count`` completions of one prompt by the model ``served``."""
        body = _with_audio(request.messages, _wav_url(request.path, self._trainer.clips.max_audio_seconds))
        reply = self._call(
            lambda: self._client.chat.completions.create(
                model=served,
                messages=body,
                n=count,
                logprobs=True,
                extra_body={"return_token_ids": True},
                **self._sampling,
            )
        )
        rows = []
        for choice in reply.choices or []:
            tokens = getattr(choice, "token_ids", None)
            content = choice.logprobs.content if choice.logprobs is not None else None
            if not tokens or content is None or len(content) != len(tokens):
                raise RolloutError(
                    f"the server gave {len(content or [])} log-probabilities for {len(tokens or [])} token ids: vLLM "
                    "0.10.2 or newer is needed, which knows return_token_ids"
                )
            rows.append((list(tokens), [token.logprob for token in content]))
        if len(rows) != count:
            raise RolloutError(f"the server gave {len(rows)} completions where {count} were asked for")
        return rows

    def _call(self, request: Callable[[], Any]) -> Any:
        """Send a request; wait for the end of an outage, raise on a refusal."""
        import openai

        start, pause = time.monotonic(), 1.0
        while True:
            try:
                return request()
            except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
                if time.monotonic() - start + pause > self._wait_s:
                    raise RolloutError(
                        f"the rollout server has not answered for {self._wait_s / 60:g} minutes ({error}): start it "
                        "again, then go on with --resume"
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 30.0)
            except openai.APIStatusError as error:
                raise RolloutError(f"the rollout server refused a request ({error.status_code}): {error}") from None


def _wav_url(path: str, max_seconds: float) -> str:
    """Return a clip as a data URL of a float WAV, cut and resampled like the trainer's input."""
    samples = load_clip(path).samples[: round(max_seconds * SAMPLE_RATE)]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _with_audio(messages: Sequence[Mapping[str, Any]], url: str) -> list[dict[str, Any]]:
    """Return chat messages with their audio part in the wire format."""
    parts = {"type": "audio_url", "audio_url": {"url": url}}
    out = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [parts if part["type"] == "audio" else {"type": "text", "text": part["text"]} for part in content]
        out.append({"role": message["role"], "content": content})
    return out
