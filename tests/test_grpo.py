"""GRPO with audio: every pass hears, the tower runs once, and a resumed run goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from trl import GRPOTrainer

from mpar2.audio import SAMPLE_RATE
from mpar2.engines.checkpoint import load_checkpoint, load_processor
from mpar2.question import Event, Item, Question
from tests.conftest import make_clip
from training.audio_grpo import AudioGRPOTrainer, PerceptionTerm, grpo_config
from training.audio_inputs import AudioInjector, AudioNotUsedError, Clips, encode
from training.data import to_dataset
from training.prefix_sharing import can_share
from training.resample import replace_groups
from training.rewards.functions import AudioContrast, Schedule


def write_items(folder: Path, count: int = 6) -> list[Item]:
    made = []
    for i in range(count):
        path = folder / f"{i}.wav"
        soundfile.write(path, make_clip(0.8 + 0.2 * (i % 3), seed=i).samples, SAMPLE_RATE)
        question = Question(f"What comes first in number {i}?", ("dog bark", "bell"), "dog bark")
        made.append(Item(str(i), str(path), question, (Event("dog bark", 0.2, 1.0),), truth_origin="scene"))
    return made


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> list[Item]:
    return write_items(tmp_path_factory.mktemp("clips"))


@dataclass
class Spy:
    """A reward that varies with the completion, and remembers what it was shown."""

    ids: list[list[str]] = field(default_factory=list)
    at: list[int] = field(default_factory=list)  # steps done when asked
    __name__: str = "spy"

    def __call__(self, completions, completion_ids, id, trainer_state, **columns):
        self.ids.append(list(id))
        self.at.append(trainer_state.global_step)
        return [float(sum(ids) % 7) for ids in completion_ids]


def trainer(checkpoint: Path, items, folder: Path, reward=None, *, lora=True, tower=False, options=None, **more):
    loaded = load_checkpoint(str(checkpoint), device="cpu", dtype="float32")
    for name, weight in loaded.model.named_parameters():
        if not tower and ("audio_tower" in name or "multi_modal_projector" in name):
            weight.requires_grad_(False)
    peft = None
    if lora:
        from peft import LoraConfig

        parts = "(language_model|audio_tower)" if tower else "language_model"
        peft = LoraConfig(r=4, target_modules=rf".*{parts}.*(q|v)_proj", init_lora_weights=False)
    config = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 6,
        "max_steps": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": 1e-3,
        "beta": 0.0,
        "temperature": 1.0,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    } | (options or {})
    return AudioGRPOTrainer(
        loaded.model,
        processor=loaded.processor,
        reward_funcs=reward if isinstance(reward, list) else [reward or Spy()],
        args=grpo_config(**config),
        train_dataset=to_dataset(items, "mpar2"),
        peft_config=peft,
        **more,
    )


def prepared(made: AudioGRPOTrainer) -> dict:
    """One generation batch, as a step of training makes it."""
    made.model.train()
    made.current_gradient_accumulation_steps = 1  # which the training loop sets
    batch = next(iter(made.get_train_dataloader()))
    return made._generate_and_score_completions(batch)


def passed(made, model, output, frames=None):
    """Log-probabilities of the completions as the trainer computes them, or with other frames."""
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    seen = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    keep = output["completion_ids"].size(1)
    made._clip_numbers = output["clips"].tolist()
    with torch.no_grad():
        if frames is None:
            return made._get_per_token_logps_and_entropies(model, ids, seen, keep)[0]
        with made.injector.inject(model, made._clip_numbers, frames):
            return GRPOTrainer._get_per_token_logps_and_entropies(made, model, ids, seen, keep)[0]


def direct(made, output) -> torch.Tensor:
    """The slow obvious version: each row alone, with mel features, through the stock forward."""
    model, rows = made.model, []
    for i, number in enumerate(output["clips"].tolist()):
        mask = output["prompt_mask"][i].bool()
        ids = torch.cat([output["prompt_ids"][i][mask], output["completion_ids"][i]])[None]
        mel = made.clips.mel(number)
        with torch.no_grad():
            logits = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                input_features=mel.features,
                feature_attention_mask=mel.mask,
            ).logits[0]
        size = output["completion_ids"].size(1)
        logps = torch.log_softmax(logits[-size - 1 : -1] / made.temperature, dim=-1)
        rows.append(logps.gather(-1, ids[0, -size:, None])[:, 0])
    return torch.stack(rows)


@pytest.fixture(scope="module", params=["tiny_checkpoint", "qwen2_audio_checkpoint"])
def checkpoint(request) -> Path:
    return request.getfixturevalue(request.param)


# the contract with TRL -------------------------------------------------------------------------------------------


# hearing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [False, True], ids=["prompts once", "whole rows"])
def test_passes_equal_a_direct_forward_and_differ_from_silence(checkpoint, items, tmp_path, whole):
    made = trainer(checkpoint, items, tmp_path, options={"per_device_train_batch_size": 8})
    if whole:
        made.model.gradient_checkpointing_enable()
    assert can_share(made.accelerator, made.model) is not whole
    output = prepared(made)
    assert len(set(output["clips"].tolist())) == 2  # two prompts of different lengths, four rows each
    mask = output["completion_mask"].bool()
    heard = passed(made, made.model, output)
    assert torch.allclose(heard[mask], direct(made, output)[mask], atol=1e-5)
    silence = made.injector.silent_frames(made.model, made._clip_numbers)
    silent = passed(made, made.model, output, silence)
    assert float((heard - silent)[mask].abs().max()) > 1e-3


def test_chunks_give_what_the_whole_gives(tiny_checkpoint, items, tmp_path):
    made = trainer(tiny_checkpoint, items, tmp_path)
    output = prepared(made)
    ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
    seen = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
    made._clip_numbers = output["clips"].tolist()
    with torch.no_grad():
        size = output["completion_ids"].size(1)
        whole = made._get_per_token_logps_and_entropies(made.model, ids, seen, size)[0]
        parts = made._get_per_token_logps_and_entropies(made.model, ids, seen, size, batch_size=3)[0]
    mask = output["completion_mask"].bool()
    assert torch.allclose(whole[mask], parts[mask], atol=1e-5)


def test_a_prompt_read_once_gives_the_gradients_of_whole_rows(checkpoint, items, tmp_path):
    made = trainer(checkpoint, items, tmp_path, options={"per_device_train_batch_size": 8})
    output = prepared(made)

    def gradients() -> dict[str, torch.Tensor]:
        made.model.zero_grad()
        made._compute_loss(made.model, output).backward()
        return {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}

    once = gradients()
    made.model.gradient_checkpointing_enable()
    made.model.enable_input_require_grads()
    whole = gradients()
    assert once.keys() == whole.keys() and sum(float(g.abs().sum()) for g in whole.values()) > 0
    for name, gradient in whole.items():
        assert torch.allclose(once[name], gradient, atol=1e-5 + 1e-3 * float(gradient.abs().max())), name


@pytest.mark.parametrize(
    ("whole", "order"),
    [(False, (0, 0, 2, 2)), (False, (0, 1, 0, 2)), (True, (0, 0, 1, 2))],
    ids=["prompts shared", "prompts once", "whole rows"],
)
def test_generation_hears_its_clip(checkpoint, items, tmp_path, whole, order):
    """Greedy rollouts equal those of the stock model with mel features."""
    made = trainer(checkpoint, items, tmp_path)
    if whole:
        made.model.gradient_checkpointing_enable()
    for options in (made.generation_config, made.generation_kwargs):
        given = {"do_sample": False, "suppress_tokens": None}
        options.update(**given)
    prompts = [made.train_dataset[i]["prompt"] for i in order]
    ids, _, fields = made._tokenize_prompts(prompts)
    said, _ = made._generate_single_turn(ids, None, fields, 1)
    for i, number in enumerate(made._clip_numbers):
        mel = made.clips.mel(number)
        stock = made.model.generate(
            input_ids=torch.tensor([ids[i]]),
            attention_mask=torch.ones(1, len(ids[i]), dtype=torch.long),
            input_features=mel.features,
            feature_attention_mask=mel.mask,
            max_new_tokens=6,
            do_sample=False,
            repetition_penalty=1.0,
        )
        assert said[i] == stock[0, len(ids[i]) :].tolist()[: len(said[i])]
    assert made.model.config.get_text_config()._attn_implementation == "sdpa"  # the stock attention is back


# encode once -----------------------------------------------------------------------------------------------------


def test_a_frozen_tower_encodes_each_clip_once_in_a_run(tiny_checkpoint, items, tmp_path):
    options = {"max_steps": 6, "num_iterations": 2, "beta": 0.1, "gradient_accumulation_steps": 1}
    made = trainer(tiny_checkpoint, items[:2], tmp_path, options=options)
    calls = []
    tower = made.model.get_base_model().model.audio_tower
    tower.register_forward_hook(lambda *_: calls.append(1))
    made.train()
    assert made.injector.frozen and made.injector.encoded == 2
    assert len(calls) == 3  # two clips, and silence once for the check of hearing


def test_a_trained_tower_gets_gradients_and_still_encodes_each_clip_once_in_a_pass(tiny_checkpoint, items, tmp_path):
    made = trainer(tiny_checkpoint, items, tmp_path, tower=True)
    assert not made.injector.frozen
    output = prepared(made)
    before = made.injector.encoded
    made._compute_loss(made.model, output).backward()
    assert made.injector.encoded - before == len(set(output["clips"].tolist())) == 1
    touched = [n for n, p in made.model.named_parameters() if "audio_tower" in n and p.grad is not None]
    assert any(made.model.get_parameter(name).grad.abs().sum() > 0 for name in touched)


def test_kept_frames_give_the_same_as_new_ones(checkpoint, items):
    loaded = load_checkpoint(str(checkpoint), device="cpu", dtype="float32")
    clips = Clips(loaded.processor)
    numbers = [clips.number(item.audio) for item in items]
    injector = AudioInjector(clips, loaded.model.config.audio_token_id, frozen=True, keep_bytes=30_000)
    with torch.no_grad():
        first = injector.frames(loaded.model, numbers)
        again = injector.frames(loaded.model, [*numbers[::-1], numbers[0]])
        alone = encode(loaded.model, [clips.mel(numbers[2])])[0]
    assert torch.allclose(first[2], alone, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(first, again[-2::-1], strict=True))
    assert injector._bytes <= 30_000 or len(injector._kept) == 1


# guards ----------------------------------------------------------------------------------------------------------


def test_a_pass_without_placeholders_or_with_others_frames_is_an_error(tiny_checkpoint, items):
    loaded = load_checkpoint(str(tiny_checkpoint), device="cpu", dtype="float32")
    clips = Clips(loaded.processor)
    number = clips.number(items[0].audio)
    injector = AudioInjector(clips, loaded.model.config.audio_token_id, frozen=True)
    text = torch.tensor([[5, 6, 7, 8]])
    with pytest.raises(AudioNotUsedError, match="no audio placeholder"), injector.inject(loaded.model, [number]):
        loaded.model(input_ids=text)
    holes = torch.full((1, 7), loaded.model.config.audio_token_id)
    with pytest.raises(AudioNotUsedError, match="do not match"), injector.inject(loaded.model, [number]):
        loaded.model(input_ids=holes)
    with pytest.raises(AudioNotUsedError, match="without embedding"), injector.inject(loaded.model, [number]):
        pass


def test_a_policy_that_does_not_hear_is_not_trained(tiny_checkpoint, items, tmp_path):
    made = trainer(tiny_checkpoint, items, tmp_path)
    with torch.no_grad():
        for weight in made.model.get_base_model().model.audio_tower.proj.parameters():
            weight.zero_()
    with pytest.raises(AudioNotUsedError, match="the same of .* and of silence"):
        made.train()


def test_a_silent_clip_is_told_apart_from_a_broken_tower(tiny_checkpoint, tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
    item = Item("s", str(path), Question("What?", ("dog bark", "bell"), "bell"))
    with pytest.raises(AudioNotUsedError, match="is the clip itself silent"):
        trainer(tiny_checkpoint, [item], tmp_path).train()


def test_rollouts_that_trl_cannot_make_hear_are_refused(tiny_checkpoint, items, tmp_path):
    with pytest.raises(ValueError, match="transformers' generate"):
        trainer(tiny_checkpoint, items, tmp_path, options={"use_transformers_continuous_batching": True})


def test_placeholders_are_never_sampled(checkpoint, items, tmp_path):
    made = trainer(checkpoint, items, tmp_path)
    assert made.model.config.audio_token_id in made.generation_config.suppress_tokens


# logs, PAPO, resume ----------------------------------------------------------------------------------------------


def test_every_step_logs_rewards_groups_and_attention(tiny_checkpoint, items, tmp_path):
    def flat(completions, **columns):
        return [0.0] * len(completions)

    def half(completions, **columns):
        return [None if i % 2 else 1.0 for i in range(len(completions))]

    loaded = trainer(tiny_checkpoint, items, tmp_path, flat, watch_attention_every=1, options={"max_steps": 2})
    loaded.train()
    for line in [line for line in loaded.state.log_history if "reward" in line]:
        assert line["rewards/flat/zero_variance_groups"] == line["rewards/flat/zero_groups"] == 1.0
        assert line["frac_reward_zero_std"] == 1.0
        assert 0 < line["audio_attention/ratio"] < 1 and line["audio_attention/corrected"] > 0
        assert {"entropy", "completions/mean_length", "rewards/flat/mean", "rewards/flat/std"} <= set(line)
    missing = trainer(tiny_checkpoint, items, tmp_path, half)
    missing.train()
    assert missing.state.log_history[0]["rewards/half/unscored"] == 0.5
    assert missing.state.log_history[0]["rewards/half/mean"] == 1.0


def test_papo_raises_the_divergence_from_masked_audio(tiny_checkpoint, items, tmp_path):
    """The term alone, on one batch: steps along its gradient widen the gap between clip and masked clip."""
    made = trainer(tiny_checkpoint, items, tmp_path, perception_term=PerceptionTerm(weight=1.0))
    output = prepared(made) | {"advantages": torch.zeros(4)}
    optimizer = torch.optim.SGD([p for p in made.model.parameters() if p.requires_grad], lr=0.05)
    values = []
    for _ in range(4):
        optimizer.zero_grad()
        made._compute_loss(made.model, output).backward()
        optimizer.step()
        values.append(made._metrics["train"]["perception_divergence"][-1])
    assert values[-1] > values[0] > 0


def test_a_resumed_run_sees_what_the_whole_run_saw(tiny_checkpoint, items, tmp_path):
    """Stopped between two generations (each serves two steps), which TRL alone would get wrong."""
    options = {
        "max_steps": 6,
        "steps_per_generation": 2,
        "per_device_train_batch_size": 2,
        "num_generations": 2,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    whole = Spy()
    trainer(tiny_checkpoint, items, tmp_path / "whole", whole, options=options).train()
    resumed = Spy()
    again = trainer(tiny_checkpoint, items, tmp_path / "whole", resumed, options=options)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert whole.at == [0, 2, 4]
    # Step 3 uses the second slice of the second generation, which is made again after the resume.
    assert resumed.at == [3, 4] and resumed.ids == whole.ids[1:]


def test_the_reference_of_an_adapter_that_goes_on_hears_too(tiny_checkpoint, items, tmp_path):
    made = trainer(tiny_checkpoint, items, tmp_path, options={"beta": 0.1, "max_steps": 1})
    output = prepared(made)
    assert torch.isfinite(output["ref_per_token_logps"]).all()
    with made.model.disable_adapter():
        base = passed(made, made.model, output)
    mask = output["completion_mask"].bool()
    assert torch.allclose(output["ref_per_token_logps"][mask], base[mask], atol=1e-5)


def test_clips_are_numbered_once(tiny_checkpoint, items):
    clips = Clips(load_processor(str(tiny_checkpoint)), keep=1)
    first = clips.number(items[0].audio)
    assert clips.number(items[0].audio) == first and clips.path(first) == items[0].audio
    one, two = clips.mel(first), clips.mel(clips.number(items[1].audio))
    assert one.positions == 20 and two.positions == 25
    assert torch.equal(clips.mel(first).features, one.features)


def test_the_contrast_is_the_gain_of_the_clip_over_silence(checkpoint, items, tmp_path):
    """Paid by the real trainer: mean log-probability with the clip less that with silence, within bounds."""
    seen: list[list[float]] = []

    class Kept(AudioContrast):
        def __call__(self, *args, **columns):
            seen.append(super().__call__(*args, **columns))
            return seen[-1]

    options = {"per_device_train_batch_size": 8, "beta": 0.1}
    made = trainer(checkpoint, items, tmp_path, Kept(most=0.5), options=options)
    output = prepared(made)
    mask = output["completion_mask"]
    heard = passed(made, made.model, output)
    silent = passed(made, made.model, output, made.injector.silent_frames(made.model, made._clip_numbers))
    gain = ((heard - silent) * mask).sum(1) / mask.sum(1)
    assert torch.allclose(torch.tensor(seen[0]), (gain / 0.5).clamp(-1, 1), atol=1e-4) and len(set(seen[0])) > 2
    made._compute_loss(made.model, output).backward()
    assert sum(float(p.grad.abs().sum()) for p in made.model.parameters() if p.grad is not None) > 0


def test_scheduled_weights_follow_the_step(tiny_checkpoint, items, tmp_path):
    schedule = Schedule(((0, 1.0), (2, 0.0)))
    made = trainer(tiny_checkpoint, items, tmp_path, options={"max_steps": 3}, schedules={0: schedule})
    made.train()
    lines = [line for line in made.state.log_history if "reward" in line]
    assert [line["rewards/Spy/weight"] for line in lines] == [1.0, 0.5, 0.0]
    for line in lines:
        assert line["reward"] == pytest.approx(line["rewards/Spy/weight"] * line["rewards/Spy/mean"], abs=1e-5)


def test_clips_of_the_next_batch_are_decoded_while_this_one_is_generated(tiny_checkpoint, items, tmp_path):
    """The second batch's clip is asked for before the first one has its completions, and decoded once."""
    made = trainer(tiny_checkpoint, items, tmp_path, options={"max_steps": 2})
    events: list[str] = []
    load, generate = made.clips._load, made._generate_single_turn
    made.clips._load = lambda number: events.append(made.clips.path(number)) or load(number)
    made._generate_single_turn = lambda *args, **options: events.append("generate") or generate(*args, **options)
    made.train()
    loaded = [event for event in events if event != "generate"]
    assert len(loaded) == len(set(loaded)) >= 2 and events[:3].count("generate") <= 1
    assert events.index(loaded[1]) < [i for i, event in enumerate(events) if event == "generate"][1]


