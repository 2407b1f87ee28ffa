"""How the tiny pair is trained: the fast paths give the numbers of the stock model, and only replies are learnt."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import struct

import numpy as np
import pytest
import torch

from mpar2.engines.processor import AudioProcessor
from mpar2.prompts import build_messages
from mpar2.question import Question
from mpar2.scenes.scene import Scene, SceneEvent
from mpar2.trace import is_wellformed, parse_trace
from training.tiny import language
from training.tiny.features import mel_features
from training.tiny.packages import find
from training.tiny.sequences import Chat, Encoder, aligned, cold_start, written
from training.tiny.tower import HEAD, LABELS, _lower, _upper, decode, frame_labels, make_tower, tower_forward
from training.tiny.whisper import read_ctranslate2

SCENE = Scene(
    0, "train", 6.0, (SceneEvent("dog bark", 1.0, 2.0, -20.0, "x"), SceneEvent("bell", 3.0, 4.5, -18.0, "y")), ""
)


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    return Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()


def test_the_batched_tower_equals_the_stock_one():
    torch.manual_seed(0)
    tower = make_tower().eval()
    mel, frames = torch.randn(3, 80, 1000), torch.tensor([1000, 640, 804])
    with torch.no_grad():
        ours = torch.cat(tower_forward(tower, mel, frames))
        packed = torch.cat([m[:, :n] for m, n in zip(mel, frames.tolist(), strict=True)], 1)
        stock = tower(packed, feature_lens=frames, aftercnn_lens=(frames - 1) // 2 + 1).last_hidden_state
    assert ours.shape == stock.shape
    torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5)


def test_frame_labels_name_the_event_in_front():
    over = SceneEvent("siren", 1.4, 5.0, -18.0, "z")
    labels = frame_labels(dataclasses.replace(SCENE, events=(SCENE.events[0], over, SCENE.events[1])), 150)
    dog, siren, bell = (LABELS.index(name) for name in ("dog bark", "siren", "bell"))
    n = len(LABELS)
    assert labels.shape == (150, n + 6)
    assert labels[:, dog].nonzero()[0].tolist() == list(range(25, 50))
    assert labels[30, n:].tolist() == [dog, 0, 1, 0, 2, 0]
    assert labels[40, n:].tolist() == [siren, 1, 1, 4, 5, 0], "the later event is in front"
    assert labels[80, n:].tolist() == [bell, 2, 3, 0, 4, 5]
    assert labels[120, n] == siren and labels[120, dog] == 0, "the longer one comes back"
    assert labels[0, n:].tolist() == [n] + [-100] * 5


def test_what_the_labels_say_is_decoded_to_the_events():
    labels = frame_labels(SCENE, 150)
    logits = np.zeros((150, sum(HEAD.values())))
    at = len(LABELS)
    for i, width in enumerate(list(HEAD.values())[1:]):
        rows = np.flatnonzero(labels[:, len(LABELS) + i] >= 0)
        logits[rows, at + labels[rows, len(LABELS) + i]] = 5.0
        at += width
    assert decode(logits) == [("dog bark", 1.0, 2.0), ("bell", 3.0, 4.5)]


def test_language_training_sees_what_the_whole_model_sees(model, tiny_checkpoint):
    """Logits over kept tower outputs equal the stock forward from features: positions and placement agree."""
    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    rng = np.random.default_rng(0)
    samples = [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (32000, 48000)]
    rows, sequences = [], []
    counts = [len(s) // 160 // 4 for s in samples]
    encode = Encoder(processor, lambda row: counts[row])
    for row in range(2):
        sequences.append(encode(Chat((("What is heard?", "<answer>a bell</answer>"),), row)))
        rows.append(mel_features(samples[row]))
    frames = torch.tensor([4 * n for n in counts])
    mel = torch.from_numpy(np.stack(rows))
    with torch.no_grad():
        tower = model.model.audio_tower
        kept = np.zeros((2, 250, tower.config.d_model), np.float32)
        pooled = _upper(tower, *_lower(tower, mel, frames, 0), 0).split(counts)
        for row, clip in enumerate(pooled):
            kept[row, : len(clip)] = clip.numpy()
        ours, targets = language._forward(model, sequences, kept, 0.0)
        stock = []
        for row, sequence in enumerate(sequences):
            mask = (torch.arange(1000) < frames[row]).long()[None]
            inputs = {"input_ids": torch.from_numpy(sequence.ids)[None], "input_features": mel[row : row + 1]}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            logits = model(**inputs, feature_attention_mask=mask).logits[0]
            stock.append(logits[:-1][torch.from_numpy(sequence.learn)[1:]])
    torch.testing.assert_close(ours, torch.cat(stock), atol=2e-4, rtol=1e-4)
    assert processor.tokenizer.decode(targets[: int(sequences[0].learn.sum())]) == "<answer>a bell</answer><|im_end|>"


def test_training_prompts_are_the_prompts_of_inference(tiny_checkpoint):
    from mpar2.prompts import prompt_text

    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    question = Question("Which sound comes first?", ("a bell", "a dog bark"))
    sequence = Encoder(processor, lambda row: 1)(Chat(((prompt_text(question, "mpar2"), "x"),), 0))
    asked = processor.apply_chat_template(build_messages(question, "mpar2"), add_generation_prompt=True, tokenize=False)
    assert processor.tokenizer(asked).input_ids == sequence.ids[~sequence.learn].tolist()


def test_only_replies_are_learnt_and_cold_start_chains_are_whole(tiny_checkpoint):
    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    encode = Encoder(processor, lambda row: 7)
    for chat in itertools.islice(cold_start([SCENE], 0), 12):
        sequence = encode(chat)
        reply = processor.tokenizer.decode(sequence.ids[sequence.learn])
        assert reply == chat.turns[0][1] + "<|im_end|>" and is_wellformed(parse_trace(chat.turns[0][1]))
        assert (sequence.ids == processor.audio_token_id).sum() == 7
    about_text = {chat.turns[0][0] for chat in itertools.islice(written(2), 40)}
    for chat in itertools.islice(aligned([SCENE], 0), 40):
        assert chat.row == 0 and len(chat.turns) >= 2
        for asked, reply in chat.turns:
            reasons = "<think>" in reply or "<step>" in reply
            assert not reasons or asked in about_text, "reasoning over a written scene only"
    assert all(chat.row is None for chat in itertools.islice(written(0), 12))


def test_a_stage_learns(tiny_checkpoint, tmp_path):
    """A minute's worth of a stage on one chat drives its loss down, and logs it."""
    loaded, processor = language._load(tiny_checkpoint)
    chats = itertools.cycle([Chat((("Say it.", "<answer>a bell rings twice</answer>"),))])
    encode = Encoder(processor, lambda row: 0)
    row = language.train_stage(
        loaded, map(encode, chats), None, tmp_path / "log.jsonl", minutes=0.15, lr=3e-3, tokens=256
    )
    assert row["loss"] < 6.5 and (tmp_path / "log.jsonl").read_text().count("\n") >= 1


