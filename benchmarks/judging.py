"""Time to judge a thousand items against the ideal, with the real SDKs and a local server of 1 s latency.

    python -m benchmarks.judging [--items 1000] [--in-flight 32] [--latency 1.0]

Ideal is ``ceil(requests / in_flight) * latency``, with no idle slot and no time outside of the server. Each wire has
three jobs: ``request`` is one request per item, ``judge`` is the model judge with two requests per item; both keep
journals that fsync every reply, as a real run does. ``bare`` is the baseline, a plain ``asyncio.gather`` over the SDK
under a semaphore: no retries, no budget, no journal, no check of the reply. The import of the SDK (about half a second,
once) is excluded.

The server runs in a process of its own, so that it does not delay the client's event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from mpar2.cafe.llm_judge import LLMJudge
from mpar2.cafe.schema import JudgeRequest, Truth, Verdict
from mpar2.llm import ChatClient, GeminiClient, Journal, Limiter, OpenAIClient, RecordedClient, run_batch
from mpar2.question import Event
from testing.wire import Call, HttpReply, gemini_reply, judge_plan, openai_reply, read_data, serve

TRACE = (
    "<perception>A dog barks twice at the start, then a siren wails. Clip {number}.</perception>"
    "<step><ask>What follows the dog?</ask><hear>A siren, then glass.</hear><infer>An accident.</infer></step>"
    "<answer>siren</answer>"
)
TRUTH = Truth(events=(Event("dog bark", 0.0, 1.0), Event("siren", 4.0, 8.0)), origin="scene")
LIMIT = 1.2  # as a multiple of the ideal time


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of judging against the ideal.")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--latency", type=float, default=1.0, help="of the server, seconds a request")
    args = parser.parse_args()
    print(f"{args.items} items, {args.in_flight} in flight, {args.latency:g} s latency")
    print("| wire | job | requests | ideal s | took s | ratio | at most at once |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst = 0.0
    for wire in ("openai", "gemini"):
        for job in ("bare", "request", "judge"):
            requests, seconds, n_open = asyncio.run(_measure(wire, job, args.items, args.in_flight, args.latency))
            ideal = math.ceil(requests / args.in_flight) * args.latency
            print(
                f"| {wire} | {job} | {requests} | {ideal:.1f} | {seconds:.1f} | {seconds / ideal:.3f} | {n_open} |",
                flush=True,
            )
            worst = max(worst, seconds / ideal if job != "bare" else 0.0)
    print(f"worst ratio {worst:.3f}, limit {LIMIT}")
    raise SystemExit(worst > LIMIT)


async def _measure(wire: str, job: str, items: int, in_flight: int, latency: float) -> tuple[int, float, int]:
    context = multiprocessing.get_context("spawn")
    parent_pipe, child_pipe = context.Pipe()
    server = context.Process(target=_server, args=(child_pipe, wire, latency), daemon=True)
    server.start()
    url = parent_pipe.recv()
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with _client(wire, url, Limiter(1)):  # imports the SDK
                start = time.perf_counter()
            if job == "bare":
                await _bare(wire, url, items, in_flight)
            else:
                await _run(wire, url, job, items, in_flight, Path(folder))
            seconds = time.perf_counter() - start
        parent_pipe.send("done")
        requests, n_open = parent_pipe.recv()
    finally:
        server.join(10)
    return requests, seconds, n_open


def _client(wire: str, url: str, limiter: Limiter) -> ChatClient:
    if wire == "openai":
        return OpenAIClient("m", url + "/v1", limiter=limiter)
    return GeminiClient("m", base_url=url, api_key="none", limiter=limiter)


async def _run(wire: str, url: str, job: str, items: int, in_flight: int, folder: Path) -> None:
    with Journal(folder / "replies.jsonl") as replies, Journal(folder / "records.jsonl") as records:
        client = RecordedClient(_client(wire, url, Limiter(in_flight)), replies)
        async with LLMJudge(client, "server" if wire == "openai" else "gemini") as judge:

            async def work(number: int) -> dict[str, Any]:
                trace = TRACE.format(number=number)
                if job == "request":
                    return {"text": (await client.complete("Sort the events.", [trace])).text}
                verdict = await judge.judge(JudgeRequest("What follows?", (), None, TRUTH, trace))
                assert isinstance(verdict, Verdict), verdict
                return verdict.as_dict()

            result = await run_batch(range(items), work, key=str, journal=records, in_flight=in_flight)
            assert len(result.records) == items


async def _bare(wire: str, url: str, items: int, in_flight: int) -> None:
    slots = asyncio.Semaphore(in_flight)
    async with _client(wire, url, Limiter(in_flight)) as client:
        sdk = client._client  # the SDK itself, with the same settings

        async def request(number: int) -> None:
            async with slots:
                if wire == "openai":
                    text = TRACE.format(number=number)
                    await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
                else:
                    await sdk.aio.models.generate_content(model="m", contents=TRACE.format(number=number))

        await asyncio.gather(*(request(number) for number in range(items)))


def _server(pipe: Any, wire: str, latency: float) -> None:
    reply = openai_reply if wire == "openai" else gemini_reply
    judge = judge_plan(reply, delay_s=latency)

    def plan(call: Call) -> HttpReply:
        try:
            read_data(call.text)
        except (AssertionError, json.JSONDecodeError, TypeError, KeyError):
            return reply("a plain reply", delay_s=latency)
        return judge(call)

    with serve(plan) as server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send((len(server.calls), server.open_most))


if __name__ == "__main__":
    main()
