"""SFT with audio: what is learnt, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
import torch

from mpar2.audio import SAMPLE_RATE
from mpar2.engines.checkpoint import load_checkpoint, load_processor
from mpar2.question import Event, Item, Question
from tests.conftest import make_clip
from training.audio_inputs import AudioNotUsedError, Clips
from training.audio_sft import AudioCollator, AudioSFTTrainer, sft_config
from training.data import to_dataset

REPLY = (
    "<perception>0.2-1.0 s a dog bark.</perception>\n<step><ask>What?</ask><hear>a dog bark</hear>"
    "<infer>it is first</infer></step>\n<review>A dog bark: heard.</review>\n<answer>dog bark</answer>"
)


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[Item]:
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for i in range(4):
        path = folder / f"{i}.wav"
        soundfile.write(path, make_clip(1.0 + 0.5 * i, seed=i).samples, SAMPLE_RATE)
        question = Question(f"What comes first in number {i}?", ("dog bark", "bell"), "dog bark")
        extra = {"completions": {"mpar2": REPLY, "cot": "<think>a dog</think><answer>dog bark</answer>"}}
        made.append(
            Item(str(i), str(path), question, (Event("dog bark", 0.2, 1.0),), truth_origin="scene", extra=extra)
        )
    return made


@pytest.fixture(scope="module", params=["tiny_checkpoint", "qwen2_audio_checkpoint"])
def checkpoint(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def collator(tiny_checkpoint) -> AudioCollator:
    processor = load_processor(str(tiny_checkpoint))
    return AudioCollator(processor, Clips(processor))


def rows(items):
    return list(to_dataset(items, "mpar2", completions=True))


def test_only_the_completion_and_its_end_are_learnt(collator, items):
    batch = collator(rows(items)[:2])
    tokenizer = collator._processor.tokenizer
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        learnt = labels[labels != -100]
        assert tokenizer.decode(learnt) == REPLY + "<|im_end|>"
        first = int((labels != -100).nonzero()[0])
        assert (labels[:first] == -100).all() and tokenizer.decode(ids[:first]).endswith("<|im_start|>assistant\n")
        assert (labels[mask == 0] == -100).all()


def test_a_batch_has_a_placeholder_for_each_frame(collator, items):
    batch = collator(rows(items))
    holes = (batch["input_ids"] == collator._processor.audio_token_id).sum(-1).tolist()
    assert holes == [25, 37, 50, 62]
    assert batch["input_features"].shape[0] == 4 and batch["feature_attention_mask"].sum(-1).tolist() == [
        100,
        150,
        200,
        250,
    ]


def test_the_collator_refuses_what_would_train_deaf(collator, items, tmp_path):
    row = rows(items)[0]
    no_audio = row | {"prompt": [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]}
    with pytest.raises(AudioNotUsedError, match="holds 0 clips"):
        collator([no_audio])
    with pytest.raises(AudioNotUsedError, match="completion contains the audio placeholder"):
        batch = collator([row])
        batch["labels"][batch["input_ids"] == collator._processor.audio_token_id] = 1
        collator.check(batch, [0], [25])
    with pytest.raises(AudioNotUsedError, match="do not match"):
        collator.check(batch, [0], [24])
    with pytest.raises(AudioNotUsedError, match="no audio features"):
        collator.check({key: value for key, value in batch.items() if key != "input_features"}, [0], [25])
    batch = collator([row])
    with pytest.raises(AudioNotUsedError, match="NaN"):
        collator.check(batch | {"input_features": batch["input_features"] * float("nan")}, [0], [25])
    with pytest.raises(ValueError, match="empty"):
        collator([row | {"completion": ""}])
    with pytest.raises(ValueError, match="limit is 20"):
        AudioCollator(collator._processor, collator._clips, max_tokens=20)([row])


def test_a_completion_with_the_placeholder_is_refused(collator, items):
    with pytest.raises(AudioNotUsedError):
        collator([rows(items)[0] | {"completion": "a dog <|AUDIO|>"}])


def test_a_chat_template_that_does_not_end_stops_the_training_in_words(tiny_checkpoint, monkeypatch):
    from mpar2.engines import chat
    from mpar2.engines.base import EngineError
    from training.audio_sft import prompt_ids

    processor = load_processor(str(tiny_checkpoint))
    processor.chat_template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    monkeypatch.setattr(chat, "_SECONDS", 0.3)
    with pytest.raises(EngineError, match="does not end"):
        prompt_ids(processor, [{"role": "user", "content": [{"type": "text", "text": "What?"}]}], 4)


def trainer(checkpoint: Path, items, folder: Path, **options) -> AudioSFTTrainer:
    loaded = load_checkpoint(str(checkpoint), device="cpu", dtype="float32")
    from peft import LoraConfig

    targets = r".*language_model.*(q|v)_proj"
    config = sft_config(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        max_steps=4,
        logging_steps=1,
        save_steps=2,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        lr_scheduler_type="constant",
        **options,
    )
    return AudioSFTTrainer(
        loaded.model,
        processor=loaded.processor,
        args=config,
        train_dataset=to_dataset(items, "mpar2", completions=True),
        peft_config=LoraConfig(r=4, target_modules=targets),
    )


def test_training_learns_the_completion_from_what_it_hears(checkpoint, items, tmp_path):
    made = trainer(checkpoint, items, tmp_path)
    batch = made.data_collator(rows(items)[:2])
    with torch.no_grad():
        clean = float(made.compute_loss(made.model, dict(batch)))
        silent = dict(batch) | {"input_features": torch.full_like(batch["input_features"], -1.5)}
        deaf = float(made.compute_loss(made.model, silent))
        logits = made.model(**{key: value for key, value in batch.items() if key != "labels"}).logits[:, :-1]
        labels = batch["labels"][:, 1:]
        direct = torch.nn.functional.cross_entropy(logits[labels != -100], labels[labels != -100])
    assert clean == pytest.approx(float(direct), abs=1e-4)
    assert clean != pytest.approx(deaf, abs=1e-6)
    made.train()
    losses = [line["loss"] for line in made.state.log_history if "loss" in line]
    assert losses[-1] < losses[0]


def test_a_batch_without_features_never_reaches_the_model(tiny_checkpoint, items, tmp_path):
    made = trainer(tiny_checkpoint, items, tmp_path)
    batch = made.data_collator(rows(items)[:2])
    del batch["input_features"]
    with pytest.raises(AudioNotUsedError, match="train deaf"):
        made.compute_loss(made.model, batch)


def test_options_that_drop_audio_are_refused():
    with pytest.raises(ValueError, match="max_length must be None"):
        sft_config(output_dir="x", max_length=512)
    with pytest.raises(ValueError, match="packing must be False"):
        sft_config(output_dir="x", packing=True)
