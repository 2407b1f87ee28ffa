"""The attention probe against eager attention, and the pure functions over its record."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_clip
from test_engine import final, ids, stock_inputs

from mpar2.attention import (
    AttentionRecord,
    attention_ratio,
    corrected_ratio,
    downsample,
    heatmap,
    load_record,
    save_record,
    sink_frames,
)
from mpar2.engines.base import Arm, Decoding, Request
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.engines.probe import AttentionProbe, install
from mpar2.engines.transformers import TransformersEngine
from mpar2.trace import Span

TOKENS = 12


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(device="cpu")


def eager_rows(checkpoint, inputs, tokens: int):
    """From generate with output_attentions: ids, and for each step (B, L, H, K) of the query that produced it."""
    checkpoint.model.set_attn_implementation("eager")
    out = checkpoint.model.generate(
        **inputs,
        max_new_tokens=tokens,
        do_sample=False,
        output_attentions=True,
        return_dict_in_generate=True,
    )
    steps = [torch.stack([layer[:, :, -1] for layer in step], dim=1).float().numpy() for step in out.attentions]
    return out.sequences[:, inputs.input_ids.shape[1] :], steps


@pytest.mark.parametrize("kind", ["omni", "qwen2_audio"])
def test_probe_equals_eager_attention_batched_and_padded(
    engine, kind: str, tiny_checkpoint: Path, qwen2_audio_checkpoint: Path, question
) -> None:
    folder = tiny_checkpoint if kind == "omni" else qwen2_audio_checkpoint
    clips, modes = [make_clip(1.37, 1), make_clip(2.2, 2)], ["direct", "mpar2"]
    requests = [Request(c, question, Arm("a", str(folder), mode=m)) for c, m in zip(clips, modes, strict=True)]
    generations = engine.generate_batch(requests, Decoding(max_new_tokens=TOKENS), attention="full")
    checkpoint = load_checkpoint(str(folder), device="cpu")
    inputs = stock_inputs(checkpoint, clips, [question] * 2, modes)
    sequences, steps = eager_rows(checkpoint, inputs, TOKENS)
    audio = (inputs.input_ids == checkpoint.processor.audio_token_id).numpy()
    padding = (inputs.attention_mask == 0).sum(-1).tolist()
    for row, generation in enumerate(generations):
        record = generation.attention
        n = len(generation.tokens)
        assert n >= 5 and ids(generation) == sequences[row, :n].tolist()
        assert record.heads == "all" and record.rows.shape == (n, 2, 4, int(audio[row].sum()))
        for t in range(n):
            eager = steps[t][row]  # (L, H, K)
            columns = np.pad(audio[row], (0, eager.shape[-1] - audio.shape[1]))
            assert np.abs(record.rows[t].astype(np.float32) - eager[..., columns]).max() < 1e-3  # float16 storage
            assert np.abs(record.mass[t] - eager[..., columns].sum(-1)).max() < 1e-4
            assert record.visible[t] == eager.shape[-1] - padding[row]
    spread = np.std([g.attention.mass.mean() for g in generations])
    assert spread > 1e-4  # the rows are told apart


def test_probe_in_float32_is_exact(tiny_checkpoint: Path, clip, question) -> None:
    checkpoint = load_checkpoint(str(tiny_checkpoint), device="cpu")
    inputs = stock_inputs(checkpoint, [clip], [question], ["cot"])
    at = (inputs.input_ids[0] == checkpoint.processor.audio_token_id).nonzero().flatten().tolist()
    checkpoint.model.set_attn_implementation("eager")
    with torch.inference_mode():
        eager = checkpoint.model(**inputs, output_attentions=True).attentions
    checkpoint.model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        plain = checkpoint.model(**inputs).logits
    assert install(checkpoint.model)
    probe = AttentionProbe([range(at[0], at[-1] + 1)], 0.04)
    seen = []
    stock_add = probe._stores[0].add
    probe._stores[0].add = lambda audio, visible: (seen.append(audio), stock_add(audio, visible))
    with torch.inference_mode(), probe.listen([0], queries=5):
        probed = checkpoint.model(**inputs).logits
    assert probe.record(0, 5).mass.shape[0] == 5
    assert torch.equal(plain, probed)  # listening changes nothing
    expected = torch.stack([layer[0, :, -5:, at[0] : at[-1] + 1] for layer in eager]).permute(2, 0, 1, 3).numpy()
    assert np.abs(seen[0] - expected).max() < 1e-6
    with torch.inference_mode():
        assert torch.equal(checkpoint.model(**inputs).logits, plain)  # and with nobody listening neither


def test_reading_a_text_again_gives_the_attention_of_writing_it(
    engine, tiny_checkpoint: Path, tiny_adapter: Path, clip, question
) -> None:
    arm = Arm("a", str(tiny_checkpoint), str(tiny_adapter), mode="mpar2")
    read = engine.attend(clip, question, arm, "<answer>a dog bark</answer> and a bell. " * 4)
    assert len(read.tokens) == len(read.attention.visible) > 33  # more than one block
    assert (np.diff(read.attention.visible) == 1).all()
    assert read.text == "<answer>a dog bark</answer> and a bell. " * 4 and read.trace.answer == "a dog bark"
    for seed in range(20):  # what random weights write is seldom cut into the same tokens again: some of it will be
        decoding = Decoding(max_new_tokens=40, temperature=1.0, seed=seed)
        written = final(list(engine.stream(clip, question, [arm], decoding, attention=True)))[0]
        again = engine.attend(clip, question, arm, written.text)
        pairs = zip(ids(again), ids(written), strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if same > 3:
            break
    assert same > 3
    np.testing.assert_allclose(again.attention.mass[:same], written.attention.mass[:same], atol=1e-4)
    assert again.attention.visible[0] == written.attention.visible[0] == written.prompt_tokens


def test_each_arm_of_a_mixed_batch_has_its_own_attention(
    engine, tiny_checkpoint: Path, tiny_adapter: Path, clip, question
) -> None:
    arms = [Arm("b", str(tiny_checkpoint), mode="cot"), Arm("m", str(tiny_checkpoint), str(tiny_adapter))]
    together = final(list(engine.stream(clip, question, arms, Decoding(max_new_tokens=TOKENS), attention=True)))
    alone = [
        final(list(engine.stream(clip, question, [arm], Decoding(max_new_tokens=TOKENS), attention=True)))[0]
        for arm in arms
    ]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.attention.mass, other.attention.mass, atol=1e-4)
        np.testing.assert_array_equal(one.attention.visible, other.attention.visible)


def test_ratio_only_keeps_no_rows(engine, tiny_checkpoint: Path, clip, question) -> None:
    request = Request(clip, question, Arm("a", str(tiny_checkpoint), mode="cot"))
    full, ratio, none = (
        engine.generate_batch([request], Decoding(max_new_tokens=4), attention=kind)[0]
        for kind in ("full", "ratio", "none")
    )
    assert ratio.attention.rows.size == 0 and ratio.attention.heads == "none" and none.attention is None
    np.testing.assert_allclose(ratio.attention.mass, full.attention.mass, atol=1e-6)
    with pytest.raises(ValueError, match="attention='full'"):
        heatmap(ratio.attention)


def test_the_memory_budget_holds_and_mass_stays(tiny_checkpoint: Path) -> None:
    random = np.random.default_rng(0)
    steps = random.random((40, 1, 3, 4, 101), dtype=np.float32) / 500
    for budget, heads in ((40 * 3 * 4 * 101 * 2, "all"), (40 * 3 * 101 * 2, "mean"), (5000, "mean"), (1, "mean")):
        probe = AttentionProbe([range(101)], 0.04, budget=budget)
        for step in steps:
            probe._stores[0].add(step, np.array([120]))
            if budget == 5000:
                assert probe._stores[0].bytes <= budget
        record = probe.record(0, 40)
        assert record.heads == heads
        assert record.rows.shape[:2] == (40, 3) and len(record.mass) == 40
        np.testing.assert_allclose(record.mass, steps[:, 0].sum(-1), rtol=1e-5)
        np.testing.assert_allclose(record.rows.astype(float).sum(-1).mean(2), record.mass.mean(2), rtol=0.02)
    assert record.rows.shape[-1] == 1 and record.frames_per_column == 128


def made(weights: np.ndarray, visible: int = 100, heads: str = "all") -> AttentionRecord:
    """A record of (T, C) weights, equal in 2 layers and 2 heads."""
    rows = np.repeat(np.repeat(weights[:, None, None], 2, axis=1), 2, axis=2)
    return AttentionRecord(
        rows.astype(np.float16),
        rows.sum(-1).astype(np.float32),
        np.arange(visible, visible + len(weights), dtype=np.int32),
        weights.shape[1],
        0.04,
        heads=heads,
    )


def test_blind_attention_has_a_corrected_ratio_of_one() -> None:
    visible = np.arange(100, 110)
    record = made(np.repeat(1 / visible[:, None], 25, axis=1))
    np.testing.assert_allclose(attention_ratio(record), 25 / visible, rtol=1e-3)
    np.testing.assert_allclose(corrected_ratio(record), 1.0, rtol=1e-3)
    np.testing.assert_allclose(heatmap(record, correction="length").values, 1.0, rtol=1e-3)


def test_heatmap_groups_layers_heads_and_sinks() -> None:
    weights = np.full((10, 50), 0.001)
    weights[:, 7] = 0.2  # a sink
    weights[4, 30] = 0.1  # an event
    record = made(weights)
    assert sink_frames(record) == (7,)
    picture = heatmap(record, [Span(0, 4), Span(4, 5), Span(10, 10)])
    assert picture.values.shape == (3, 50) and picture.frame_s == 0.04
    assert picture.values[1, 30] == pytest.approx(0.1, rel=1e-3) and np.isnan(picture.values[2]).all()
    clean = heatmap(record, [Span(4, 5)], remove_sink=True)
    assert clean.subtracted == (7,) and clean.values[0].argmax() == 30 and clean.values[0, 7] == 0
    record.rows[:, 1, 0] = 0
    assert heatmap(record, layers=[1], heads=[0]).values.max() == 0
    for wrong in ({"layers": [2]}, {"heads": [-1]}, {"layers": []}):
        with pytest.raises(ValueError, match="do not exist"):
            heatmap(record, **wrong)
    with pytest.raises(ValueError, match="correction"):
        heatmap(record, correction="square")
    assert sink_frames(made(weights[:7])) == ()  # too few tokens to tell


def test_downsample_keeps_means_and_time() -> None:
    picture = heatmap(made(np.random.default_rng(0).random((3, 1001)) / 1000))
    small = downsample(picture, 300)
    assert small.values.shape == (3, 251) and small.frame_s == pytest.approx(0.16)
    np.testing.assert_allclose(small.values[:, :-1], picture.values[:, :1000].reshape(3, 250, 4).mean(2), rtol=1e-5)
    np.testing.assert_allclose(small.values[:, -1], picture.values[:, -1], rtol=1e-6)
    assert downsample(picture, 2000) is picture


def test_records_survive_the_disk_and_nothing_else_does(tmp_path: Path) -> None:
    record = made(np.random.default_rng(0).random((5, 40)) / 40)
    path = save_record(record, tmp_path / "a.npz")
    back = load_record(path)
    np.testing.assert_array_equal(back.rows, record.rows)
    np.testing.assert_array_equal(back.mass, record.mass)
    assert (back.audio_positions, back.frame_s, back.heads) == (40, 0.04, "all")
    assert list(tmp_path.iterdir()) == [path]
    np.savez(tmp_path / "evil.npz", rows=np.array([object()], dtype=object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:200])
    for name in ("evil", "text", "cut"):
        with pytest.raises(ValueError, match="not an attention record"):
            load_record(tmp_path / f"{name}.npz")
