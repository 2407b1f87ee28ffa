"""How the tiny pair is trained: the fast paths give the numbers of the stock model, and only replies are learnt."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import re
import struct

import numpy as np
import pytest
import torch

from mpar2.engines.processor import AudioProcessor
from mpar2.prompts import build_messages
from mpar2.question import Question
from mpar2.trace import is_wellformed, parse_trace
from training.scenes.packages import find
from training.scenes.scene import Scene, SceneEvent
from training.small.ears import compare_towers
from training.tiny import codes, language
from training.tiny.build import build_checkpoint, look_back
from training.tiny.codes import LABELS, frame_codes, read_codes, simulated
from training.tiny.features import mel_features
from training.tiny.sequences import (
    Chat,
    Encoder,
    aligned,
    cold_start,
    copied,
    imagined,
    rendered,
    stepped,
    written,
)
from training.tiny.tower import (
    HEAD,
    average,
    frame_labels,
    from_checkpoint,
    loss_of,
    lower_layers,
    make_tower,
    tower_forward,
    train,
    upper_layers,
)
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


def test_labels_and_codes_name_the_event_in_front():
    over = SceneEvent("siren", 1.4, 5.0, -16.0, "z")
    scene = dataclasses.replace(SCENE, events=(SCENE.events[0], over, SCENE.events[1]))
    labels, said = frame_labels(scene, 150), codes.columns_of(frame_codes(scene, 150))
    dog, siren, bell = (LABELS.index(name) for name in ("dog bark", "siren", "bell"))
    n = len(LABELS)
    assert labels.shape == (150, n + 2)
    assert labels[:, dog].nonzero()[0].tolist() == list(range(25, 50))
    assert [labels[frame, n:].tolist() for frame in (30, 40, 80)] == [[dog, 0], [siren, 1], [bell, 2]]
    assert labels[120, n] == siren and labels[120, dog] == 0, "the longer one comes back"
    assert labels[0, n:].tolist() == [n, -100]
    for frame in (30, 40, 80, 120):
        assert (
            said["event"][frame].argmax() == labels[frame, n]
            and said["ordinal"][frame].argmax() == labels[frame, n + 1]
        )
    assert said["others"][40].nonzero()[0].tolist() == [dog] and said["others"][80].nonzero()[0].tolist() == [siren]
    assert said["most"][40].tolist() == [1, 1] and said["most"][80].tolist() == [0, 0]
    assert not any(part[0].any() for part in said.values()), "silence says nothing"


def test_codes_are_read_back_as_events_clean_or_as_a_tower_would_say_them():
    assert read_codes(frame_codes(SCENE, 150)) == [("dog bark", 1.0, 2.0), ("bell", 3.0, 4.5)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = read_codes(simulated(SCENE, 150, rng))
        assert [label for label, *_ in found] == ["dog bark", "bell"]
        assert np.allclose([times for _, *times in found], [[1.0, 2.0], [3.0, 4.5]], atol=0.4)


def test_codes_in_a_models_words_say_the_same_and_lie_along_them(tmp_path):
    """The words' rows are the words' directions; a tower put in says in the new rows what it said in the old ones."""
    from safetensors.torch import save_file

    sizes = len(LABELS), codes.MOST_EVENTS
    classes, digits = (np.random.default_rng(0).standard_normal((n, codes.WIDTH)) for n in sizes)
    basis = codes.basis_in_words(classes, digits)
    own = classes - classes.mean(0)
    cosines = (basis[: len(own)] * own).sum(1)
    cosines /= np.linalg.norm(basis[: len(own)], axis=1) * np.linalg.norm(own, axis=1)
    assert np.allclose(cosines, 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(basis, axis=1), np.linalg.norm(codes.BASIS, axis=1), atol=1e-5)
    tower = make_tower()
    save_file({f"tower.{name}": value for name, value in tower.state_dict().items()}, tmp_path / "tower.safetensors")
    turned = language.load_tower(tmp_path / "tower.safetensors", basis)
    hidden = torch.randn(7, tower.config.d_model)
    with torch.no_grad():
        said = tower.proj(hidden).numpy() @ np.linalg.pinv(codes.BASIS)
        assert np.allclose(turned.proj(hidden).numpy(), said @ basis, atol=1e-4)


def test_towers_are_trained_from_one_and_averaged(tmp_path):
    """Two short trainings go on from one; the mean of them is what is kept, and what the text model will hear."""
    from safetensors.torch import load_file

    for split in ("train", "validation"):
        folder = tmp_path / split
        folder.mkdir()
        mel = np.stack([mel_features(np.random.default_rng(n).normal(0, 0.1, 96_000)) for n in range(2)])
        np.save(folder / "mel.npy", mel.astype(np.float16))
        np.save(folder / "frames.npy", np.array([600, 600]))
        (folder / "scenes.jsonl").write_text(2 * (json.dumps(dataclasses.asdict(SCENE)) + "\n"))
    options = {"whisper": None, "frozen": 2, "minutes": 0.01, "lr": 1e-4, "batch": 2}
    train(tmp_path, tmp_path / "0", **options)
    start = tmp_path / "0" / "tower.safetensors"
    for seed in (1, 2):
        train(tmp_path, tmp_path / str(seed), start=start, seed=seed, **options)
    towers = [tmp_path / str(seed) / "tower.safetensors" for seed in (1, 2)]
    scores = average(tmp_path, towers, tmp_path / "mean")
    kept, one, two = (load_file(path) for path in (tmp_path / "mean" / "tower.safetensors", *towers))
    name = "tower.proj.weight"
    assert not torch.equal(one[name], two[name]) and torch.allclose(kept[name], (one[name] + two[name]) / 2)
    assert torch.equal(one["tower.layers.0.fc1.weight"], two["tower.layers.0.fc1.weight"]), "frozen layers stay"
    heard = np.load(tmp_path / "train" / "pooled.npy")
    assert heard.shape == (2, 250, 384) and heard[:, :150].any() and not heard[:, 150:].any()
    assert 0 <= scores["validation"]["event_f1"] <= 1
    begun = load_file(from_checkpoint(tmp_path / "mean", tmp_path / "start.safetensors", tmp_path))
    assert torch.equal(begun["tower.layers.4.fc1.weight"], kept["tower.layers.4.fc1.weight"])
    tower = make_tower()
    tower.load_state_dict({k.removeprefix("tower."): v for k, v in begun.items() if k.startswith("tower.")})
    (said,) = tower.proj(torch.from_numpy(heard[0, :150].astype(np.float32))[None])  # a regression to the codes
    wrong = said.detach().numpy() @ np.linalg.pinv(codes.BASIS) - codes.frame_codes(SCENE, 150)
    assert np.square(wrong).mean() < 0.5 * np.square(codes.frame_codes(SCENE, 150)).mean()
    table = compare_towers(tmp_path, {"one": tmp_path / "1"}, tmp_path / "ears.json", most=2)
    assert "all classes, 2 scenes" in table and "| one | " in table


def test_the_best_tower_has_the_least_loss():
    """Outputs that are the codes cost less than any shift of them."""
    said = torch.from_numpy(frame_codes(SCENE, 150))
    labels = torch.from_numpy(frame_labels(SCENE, 150)).long()
    outputs, logits = said @ torch.from_numpy(codes.BASIS), torch.zeros(150, sum(HEAD.values()))
    best = loss_of(outputs, logits, said, labels)
    torch.manual_seed(0)
    assert all(loss_of(outputs + 0.1 * torch.randn_like(outputs), logits, said, labels) > best for _ in range(5))


def test_language_training_sees_what_the_whole_model_sees(model, tiny_checkpoint):
    """Logits over kept tower outputs equal the stock forward from features: positions and placement agree."""
    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    rng = np.random.default_rng(0)
    samples = [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (32000, 48000)]
    counts = [len(s) // 160 // 4 for s in samples]
    rows = [mel_features(clip) for clip in samples]
    frames = torch.tensor([4 * n for n in counts])
    mel = torch.from_numpy(np.stack(rows))
    with torch.no_grad():
        tower = model.model.audio_tower
        pooled = [clip.numpy() for clip in upper_layers(tower, *lower_layers(tower, mel, frames, 0), 0).split(counts)]
        encode = Encoder(processor, codes.BASIS, pooled.__getitem__)
        turns = (("What is heard?", "<answer>a bell</answer>"),)
        sequences = [encode(Chat(turns, (SCENE, row))) for row in range(2)]
        ours, targets = language.forward(model, sequences, 0.0)
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
    sequence = Encoder(processor, codes.BASIS, lambda row: np.zeros((1, 8)))(
        Chat(((prompt_text(question, "mpar2"), "x"),), (SCENE, 0))
    )
    asked = processor.apply_chat_template(build_messages(question, "mpar2"), add_generation_prompt=True, tokenize=False)
    assert processor.tokenizer(asked).input_ids == sequence.ids[~sequence.learn].tolist()


def test_only_replies_are_learnt_and_cold_start_chains_are_whole(tiny_checkpoint):
    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    encode = Encoder(processor, codes.BASIS, lambda row: np.zeros((7, 8)))
    for chat in itertools.islice(cold_start(rendered([SCENE], 0), 0), 12):
        sequence = encode(chat)
        reply = processor.tokenizer.decode(sequence.ids[sequence.learn])
        assert reply == "".join(f"{said}<|im_end|>" for _, said in chat.turns)
        assert is_wellformed(parse_trace(chat.turns[0][1]))
        for _, said in chat.turns[1:]:  # perceived once: what follows it up reasons on
            assert said.startswith("<step>") and said.endswith("</answer>") and "<perception>" not in said
        assert (sequence.ids == processor.audio_token_id).sum() == 7
    about_text = {chat.turns[0][0] for chat in itertools.islice(written(2), 40)}
    for chat in itertools.islice(aligned(rendered([SCENE], 0), 0), 40):
        assert chat.heard == (SCENE, 0) and len(chat.turns) >= 2
        for asked, reply in chat.turns:
            reasons = "<think>" in reply or "<step>" in reply
            assert not reasons or asked in about_text, "reasoning over a written scene only"
    assert all(chat.heard is None for chat in itertools.islice(written(0), 12))
    for chat in (*itertools.islice(copied(0), 40), *itertools.islice(stepped(0), 40)):
        told = chat.turns[0][0].split("\n")[0]
        for asked, reply in chat.turns:
            sounds = re.findall(r"(?:\d: )?[a-z ]+ \d\.\d-\d+\.\d s", reply)
            assert all(sound in told for sound in sounds), (told, reply)
            assert sounds or "Where" not in asked, (asked, reply)


_BY_NAME = re.compile(
    r"<ask>(?:When do(?:es)?|Where (?:is|are)) the (?!middle)([a-z ]+?)(?: start)?\?</ask><hear>([^<]+)"
)


def test_a_step_says_name_first_what_it_asks_for_by_name():
    replies = [reply for chat in itertools.islice(stepped(1), 60) for _, reply in chat.turns]
    found = [pair for reply in replies for pair in _BY_NAME.findall(reply)]
    assert len(found) > 40
    assert all(re.match(rf"(an? )?{name} \d", heard) for name, heard in found), found


def test_heads_that_look_back_look_at_the_tokens_just_before(tmp_path):
    folder = build_checkpoint(tmp_path / "fresh", ["a bell rings twice, then a dog barks"] * 20, small=True)
    loaded, _ = language._load(folder)
    text = loaded.model.language_model
    look_back(text)
    loaded.set_attn_implementation("eager")
    ids = torch.randint(20, 200, (1, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = text(input_ids=ids, output_attentions=True).attentions[0][0]  # (heads, T, T)
    for head in range(4):
        assert seen[head, 12:].argmax(-1).tolist() == [at - head - 1 for at in range(12, 24)]


def test_imagined_scenes_are_heard_as_codes(tiny_checkpoint):
    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    encode = Encoder(processor, codes.BASIS)
    for chat in itertools.islice(aligned(imagined(0), 0), 4):
        sequence = encode(chat)
        scene, row = chat.heard
        assert row is None and sequence.pooled is None
        assert sequence.codes.shape == (int(scene.seconds * 25 + 1e-6), codes.WIDTH)
        assert (sequence.ids == processor.audio_token_id).sum() == len(sequence.codes)


def test_a_batch_may_mix_what_is_rendered_imagined_and_written(model, tiny_checkpoint):
    """Each row gets its own audio: a row's logits do not depend on what stands beside it."""
    processor = AudioProcessor.from_pretrained(tiny_checkpoint)
    width = model.get_input_embeddings().weight.shape[1]
    basis = np.random.default_rng(0).standard_normal((sum(codes.PARTS.values()), width)).astype(np.float32)
    kept = np.random.default_rng(0).standard_normal((30, model.model.audio_tower.config.d_model)).astype(np.float32)
    encode = Encoder(processor, basis, lambda row: kept)
    turns = (("What is heard?", "<answer>a bell</answer>"),)
    batch = [encode(Chat(turns, heard)) for heard in ((SCENE, 0), None, (SCENE, None))]
    with torch.no_grad():
        together, _ = language.forward(model, batch, 0.0)
        alone = torch.cat([language.forward(model, [sequence], 0.0)[0] for sequence in batch])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_a_stage_learns(tiny_checkpoint, tmp_path):
    """A minute's worth of a stage on one chat drives its loss down, and logs it."""
    loaded, processor = language._load(tiny_checkpoint)
    chats = itertools.cycle([Chat((("Say it.", "<answer>a bell rings twice</answer>"),))])
    encode = Encoder(processor, codes.BASIS)
    row = language.train_stage(loaded, map(encode, chats), tmp_path / "log.jsonl", minutes=0.15, lr=3e-3, tokens=256)
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
    made = (Sequence(np.full(n, i), np.zeros(n, bool)) for i, n in enumerate(lengths))
    seen = [int(s.ids[0]) for batch in language._batches(made, 128) for s in batch]
    assert sorted(seen) == list(range(500))