# variants --------------------------------------------------------------------------------------------------------


def test_groups_without_variance_are_replaced(tiny_checkpoint, items, tmp_path):
    """Only one item earns rewards that differ: with resampling its groups fill the batch."""

    def one_item(completions, completion_ids, id, **columns):
        values = [float(sum(ids) % 7) for ids in completion_ids]
        return [value if name == items[0].id else 1.0 for value, name in zip(values, id, strict=True)]

    options = {"per_device_train_batch_size": 8, "num_generations": 4}
    plain = prepared(trainer(tiny_checkpoint, items, tmp_path, one_item, options=options))
    made = trainer(tiny_checkpoint, items[:3], tmp_path, one_item, options=options, resample_rounds=12)
    output = prepared(made)
    assert (plain["advantages"].view(2, 4) == 0).all(dim=1).any()
    assert not (output["advantages"].view(2, 4) == 0).all(dim=1).any()
    assert output["clips"].tolist() == [made.clips.number(items[0].audio)] * 8
    assert int(output["num_items_in_batch"]) == int(output["completion_mask"].sum())
    made._compute_loss(made.model, output).backward()
    assert sum(float(p.grad.abs().sum()) for p in made.model.parameters() if p.grad is not None) > 0


def test_replaced_rows_keep_their_padding():
    def batch(width: int, first: int) -> dict[str, torch.Tensor]:
        ids = torch.arange(first, first + 4 * width).view(4, width)
        mask = torch.ones(4, width, dtype=torch.long)
        named = {"prompt_ids": ids, "prompt_mask": mask, "completion_ids": ids + 100, "completion_mask": mask}
        return named | {"advantages": torch.arange(first, first + 4.0), "num_items_in_batch": torch.tensor(4 * width)}

    merged = replace_groups(batch(2, 10), batch(3, 50), [1], [0], size=2, pad=0)
    assert merged["prompt_ids"].tolist() == [[0, 10, 11], [0, 12, 13], [50, 51, 52], [53, 54, 55]]
    assert merged["completion_ids"].tolist() == [[110, 111, 0], [112, 113, 0], [150, 151, 152], [153, 154, 155]]
    assert merged["completion_mask"].tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert merged["advantages"].tolist() == [10, 11, 50, 51]
