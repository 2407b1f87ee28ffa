"""Occlusion: drops equal separate passes, only the occluded window's chunks are encoded anew, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_clip

from mpar2.attention import AttentionRecord
from mpar2.audio import wav_bytes
from mpar2.cli import main
from mpar2.engines.base import Arm, Decoding, EngineError, Request
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.engines.inputs import build_prompt
from mpar2.engines.transformers import TransformersEngine
from mpar2.occlusion import (
    Occlusion,
    answer_span,
    attention_agreement,
    occlude,
    occluded_clips,
    occlusion_steps,
)
from mpar2.question import Question
from mpar2.trace import Span

TEXT = "<think>the dog is first</think>\n<answer>dog bark</answer>"
QUESTION = Question("What comes first?", ("dog bark", "bell"))


@pytest.fixture(params=["omni", "qwen2_audio"])
def folder(request: pytest.FixtureRequest, tiny_checkpoint: Path, qwen2_audio_checkpoint: Path) -> Path:
    return tiny_checkpoint if request.param == "omni" else qwen2_audio_checkpoint


def slow_logprobs(folder: Path, clip, text: str) -> list[float]:
    """One forward pass of the stock class over prompt and text, from features."""
    checkpoint = load_checkpoint(str(folder), device="cpu")
    features = checkpoint.family.features(checkpoint.processor, np.asarray(clip.samples))
    arm = Arm("a", str(folder), mode="cot")
    prompt = build_prompt(checkpoint, QUESTION, arm, torch.zeros(features.positions, 1), None).ids
    written = checkpoint.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*prompt, *written]])
    with torch.inference_mode():
        logits = checkpoint.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            input_features=features.features,
            feature_attention_mask=features.mask,
        ).logits[0]
    logprobs = torch.log_softmax(logits[len(prompt) - 1 : -1].float(), dim=-1)
    return logprobs.gather(1, torch.tensor(written)[:, None])[:, 0].tolist()


def test_scores_of_a_batch_equal_the_stock_forward_pass(folder: Path) -> None:
    clips = [make_clip(3.0, 0), make_clip(2.0, 1)]
    requests = [Request(clip, QUESTION, Arm("a", str(folder), mode="cot")) for clip in clips]
    scored = TransformersEngine(device="cpu").score(requests, TEXT)
    for clip, tokens in zip(clips, scored, strict=True):
        assert [t.logprob for t in tokens] == pytest.approx(slow_logprobs(folder, clip, TEXT), abs=2e-3)
        assert "".join(TEXT[t.chars.start : t.chars.stop] for t in tokens) == TEXT


def test_drops_are_differences_of_separate_passes(folder: Path) -> None:
    clip, arm = make_clip(3.5), Arm("a", str(folder), mode="cot")
    engine = TransformersEngine(device="cpu")
    spans = [answer_span(TEXT), Span(0, 10)]
    seen = []
    got = occlude(engine, clip, QUESTION, arm, TEXT, spans, windows=5, batch_size=4, report=lambda *n: seen.append(n))
    assert seen == [(4, 6), (6, 6)] and got.finished == 5 and got.measure == "log-probability"
    assert got.edges == pytest.approx(np.linspace(0, 3.5, 6))
    whole, *others = (
        engine.score([Request(each, QUESTION, arm)], TEXT)[0] for each in (clip, *occluded_clips(clip, 5)[1])
    )

    def of(tokens, span):
        return sum(t.logprob for t in tokens if t.chars.start < span.stop and t.chars.stop > span.start)

    for row, span in enumerate(spans):
        assert got.base[row] == pytest.approx(of(whole, span), abs=1e-3)
        assert got.drops[row] == pytest.approx([of(whole, span) - of(t, span) for t in others], abs=2e-3)
    assert np.ptp(got.drops[0]) > 1e-3


def test_chunks_that_do_not_change_are_encoded_once(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = load_checkpoint(str(tiny_checkpoint), device="cpu")
    family, clip = checkpoint.family, make_clip(8.0)
    # chunks of 2 s, as in the published models; the small one has 10 s
    checkpoint.model.config.audio_config.n_window = checkpoint.model.model.audio_tower.n_window = 100
    features = [
        family.features(checkpoint.processor, np.asarray(each.samples)) for each in (clip, *occluded_clips(clip, 8)[1])
    ]
    with torch.inference_mode():
        alone = [family._encode_together(checkpoint.model, [each])[0] for each in features]
        columns = []
        real = checkpoint.model.get_audio_features
        monkeypatch.setattr(
            checkpoint.model, "get_audio_features", lambda f, m, **k: columns.append(int(m.sum())) or real(f, m, **k)
        )
        shared = family.encode(checkpoint.model, features)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(alone, shared, strict=True))
    assert columns[0] < 0.6 * sum(int(each.mask.sum()) for each in features)


def test_the_fill_and_the_windows() -> None:
    clip = make_clip(2.0)
    edges, clips = occluded_clips(clip, 4, "noise", seed=1)
    samples = np.asarray(clip.samples)
    assert len(clips) == 4 and edges[-1] == 2.0
    for place, changed in enumerate(clips):
        differs = np.flatnonzero(np.asarray(changed.samples) != samples)
        assert differs.min() >= place * 8000 and differs.max() < (place + 1) * 8000 and len(differs) > 7900
        assert changed.digest != clip.digest and changed.seconds == clip.seconds
    assert not np.asarray(occluded_clips(clip, 4)[1][0].samples)[:8000].any()
    for windows in (1, 1000):
        with pytest.raises(EngineError, match="choose 2 to 200"):
            occluded_clips(clip, windows)


def test_drops_come_batch_by_batch_and_the_rest_is_unknown(tiny_checkpoint: Path) -> None:
    arm = Arm("a", str(tiny_checkpoint))
    engine = TransformersEngine(device="cpu")
    steps = occlusion_steps(engine, make_clip(2.0), QUESTION, arm, TEXT, windows=5, batch_size=3)
    first = next(steps)
    assert first.finished == 2
    assert np.isfinite(first.drops[0, :2]).all() and np.isnan(first.drops[0, 2:]).all()
    assert json.loads(json.dumps(first.to_json()))["drops"][0][2:] == [None] * 3


def test_agreement_is_the_rank_correlation_over_windows() -> None:
    edges, spans = np.linspace(0, 2, 5), (Span(0, 4),)
    drops = np.array([[0.0, 3.0, 1.0, 2.0]])
    made = Occlusion(edges, spans, np.array([-1.0]), drops, "log-probability", "silence", 4)
    weights = np.repeat([0.0, 0.3, 0.1, 0.2], 5) / 5  # 20 columns of 0.1 s
    rows = np.tile(weights, (2, 1, 1, 1)).reshape(2, 1, 1, 20).astype(np.float16)
    record = AttentionRecord(rows, rows.sum(-1).astype(np.float32), np.array([9, 9], np.int32), 20, 0.1)
    assert attention_agreement(made, record, [Span(0, 2), Span(2, 4)]) == pytest.approx(1.0)
    assert attention_agreement(made, record, [Span(5, 6), Span(6, 7)]) is None


def test_engines_that_score_nothing_are_asked_anew() -> None:
    from test_engine_contract import Echo

    class Listening(Echo):
        """Answers by whether the middle of the clip is silent."""

        def _echo(self, request):
            samples = np.asarray(request.clip.samples)
            silent = not samples[len(samples) // 2]
            question = Question("?", ("quiet", "loud") if silent else ("loud", "quiet"))
            return super()._echo(Request(request.clip, question, request.arm))

    got = occlude(Listening(), make_clip(2.0), QUESTION, Arm("a", "a"), TEXT, windows=5, decoding=Decoding())
    assert got.measure == "changed answer" and got.drops.tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]


def test_the_command_prints_windows_and_agreement(tiny_checkpoint: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "clip.wav").write_bytes(wav_bytes(make_clip(2.0)))
    (tmp_path / "trace.txt").write_text(TEXT)
    ask = ["occlude", str(tmp_path / "clip.wav"), "--question", "What?", "--model", str(tiny_checkpoint)]
    ask += ["--text", str(tmp_path / "trace.txt"), "--windows", "4"]
    assert main(ask) == 0
    shown = capsys.readouterr()
    assert (
        "answer: dog bark" in shown.out and "  0.50-  1.00 s" in shown.out and "agreement with attention" in shown.out
    )
    assert "5 of 5 passes" in shown.err
    assert main([*ask, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["drops"][0]) == 4 and report["measure"] == "log-probability"
    assert main([*ask[:-1], "1"]) == 2
