"""A journey in a real browser: two arms behind a server that speaks the wire format, and one in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_clip

from mpar2.audio import wav_bytes
from testing.browser import browser_page, chromium
from testing.wire import openai_reply, openai_stream, serve

pytest.importorskip("gradio")
pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason="no chromium found: the journeys need a browser")

PIECES = ["<think>", "a bell ", "rings", "</think>", "<answer>", "bell", "</answer>"]


def test_served_and_local_arms_side_by_side(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from pages import build_app, launch_settings
    from pages.options import build_services, parse_options

    def plan(call):
        if not call.json.get("stream"):  # the check that audio arrives: prompts grow with it
            return openai_reply("a bell", usage={"prompt_tokens": len(call.body) // 1000, "completion_tokens": 2})
        return openai_stream(PIECES, logprobs=[-0.1] * len(PIECES), pause_s=0.1)

    (tmp_path / "examples").mkdir()
    (tmp_path / "clip.wav").write_bytes(wav_bytes(make_clip(2.0)))
    with serve(plan) as server:
        arms = [f"{name}=server:{server.url}/v1#org/{name}:cot" for name in ("first", "second")]
        arms.append(f"here={tiny_checkpoint}:cot")
        options = [part for arm in arms for part in ("--arm", arm)]
        options += ["--examples", str(tmp_path / "examples"), "--max-new-tokens", "16"]
        demo = build_app(build_services(parse_options(options)))
        _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_settings())
        try:
            with browser_page(viewport={"width": 1440, "height": 900}) as page:
                page.goto(url)
                page.locator("#clip-file").set_input_files(str(tmp_path / "clip.wav"))
                page.get_by_text("Your sound: clip.wav").wait_for(timeout=60_000)
                page.get_by_label("Question", exact=True).fill("What rings?")
                page.get_by_role("button", name="Compare", exact=True).click()
                page.wait_for_function(
                    "document.querySelector('.mp-status')?.textContent === 'Your result' "
                    "&& document.querySelector('#stop').hidden",
                    timeout=90_000,
                )
                cards = page.locator(".mp-card-arm").all_inner_texts()
                assert len(cards) == 3 and all("bell" in card for card in cards[:2])
                assert all("no attention from a server" in card and "90%" in card for card in cards[:2])
                assert "no attention from a server" not in cards[2] and "16-token limit" in cards[2]
                assert page.locator(".mp-card-arm .mp-decay-line").count() == 3
                page.get_by_role("button", name="Choices, arms, more").click()
                page.get_by_text("A real model on this machine").click()
                assert page.get_by_text("llama-server -hf ggml-org/Qwen2.5-Omni-3B-GGUF").is_visible()
                assert server.url not in page.content() and page.problems == []
        finally:
            demo.close()
    assert {call.json["model"] for call in server.calls} == {"org/first", "org/second"}
    assert server.open_most == 2, "both are asked at the same time"
