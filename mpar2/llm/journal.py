"""Store the paid replies of a long run, so that a killed run can resume.

``Journal`` is a file of JSON lines (:mod:`mpar2.runs.lines`) whose records have a ``key``, which occurs once.

``RecordedClient`` is a chat client that appends every reply to a journal before returning it, under a hash of
everything that the reply depends on. Equal requests are answered from the journal. So a judge with several requests
per item loses no received reply, and only requests in flight at the kill may be sent, and paid, again.

``KeyedLocks`` admits one caller per key; ``finish_in_thread`` completes a write of a cancelled caller.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mpar2.llm.base import ChatClient, OnText, Part, Reply, Sampling, Usage
from mpar2.runs.lines import LineWriter, RunError, read_lines

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Journal", "JournalError", "KeyedLocks", "RecordedClient", "content_key", "finish_in_thread", "usage_of"]

T = TypeVar("T")


class JournalError(RunError):
    """The file is damaged, or another process writes it."""


def content_key(*parts: Any) -> str:
    """Return the sha256 of parts (JSON values or bytes), in canonical form.

    >>> content_key("a", {"x": 1, "y": 2}) == content_key("a", {"y": 2, "x": 1})
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            data = b"b" + hashlib.sha256(part).digest()
        else:
            text = json.dumps(part, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
            data = b"j" + hashlib.sha256(text.encode("ascii")).digest()
        digest.update(data)
    return digest.hexdigest()


class Journal:
    """Records by key in an append-only file at ``path``. Use it in ``with``, or ``close`` it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._claiming = threading.Lock()
        self._claimed: set[str] = set()  # keys that are being written
        self._lines = LineWriter(self.path, JournalError)
        try:
            self._records = self._load()
        except BaseException:
            self._lines.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(list(self._records.values()))

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the record of a key, or None."""
        return self._records.get(key)

    def append(self, record: dict[str, Any]) -> None:
        """Write one record. It is on the disk on return.

        Raises:
            JournalError: A record with this key exists, or the file cannot be written.
        """
        key = record["key"]
        with self._claiming:
            if key in self._records or key in self._claimed:
                raise JournalError(f"{self.path}: key {key} is recorded already; a second record would count it twice")
            self._claimed.add(key)
        try:
            self._lines.append(record)
            self._records[key] = record
        finally:
            self._claimed.discard(key)

    def close(self) -> None:
        self._lines.close()

    def _load(self) -> dict[str, dict[str, Any]]:
        records: dict[str, dict[str, Any]] = {}
        with self.path.open("rb") as file:
            try:
                for number, record in read_lines(file, str(self.path)):
                    key = record.get("key")
                    if not isinstance(key, str):
                        raise JournalError(f"{self.path}, line {number}: it has no 'key'; repair or remove that line")
                    if key in records:
                        raise JournalError(
                            f"{self.path}, line {number}: key {key} for the second time; remove one of the two"
                        )
                    records[key] = record
            except JournalError:
                raise
            except RunError as error:
                raise JournalError(f"{error}; repair or remove that line") from None
        return records


class KeyedLocks:
    """A lock for each key in use."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}  # lock, number of callers that hold it or wait for it

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of a key inside the block."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)


async def finish_in_thread(function: Callable[..., T], *args: object) -> T:
    """Call a function in a thread and return its result; a cancelled caller waits for its end first."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class RecordedClient:
    """A client that answers repeated requests from a journal (see the module).

    Concurrent equal requests are sent once. To sample several replies, make the parts different.
    """

    def __init__(self, client: ChatClient, journal: Journal) -> None:
        self.model = client.model
        self._client = client
        self._journal = journal
        self._locks = KeyedLocks()

    @property
    def identity(self) -> str:
        return self._client.identity

    async def __aenter__(self) -> RecordedClient:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.__aexit__(*exc)

    async def complete(
        self,
        system: str,
        parts: Sequence[Part],
        schema: type[BaseModel] | None = None,
        sampling: Sampling | None = None,
        on_text: OnText | None = None,
    ) -> Reply:
        shape = None if schema is None else schema.model_json_schema()
        key = content_key(self.identity, system, len(parts), *parts, shape, repr(sampling))
        async with self._locks.hold(key):
            record = self._journal.get(key)
            if record is not None:
                return _reply(record)
            reply = await self._client.complete(system, parts, schema, sampling, on_text)
            await finish_in_thread(self._journal.append, {"key": key, **_record(reply)})
            return reply


def usage_of(replies: Journal) -> Usage:
    """Return the total tokens of all replies that a :class:`RecordedClient` wrote, over all starts."""
    return sum((Usage(**record["usage"]) for record in replies), Usage())


def _record(reply: Reply) -> dict[str, Any]:
    fields = {name: value for name, value in vars(reply).items() if name not in ("first_s", "logprobs")}
    return fields | {"usage": dict(vars(reply.usage))}


def _reply(record: dict[str, Any]) -> Reply:
    fields = {name: value for name, value in record.items() if name not in ("key", "usage")}
    return Reply(**fields, usage=Usage(**record["usage"]))
