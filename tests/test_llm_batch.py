"""Bounds, journal and batches: nothing is paid twice, nothing lost, whatever kills the run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from mpar2.llm import (
    CallFailed,
    ChatClient,
    Estimate,
    Journal,
    JournalError,
    Limiter,
    Prices,
    RecordedClient,
    Reply,
    StopRun,
    Usage,
    estimate_tokens,
    run_batch,
)
from testing.wire import Call, HttpReply, Server, error, openai_reply, serve
from tests.clients import WIRES, Thing, client, complete, reply, run, wav

# --- bounds --------------------------------------------------------------------------------------------------------


def test_requests_in_flight_never_pass_the_bound() -> None:
    async def many(c: ChatClient) -> None:
        await asyncio.gather(*(c.complete("", [f"{n}"]) for n in range(20)))

    with serve([reply("openai", delay_s=0.03)]) as server:
        run("openai", server, many, limiter=Limiter(in_flight=3))
    assert (len(server.calls), server.open_most) == (20, 3)


def test_the_token_budget_stops_the_run_before_the_request_that_would_pass_it() -> None:
    limiter = Limiter(in_flight=1, max_tokens=60)

    async def many(c: ChatClient) -> None:
        for number in range(10):
            await c.complete("", [f"{number}"])

    with serve([reply("openai")]) as server, pytest.raises(StopRun, match="budget of 60"):
        run("openai", server, many, limiter=limiter)
    assert len(server.calls) == 3  # 17 tokens each
    assert limiter.totals.usage.total == 51


def test_replies_without_a_count_are_counted_as_uncounted() -> None:
    limiter = Limiter()
    with serve([openai_reply("x", usage=None)]) as server:
        assert not complete("openai", server, limiter=limiter).usage.known
    assert (limiter.totals.replies, limiter.totals.uncounted) == (1, 1)


def test_estimates_before_and_costs_after(tmp_path: Path) -> None:
    assert estimate_tokens("x" * 35, wav(10.0)) == 10 + 320
    assert "no cost" in str(Estimate(3, 100, 10))
    table = tmp_path / "prices.json"
    table.write_text('{"m": {"prompt": 2.0, "completion": 10.0}}')
    prices = Prices.load(table, "m")
    assert prices is not None and Prices.load(table, "other") is None
    assert prices.cost(Usage(1_000_000, 100_000, 100_000)) == pytest.approx(4.0)
    assert "0.30 USD" in str(Estimate(1, 100_000, 10_000, prices))
    with pytest.raises(ValueError, match="price table"):
        Prices.load('{"m": {"prompt": "free"}}', "m")
    with pytest.raises(ValueError, match="not negative"):
        Prices.load('{"m": {"prompt": -1, "completion": 1}}', "m")


# --- journal and batches -------------------------------------------------------------------------------------------


def test_the_journal_drops_a_torn_line_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    with Journal(path) as journal:
        journal.append({"key": "a", "text": "é\n\u2028\udc80"})
        with pytest.raises(JournalError, match="twice"):
            journal.append({"key": "a"})
    with path.open("ab") as file:
        file.write(b'{"key": "b", "te')
    with Journal(path) as journal:
        assert len(journal) == 1 and "b" not in journal
        journal.append({"key": "b"})
    assert [json.loads(line)["key"] for line in path.read_bytes().splitlines()] == ["a", "b"]
    path.write_bytes(path.read_bytes().replace(b'{"key":"b"}', b"{key: b}"))
    with pytest.raises(JournalError, match="line 2"):
        Journal(path)


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    with Journal(tmp_path / "j"), pytest.raises(JournalError, match="another process"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


def test_a_recorded_reply_is_not_paid_again(tmp_path: Path) -> None:
    async def go(path: Path, server: Server) -> list[Reply]:
        with Journal(path) as journal:
            async with RecordedClient(client("openai", server), journal) as c:
                same = [c.complete("s", ["one", wav()], Thing) for _ in range(5)]
                return await asyncio.gather(*same, c.complete("s", ["two", wav()], Thing))

    with serve([reply("openai", delay_s=0.05)]) as server:
        first = asyncio.run(go(tmp_path / "j", server))
        assert len(server.calls) == 2
        assert asyncio.run(go(tmp_path / "j", server)) == first
        assert len(server.calls) == 2


def test_a_reply_that_is_paid_is_written_though_its_caller_is_cancelled(tmp_path: Path, monkeypatch: Any) -> None:
    slow = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (time.sleep(0.3), slow(file)))

    async def go(server: Server, journal: Journal) -> None:
        async with RecordedClient(client("openai", server), journal) as c:
            task = asyncio.create_task(c.complete("", ["one"]))
            while not server.calls or server.open_now:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # the reply is in, the disk is slow
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with serve([reply("openai", "paid")]) as server:
        with Journal(tmp_path / "j") as journal:
            asyncio.run(go(server, journal))
        with Journal(tmp_path / "j") as journal:
            assert [record["text"] for record in journal] == ["paid"]


def test_a_batch_keeps_order_counts_failures_and_resumes(tmp_path: Path) -> None:
    worked: list[int] = []

    async def work(item: int) -> dict[str, Any]:
        worked.append(item)
        await asyncio.sleep(0.001 * (10 - item))
        if item == 3 and worked.count(3) == 1:
            raise CallFailed("timeout", "once", 1)
        return {"square": item * item}

    def go() -> Any:
        with Journal(tmp_path / "j") as journal:
            return asyncio.run(run_batch([*range(6), 0, 1], work, key=str, journal=journal, in_flight=3))

    first = go()
    assert list(first.records) == ["0", "1", "2", "4", "5"] and list(first.failed) == ["3"]
    second = go()
    assert list(second.records) == ["0", "1", "2", "3", "4", "5"] and second.resumed == 5
    assert sorted(worked) == [0, 1, 2, 3, 3, 4, 5]


def test_a_fatal_error_stops_the_batch_but_what_is_paid_is_kept(tmp_path: Path) -> None:
    def plan(call: Call) -> HttpReply:
        return error(401, "key revoked") if call.text == "2" else reply("openai", call.text, delay_s=0.2)

    async def go(server: Server, journal: Journal) -> None:
        async with client("openai", server) as c:

            async def work(item: str) -> dict[str, Any]:
                return {"text": (await c.complete("", [item])).text}

            await run_batch(map(str, range(100)), work, key=str, journal=journal, in_flight=4)

    with serve(plan) as server, Journal(tmp_path / "j") as journal:
        with pytest.raises(StopRun, match="key revoked"):
            asyncio.run(go(server, journal))
        assert {record["key"] for record in journal} == {"0", "1", "3"}
        assert len(server.calls) == 4


def test_a_service_that_is_down_stops_the_batch() -> None:
    async def work(item: int) -> dict[str, Any]:
        raise CallFailed("unavailable", "no connection", 6)

    with pytest.raises(StopRun, match="20 items in a row"):
        asyncio.run(run_batch(range(1000), work, key=str, in_flight=4))


def test_the_progress_bar_counts_the_resumed_items_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def work(item: int) -> dict[str, Any]:
        return {}

    with Journal(tmp_path / "j") as journal:
        asyncio.run(run_batch(range(3), work, key=str, journal=journal))
        asyncio.run(run_batch(range(5), work, key=str, journal=journal, label="judging"))
    assert "judging: 100%" in (err := capsys.readouterr().err) and "5/5" in err


@pytest.mark.parametrize("wire", WIRES)
def test_a_batch_keeps_its_slots_busy(wire: str) -> None:
    """64 items of 0.25 s, 16 at a time: 1 s when no slot idles. The full measurement is benchmarks/judging.py."""

    async def go(c: ChatClient) -> float:
        async def work(item: int) -> dict[str, Any]:
            return {"text": (await c.complete("", [str(item)])).text}

        await c.complete("", ["warm up"])
        started = time.monotonic()
        await run_batch(range(64), work, key=str, in_flight=16)
        return time.monotonic() - started

    with serve([reply(wire, delay_s=0.25)]) as server:
        seconds = run(wire, server, go, limiter=Limiter(in_flight=16))
    assert server.open_most == 16
    assert seconds < 4.0  # one at a time would take 16 s; the bound is loose because other work may share the machine


KILLED = """
    import asyncio, sys
    from mpar2.llm import Journal, Limiter, OpenAIClient, RecordedClient, run_batch

    async def main(url, folder):
        with Journal(folder + "/replies.jsonl") as replies, Journal(folder + "/records.jsonl") as records:
            client = OpenAIClient("m", url, limiter=Limiter(in_flight=8))
            async with RecordedClient(client, replies) as c:
                async def work(item):
                    first = await c.complete("", [f"first {item}"])
                    second = await c.complete("", [f"second {item} {first.text}"])
                    return {"text": second.text}
                await run_batch(map(str, range(120)), work, key=str, journal=records, in_flight=8)

    asyncio.run(main(*sys.argv[1:]))
