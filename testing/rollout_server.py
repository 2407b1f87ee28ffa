"""A rollout server with vLLM's wire format and a small model, so that its log-probabilities are real.

Routes: ``/v1/chat/completions`` with ``audio_url``, ``n``, ``logprobs`` and ``return_token_ids``;
``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``. Simulated faults: ``no_audio`` replaces the audio by silence,
``stale`` ignores new adapters, ``outages`` is the number of initial replies with status 503.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import soundfile
import torch


@dataclass
class RolloutServer:
    """State of the server: its address, the loaded adapters, and the received requests."""

    checkpoint: Path
    no_audio: bool = False
    stale: bool = False
    outages: int = 0
    url: str = ""
    adapters: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from mpar2.engines.checkpoint import load_checkpoint
        from training.audio_inputs import Clips

        loaded = load_checkpoint(str(self.checkpoint), device="cpu", dtype="float32")
        self._model, self._processor = loaded.model, loaded.processor
        self._clips = Clips(loaded.processor)
        self._lock = threading.Lock()

    def load(self, name: str, path: str) -> None:
        """Load an adapter from a folder into the model."""
        from mpar2.engines.checkpoint import load_checkpoint

        with self._lock:
            self.adapters.append(name)
            if not self.stale:
                self._model = load_checkpoint(str(self.checkpoint), path, device="cpu", dtype="float32").model

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Sample ``n`` completions and return them with token ids and log-probabilities."""
        from mpar2.audio import Clip
        from training.audio_inputs import AudioInjector, encode, inner_model
        from training.audio_sft import prompt_ids

        messages, samples = _decode(body["messages"])
        mel = self._clips.mel_of(Clip(samples * (0.0 if self.no_audio else 1.0), "request"))
        with self._lock, torch.no_grad():
            self.requests.append(body)
            frames = encode(self._model, [mel])
            ids = torch.tensor([prompt_ids(self._processor, messages, mel.positions)] * body["n"])
            config = inner_model(self._model).config
            injector = AudioInjector(self._clips, config.audio_token_id, frozen=True)
            with injector.inject(self._model, [0] * body["n"], frames * body["n"]):
                output = self._model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    temperature=body["temperature"],
                    top_k=0,
                    top_p=1.0,
                    repetition_penalty=1.0,
                    max_new_tokens=body["max_tokens"],
                    suppress_tokens=[int(token) for token in body.get("logit_bias", {})],
                    return_dict_in_generate=True,
                    output_logits=True,
                )
        completions = output.sequences[:, ids.shape[1] :]
        logits = torch.stack(output.logits, dim=1).float() / body["temperature"]
        logps = logits.log_softmax(-1).gather(-1, completions[..., None])[..., 0]
        end = self._processor.tokenizer.eos_token_id
        rows = enumerate(zip(completions.tolist(), logps.tolist(), strict=True))
        choices = [_choice(i, row, values, end) for i, (row, values) in rows]
        return {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices}


def _choice(index: int, ids: list[int], logps: list[float], end: int) -> dict[str, Any]:
    length = ids.index(end) + 1 if end in ids else len(ids)
    content = [
        {"token": str(t), "logprob": v, "bytes": None, "top_logprobs": []} for t, v in zip(ids, logps, strict=True)
    ]
    return {
        "index": index,
        "finish_reason": "stop" if end in ids else "length",
        "message": {"role": "assistant", "content": ""},
        "token_ids": ids[:length],
        "logprobs": {"content": content[:length], "refusal": None},
    }


def _decode(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Any]:
    """Return the messages in the format of a chat template, and the samples of their clip."""
    samples = None
    decoded = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            parts = []
            for part in content:
                if part["type"] == "audio_url":
                    data = base64.b64decode(part["audio_url"]["url"].partition(",")[2])
                    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
                    assert rate == 16_000
                    parts.append({"type": "audio", "audio": "clip"})
                else:
                    parts.append(part)
            content = parts
        decoded.append({"role": message["role"], "content": content})
    assert samples is not None, "the request has no audio_url"
    return decoded, samples


@contextmanager
def serve_rollouts(server: RolloutServer) -> Iterator[RolloutServer]:
    """Serve on a free port of this machine while the context is open."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if server.outages > 0:
                server.outages -= 1
                return self._reply(503, {"error": {"message": "starting"}})
            if self.path == "/v1/load_lora_adapter":
                server.load(body["lora_name"], body["lora_path"])
                return self._reply(200, "loaded")
            if self.path == "/v1/unload_lora_adapter":
                return self._reply(200, "unloaded")
            if self.path == "/v1/chat/completions":
                return self._reply(200, server.complete(body))
            return self._reply(404, {"error": {"message": f"no route {self.path}"}})

        def _reply(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_address[1]}/v1"
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
