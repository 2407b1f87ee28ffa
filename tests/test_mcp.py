"""The app as tools of an MCP server, called by a real MCP client."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import make_clip

from mpar2.audio import wav_bytes
from pages import options
from testing.browser import tiny_services

pytest.importorskip("gradio")


def test_language_models_find_and_call_both_tools(tiny_checkpoint: Path, tiny_adapter: Path) -> None:
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    from pages import build_app, launch_settings

    services = tiny_services(tiny_checkpoint, tiny_adapter, max_new_tokens=24)
    sound = f"data:audio/wav;base64,{base64.b64encode(wav_bytes(make_clip(1.5))).decode()}"
    asked = {"audio": sound, "question": "What comes first?", "choices": "a dog\na bell", "max_new_tokens": 4}

    async def journey(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
        async with (
            streamablehttp_client(f"{url}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            replies = {name: await session.call_tool(name, asked) for name in tools}
            return tools, replies

    demo = build_app(services)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings(mcp=True))
    try:
        tools, replies = asyncio.run(journey(url))
    finally:
        demo.close()
    assert set(tools) == {"compare", "reason"}
    assert "reasoning trace" in tools["reason"].description
    assert "cot (reason freely)" in json.dumps(tools["compare"].inputSchema)
    assert not any(reply.isError for reply in replies.values())
    text = replies["compare"].content[0].text
    assert "small-base" in text and "small-mpar2" in text and len(text) < 20_000  # to be read, not to be drawn
    assert '"model": "small-mpar2"' in replies["reason"].content[0].text.replace("'", '"')


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as left:
        options.parse_options(["--mcp"])
    assert left.value.code == 2 and "gradio[mcp]" in capsys.readouterr().err
    assert options.parse_options([]).mcp is False