"""


def test_killed_three_times_equals_undisturbed(tmp_path: Path) -> None:
    def plan(call: Call) -> HttpReply:
        return openai_reply(call.text.upper(), delay_s=0.05)

    def start(folder: Path) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", textwrap.dedent(KILLED), server.url + "/v1", str(folder)]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})

    def lines(folder: Path) -> int:
        path = folder / "records.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def records(folder: Path) -> dict[str, Any]:
        found = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
        assert len(found) == len({record["key"] for record in found})  # nothing is counted twice
        return {record["key"]: record for record in found}

    with serve(plan) as server:
        assert start(tmp_path / "calm").wait(60) == 0
        calm_calls = len(server.calls)
        for kill_at in (10, 30, 50):
            process = start(tmp_path / "killed")
            deadline = time.monotonic() + 60
            while lines(tmp_path / "killed") < kill_at and time.monotonic() < deadline:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
        before_last = lines(tmp_path / "killed")
        assert 50 <= before_last < 120
        assert start(tmp_path / "killed").wait(60) == 0
        extra = len(server.calls) - 2 * calm_calls
    assert records(tmp_path / "killed") == records(tmp_path / "calm")
    assert calm_calls == 240
    assert extra <= 3 * 8  # at most the requests in flight at each kill were sent again