def test_ctranslate2_files_are_read(tmp_path):
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    head = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, 1)
    body = text("encoder/x") + struct.pack("<B2IBI", 2, 2, 3, 4, array.nbytes) + array.tobytes()
    (tmp_path / "model.bin").write_bytes(head + body)
    assert np.array_equal(read_ctranslate2(tmp_path / "model.bin")["encoder/x"], array)
    (tmp_path / "model.bin").write_bytes(struct.pack("<I", 5))
    with pytest.raises(ValueError, match="version 6"):
        read_ctranslate2(tmp_path / "model.bin")


def test_members_of_qt_resource_files_are_found(tmp_path):
    """A resource file with one folder and one file, put together as qtbase's rcc lays it out (version 1)."""

    def name(value: str) -> bytes:
        return struct.pack(">HI", len(value), 0) + value.encode("utf-16-be")

    names = name("a") + name("dog.ogg")
    root = struct.pack(">IHII", 0, 2, 1, 1)
    folder = struct.pack(">IHII", 0, 2, 1, 2)
    file = struct.pack(">IHHHI", len(name("a")), 0, 0, 0, 0)
    data = struct.pack(">I", 5) + b"bytes"
    tree_at, data_at = 20, 20 + 42
    blob = struct.pack(">4s4I", b"qres", 1, tree_at, data_at, data_at + len(data)) + root + folder + file + data + names
    (tmp_path / "sounds.rcc").write_bytes(blob)
    assert list(find(tmp_path, "*/sounds.rcc!dog*")) == [("sounds.rcc!dog.ogg", b"bytes")]
    assert list(find(tmp_path, "*/sounds.rcc!cat*")) == []


def test_batches_keep_every_sequence():
    rng = random.Random(0)
    from training.tiny.sequences import Sequence

    lengths = [rng.randint(5, 60) for _ in range(500)]
    made = (Sequence(np.full(n, i), np.zeros(n, bool), None) for i, n in enumerate(lengths))
    seen = [int(s.ids[0]) for batch in language._batches(made, 128) for s in batch]
    assert sorted(seen) == list(range(500))


def test_the_projection_starts_at_the_words(tiny_checkpoint, tmp_path):
    """A frame in which the tower tells two sounds apart comes out nearer to the name of the one that it holds."""
    loaded, processor = language._load(tiny_checkpoint)
    tower = loaded.model.audio_tower
    pooled = np.random.default_rng(0).normal(scale=0.05, size=(2, 150, tower.config.d_model)).astype(np.float32)
    pooled[:, 25:50, 3] += 1  # what the tower makes of a dog bark
    pooled[:, 75:112, 7] += 1  # and of a bell
    np.save(tmp_path / "pooled.npy", pooled)
    np.save(tmp_path / "frames.npy", np.array([600, 600]))
    lines = [json.dumps(dataclasses.asdict(SCENE)) + "\n"] * 2
    (tmp_path / "scenes.jsonl").write_text("".join(lines), encoding="utf-8")
    language.point_at_words(loaded, processor, tmp_path)
    embeddings = loaded.get_input_embeddings().weight.detach()
    dog, bell = (embeddings[processor.tokenizer(name).input_ids].mean(0) for name in ("dog bark", "bell"))
    with torch.no_grad():
        out = tower.proj(torch.from_numpy(pooled[0]))
    apart = out @ (dog - bell)
    assert apart[25:50].min() > apart[75:112].max()
