"""Captions of clips by an audio model, with a cache on disk.

The cache key is the hash of the clip's samples, the model and the prompt, so the same sound under another name or in
another run is not captioned again. A caption is complete on disk or absent. Concurrent calls for the same clip, in this
process or another on the same machine, wait for one request. Failures are not cached, so the next call tries again.

A model's caption is not the truth. Its origin, ``caption:<served model>``, is stored with every score that uses it.
The file beside a run holds captions and the events of the tagger (``mpar2.tagger``), each with its origin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mpar2.audio import Clip, wav_bytes
from mpar2.cafe.prompts import load_prompt
from mpar2.cafe.schema import Truth
from mpar2.errors import MPAR2Error
from mpar2.llm.audio_check import require_audio
from mpar2.llm.base import ChatClient, Reply
from mpar2.llm.cost import Estimate, Prices, estimate_tokens
from mpar2.llm.errors import ReplyRejected, SettingError
from mpar2.llm.journal import KeyedLocks, content_key, finish_in_thread
from mpar2.locks import try_lock
from mpar2.question import item_from_json
from mpar2.runs.lines import RunError, dump_json, read_lines, write_bytes, write_lines

__all__ = ["Caption", "Captioner", "read_captions", "write_captions"]

PROMPT_VERSION = 1
CAPTIONS = "captions.jsonl"
_REQUEST = "Describe this clip."
_EXPECTED_REPLY_TOKENS = 400
_LOCK_POLL_S = 0.1


@dataclass(frozen=True)
class Caption:
    """A caption of a clip by a model. ``cached``: it was read from disk, and this call cost nothing."""

    text: str
    audio: str  # sha256 of the clip's samples
    model: str
    model_version: str
    prompt_hash: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached: bool = False

    @property
    def origin(self) -> str:
        """Origin of the caption as a truth."""
        return f"caption:{self.model_version or self.model}"

    def truth(self) -> Truth:
        """Return the caption as the truth of its clip, with its origin."""
        return Truth(events=None, caption=self.text, origin=self.origin)


class Captioner:
    """Captions clips, with a cache in files.

    Before the first paid request, one test request checks that audio reaches the model: some servers drop it, and the
    model then invents a clip.

    Args:
        client: Client of the model; the caller enters it (``async with``).
        folder: Folder of the cache.
        check_audio: Whether to send the test request.
    """

    def __init__(self, client: ChatClient, folder: str | Path, *, check_audio: bool = True) -> None:
        self.model = client.model
        self._client = client
        self._folder = Path(folder)
        self._system = load_prompt("caption", PROMPT_VERSION)
        self._locks = KeyedLocks()
        self._receives_audio = not check_audio
        self.prompt_hash = content_key(self._system, _REQUEST)

    def key(self, clip: Clip) -> str:
        """Return the cache key of a clip: the hash of its samples, the model and the prompt."""
        return content_key(clip.digest, self.model, self.prompt_hash)

    def cached(self, clip: Clip) -> Caption | None:
        """Return the caption on disk, or None."""
        return self._read(self._path(self.key(clip)))

    async def caption(self, clip: Clip) -> Caption:
        """Return the caption of a clip, from the cache or from the model.

        Raises:
            LLMError: The model returned no caption.
            SettingError: The file of the caption is damaged.
        """
        key = self.key(clip)
        path = self._path(key)
        if (cached := self._read(path)) is not None:
            return cached
        async with self._locks.hold(key), _file_lock(path):
            if (cached := self._read(path)) is not None:
                return cached
            await self._check_audio()
            reply = await self._client.complete(self._system, [wav_bytes(clip), _REQUEST])
            caption = self._accept(reply, clip)
            await finish_in_thread(_write, path, caption)
            return caption

    def estimate(self, clips: Iterable[Clip], prices: Prices | None = None) -> Estimate:
        """Estimate the cost of captioning. Captions in the cache are free, and equal clips count once."""
        new = {self.key(clip): clip.seconds for clip in clips if self.cached(clip) is None}
        prompt = estimate_tokens(self._system, _REQUEST)
        # Gemini's 32 tokens per second, as in estimate_tokens
        tokens = [prompt + round(32 * seconds) for seconds in new.values()]
        return Estimate(len(new), sum(tokens), len(new) * _EXPECTED_REPLY_TOKENS, prices)

    async def _check_audio(self) -> None:
        async with self._locks.hold("audio check"):
            if not self._receives_audio:
                await require_audio(self._client)
                self._receives_audio = True

    def _accept(self, reply: Reply, clip: Clip) -> Caption:
        """Return a complete reply as a caption, or raise ``ReplyRejected``."""
        if reply.finish == "blocked":
            raise ReplyRejected("blocked", f"no caption: {reply.detail}", usage=reply.usage)
        if reply.finish == "length":
            raise ReplyRejected("truncated", "the caption ends in the middle; raise max_tokens", usage=reply.usage)
        text = reply.text.strip()
        if not text:
            raise ReplyRejected("empty", f"the caption is empty (finish: {reply.detail})", usage=reply.usage)
        return Caption(
            text=text,
            audio=clip.digest,
            model=self.model,
            model_version=reply.model_version,
            prompt_hash=self.prompt_hash,
            prompt_tokens=reply.usage.prompt,
            completion_tokens=reply.usage.completion,
        )

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    def _read(self, path: Path) -> Caption | None:
        try:
            return replace(Caption(**json.loads(path.read_text(encoding="utf-8"))), cached=True)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise SettingError(f"{path} is no caption ({error}); remove it, and the clip is captioned anew") from None


def write_captions(run: str | Path, captions: Mapping[str, Truth]) -> Path:
    """Write captions or tagged events, by item, into ``cafe/captions.jsonl`` of a run.

    Entries of other items are kept.
    """
    path = Path(run) / "cafe" / CAPTIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    merged = read_captions(run) | dict(captions)
    write_lines(path, (_caption_line(id, truth) for id, truth in merged.items()))
    return path


def read_captions(run: str | Path) -> dict[str, Truth]:
    """Return the captions and tagged events beside a run, as truths by item; empty where there is no file.

    Raises:
        SettingError: The file is damaged; the message names the line.
    """
    path = Path(run) / "cafe" / CAPTIONS
    if not path.is_file():
        return {}
    captions: dict[str, Truth] = {}
    number = 0
    try:
        with path.open("rb") as file:
            for number, raw in read_lines(file, CAPTIONS):  # noqa: B007 - the line that the message names
                id, truth = _caption_truth(raw)
                captions[id] = truth
    except (MPAR2Error, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, RunError) else f"line {number}: {error}"
        raise SettingError(f"{path} is damaged ({reason}); remove it and run 'mpar2 cafe caption' again") from None
    return captions


def _caption_line(id: str, truth: Truth) -> dict[str, Any]:
    if truth.events is None:
        return {"id": id, "caption": truth.caption, "truth_origin": truth.origin}
    events, unsure = ([asdict(event) for event in group] for group in (truth.events, truth.unsure))
    return {"id": id, "events": events, "unsure": unsure, "truth_origin": truth.origin}


def _caption_truth(raw: Mapping[str, Any]) -> tuple[str, Truth]:
    """Return the item id and the truth of a line, checked against the schema of items."""
    fields = {"audio": "-", "question": "-", "truth_origin": raw["truth_origin"]}
    if "events" not in raw:
        item = item_from_json({**fields, "id": raw["id"], "caption": raw["caption"]})
        if not item.caption or not item.truth_origin:
            raise TypeError("a caption and its 'truth_origin' are needed")
        return item.id, Truth(None, item.caption, item.truth_origin)
    item, unsure = (item_from_json({**fields, "id": raw["id"], "events": raw[name]}) for name in ("events", "unsure"))
    if item.events is None or unsure.events is None or not item.truth_origin:
        raise TypeError("two lists of events and their 'truth_origin' are needed")
    return item.id, Truth(item.events, origin=item.truth_origin, unsure=unsure.events)


def _write(path: Path, caption: Caption) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, dump_json({name: value for name, value in asdict(caption).items() if name != "cached"}))


@contextlib.asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[None]:
    """Hold a lock on ``path`` against other processes for the length of the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while (lock := try_lock(path)) is None:
        await asyncio.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        lock.release()
