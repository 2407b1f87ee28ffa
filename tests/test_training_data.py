"""Training data, recipes and the command: counted filters, cards, and that every recipe runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file

import training.data
import training.recipe
from mpar2.audio import SAMPLE_RATE
from mpar2.prompts import PromptError
from mpar2.question import Event, Item, Question, item_to_json
from tests.conftest import make_clip
from training.__main__ import main
from training.data import (
    build_corpus,
    completion_of,
    filter_by_pass_rate,
    filter_text_only_solvable,
    recordings_of,
    save_corpus,
    to_dataset,
)
from training.memory import MODELS, needs, table
from training.recipe import RecipeError, load_recipe, recipe_names, variants
from training.rewards import ReferenceScorer, make_rewards
from training.run import _common, corpus_of, train
from training.smoke import smoke_test_recipe
from training.sources import SourceError, read_source


def write(folder: Path, items: list[Item]) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text("".join(json.dumps(item_to_json(item)) + "\n" for item in items))
    return {"kind": "jsonl", "data": str(folder)}


def sound(path: Path, seed: int = 0, seconds: float = 0.5) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, make_clip(seconds, seed=seed).samples, SAMPLE_RATE)
    return path.name


def item(id: str, audio: str, answer: str | None = "dog", **known) -> Item:
    return Item(id, audio, Question(f"What in {known.pop('text', id)}?", ("dog", "cat"), answer), **known)


# filters ---------------------------------------------------------------------------------------------------------


def test_filters_are_counted_one_by_one(tmp_path):
    folder = tmp_path / "data"
    good, other, silent = sound(folder / "a.wav", 1), sound(folder / "b.wav", 2), "silent.wav"
    (folder / "broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEjunk")
    soundfile.write(folder / silent, np.zeros(8000), SAMPLE_RATE)
    spec = write(
        folder,
        [
            item("good", good),
            item("missing", "nowhere.wav"),
            item("broken", "broken.wav"),
            item("silent", silent),
            item("unanswered", good, None, text="u"),
            item("elsewhere", good, "horse", text="e"),
            item("twice", good, text="good"),
            item("held", other, extra={"sources": ["package/dog.wav"]}),
            item("fine", other, text="fine"),
        ],
    )
    corpus = build_corpus([spec], decode=True, held_out=["recording:package/dog.wav"])
    assert [(s.name, s.before - s.after, s.first) for s in corpus.steps] == [
        ("audio", 1, "missing"),
        ("decodes", 2, "broken"),
        ("answer", 1, "unanswered"),
        ("choices", 1, "elsewhere"),
        ("duplicate", 1, "twice"),
        ("held_out", 1, "held"),
    ]
    assert [i.id for i in corpus.items] == ["good", "fine"]
    assert "held_out: 3 -> 2 (1 taken, first: held)" in corpus.report()


def test_no_recording_of_an_evaluation_is_trained_on(tmp_path):
    folder = tmp_path / "train"
    same, own = sound(folder / "same.wav", 1), sound(folder / "own.wav", 2)
    train_spec = write(folder, [item("same", same), item("own", own)])
    sound(tmp_path / "test" / "other-name.wav", 1)
    test_spec = write(tmp_path / "test", [item("t", "other-name.wav", extra={"sources": ["synth:beep"]})])
    held = recordings_of([test_spec])
    assert not any("synth" in name for name in held)  # a synthesiser is in both by design
    assert [i.id for i in build_corpus([train_spec], held_out=held).items] == ["own"]


def test_an_empty_result_says_which_filter_took_everything(tmp_path):
    spec = write(tmp_path, [item("missing", "nowhere.wav")])
    with pytest.raises(ValueError, match="audio: 1 -> 0"):
        build_corpus([spec])


def test_equal_seeds_shuffle_equally(tmp_path):
    spec = write(tmp_path, [item(str(i), sound(tmp_path / f"{i}.wav", i, 0.2)) for i in range(8)])
    orders = [[i.id for i in build_corpus([spec], shuffle_seed=seed).items] for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_what_a_model_answers_in_silence_needs_no_ears(tmp_path, tiny_checkpoint):
    items = [item(str(i), sound(tmp_path / f"{i}.wav", i, 0.2)) for i in range(2)]
    assert filter_text_only_solvable(items, str(tiny_checkpoint)) == items  # random weights answer nothing
    assert build_corpus([write(tmp_path, items)], more=[("guessable", lambda rows: rows[:1])]).steps[-1].after == 1


def test_items_are_kept_and_ordered_by_how_often_a_policy_is_right(tmp_path, tiny_checkpoint, monkeypatch):
    """The engine is asked for real; how right its answers count is set here, since random weights answer nothing."""
    source = write(tmp_path, [item(str(i), sound(tmp_path / f"{i}.wav", i)) for i in range(3)])
    items = read_source(source).items
    assert [i.extra["pass_rate"] for i in filter_by_pass_rate(items, str(tiny_checkpoint), samples=2)] == [0, 0, 0]
    assert filter_by_pass_rate(items, str(tiny_checkpoint), samples=1, keep=(0.1, 0.9)) == []
    monkeypatch.setattr(training.data, "_right_answers", lambda rows, *a, **k: [0.25, 1.0, 0.75][: len(rows)])
    rates = {"model": "tiny-base", "keep": [0.1, 0.9]}
    spec = yaml.safe_dump({"sources": [source], "pass_rate": rates}, default_flow_style=True).strip()
    made = corpus_of(load_recipe("tiny", ["order=easy_first", f"data={spec}"]))
    assert [i.extra["pass_rate"] for i in made.items] == [0.75, 0.25] and made.steps[-1].name == "pass_rate"
    with pytest.raises(RecipeError, match="not tries"):
        corpus_of(load_recipe("tiny", [f"data={spec}", "data.pass_rate.tries=3"]))
    with pytest.raises(ValueError, match="keep is"):
        filter_by_pass_rate(items, "tiny-base", keep=(0.9, 0.1))


# schema and cards ------------------------------------------------------------------------------------------------


def test_rows_carry_paths_truth_and_the_completion_of_their_mode(tmp_path):
    audio = str(tmp_path / sound(tmp_path / "a.wav"))
    with_chain = item("a", audio, events=(Event("dog bark", 0.1, 0.4),), extra={"completions": {"mpar2": "<answer>"}})
    bare = item("b", audio)
    row = to_dataset([with_chain, bare], "mpar2")[0]
    assert row["prompt"][0]["content"][0]["path"] == audio and "<perception>" in row["prompt"][0]["content"][1]["text"]
    assert row["events"] == [{"label": "dog bark", "onset_s": 0.1, "offset_s": 0.4}]
    assert to_dataset([with_chain, bare], "mpar2", completions=True)["id"] == ["a"]
    assert completion_of(bare, "direct") == "<answer>dog</answer>" and completion_of(bare, "cot") is None
    with pytest.raises(ValueError, match="build the cold start"):
        to_dataset([bare], "cot", completions=True)


def test_a_card_tells_sources_steps_and_recordings(tmp_path):
    spec = write(tmp_path / "in", [item("a", sound(tmp_path / "in" / "a.wav"), extra={"sources": ["p/x.wav"]})])
    corpus = build_corpus([spec], shuffle_seed=5)
    file = save_corpus(corpus, tmp_path / "out", split="train")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["items"] == 1 and card["seed"] == 5 and card["recordings"] == ["p/x.wav"]
    assert card["sources"][0]["fingerprint"] and card["steps"][0]["name"] == "audio" and card["prompt_hashes"]["mpar2"]
    again = read_source({"kind": "jsonl", "data": str(file)})
    assert [i.id for i in again.items] == ["a"] and Path(again.items[0].audio).is_absolute()


def test_sources_say_what_is_wrong(tmp_path):
    for spec, message in (
        ({"kind": "csv", "data": "x"}, "kind 'csv'"),
        ({"kind": "jsonl"}, "'data' is missing"),
        ({"kind": "jsonl", "data": "x", "colour": 1}, "unknown keys colour"),
    ):
        with pytest.raises(SourceError, match=message):
            read_source(spec)


def test_avqa_lines_become_rows(tmp_path):
    line = {"id": 7, "question_text": "What is in the video?", "multi_choice": ["dog", "cat"], "answer": 1}
    (tmp_path / "avqa.jsonl").write_text(json.dumps(line | {"audio_path": sound(tmp_path / "a.wav")}) + "\n")
    (only,) = build_corpus([{"kind": "avqa", "data": str(tmp_path / "avqa.jsonl")}]).items
    assert only.question.text == "What is in the audio?" and only.question.answer == "cat"


def test_letters_and_long_clips_are_counted_steps(tmp_path):
    row = {"question": "What is it?", "choices": ["dog", "cat"], "source_dataset": "x"}
    lines = [row | {"id": str(i), "audio_path": sound(tmp_path / f"{i}.wav", i, 1.0 + i)} for i in range(3)]
    for line, answer in zip(lines, ("dog", "B", "cat"), strict=True):
        line["answer"] = answer
    (tmp_path / "mcq.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = {"kind": "audiomcq", "data": str(tmp_path / "mcq.jsonl")}
    corpus = build_corpus([spec], longest_s=1.5)
    assert [i.question.answer for i in corpus.items] == ["dog", "cat", "cat"]
    assert str(corpus.steps[0]) == "letters: 3 -> 3 (1 changed, first: 1)"
    assert str(corpus.steps[-1]) == "cut: 3 -> 3 (2 changed, first: 1)"
    assert corpus.steps[-1].as_json()["changed"] == 2 and "changed" not in corpus.steps[1].as_json()
    dropped = build_corpus([spec], longest_s=1.5, drop_longer=True)
    assert [i.id for i in dropped.items] == ["0"] and str(dropped.steps[-1]).startswith("longer: 3 -> 1 (2 taken")
    assert len(to_dataset(corpus.items, "direct", completions=True)) == 3


def test_tables_of_events_are_sources_with_exact_truth(tmp_path):
    sound(tmp_path / "audio" / "a.wav", 1, 2.0)
    (tmp_path / "strong.tsv").write_text("filename\tonset\toffset\tevent_label\na.wav\t0.2\t0.9\tDog\n")
    spec = {"kind": "events", "form": "desed", "data": str(tmp_path / "strong.tsv")}
    corpus = build_corpus([spec | {"audio_root": str(tmp_path / "audio")}], decode=True)
    row = to_dataset(corpus.items, "mpar2")[0]
    assert row["events"] == [{"label": "Dog", "onset_s": 0.2, "offset_s": 0.9}] and row["truth_origin"] == "human"
    reward = make_rewards({"perception": {}}, ReferenceScorer())[0][0]
    assert reward(["<perception>0.2-0.9 s a dog</perception>"], events=[row["events"]]) == [pytest.approx(1.0)]
    with pytest.raises(ValueError, match="choose one of desed"):
        read_source(spec | {"form": "csv"})


def test_hugging_face_tables_with_audio_inside_become_files(tmp_path):
    import datasets

    sound(tmp_path / "a.wav", 1)
    sound(tmp_path / "b.wav", 2)
    blobs = [{"bytes": (tmp_path / f"{n}.wav").read_bytes(), "path": f"{n}.wav"} for n in "ab"]
    table = datasets.Dataset.from_list(
        [{"q": "What?", "options": ["dog", "cat"], "label": i, "clip": blob} for i, blob in enumerate(blobs)]
    ).cast_column("clip", datasets.Audio(decode=False))
    table.save_to_disk(str(tmp_path / "table"))
    columns = {"question": "q", "choices": "options", "answer": "label", "audio": "clip"}
    spec = {"kind": "hf", "data": str(tmp_path / "table"), "cache": str(tmp_path / "cache"), "columns": columns}
    corpus = build_corpus([spec], decode=True)
    assert [i.question.answer for i in corpus.items] == ["dog", "cat"]
    with pytest.raises(SourceError, match="question -> question"):
        read_source(spec | {"columns": {}})


# recipes ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Path:
    """One small model for each family, made once."""
    return tmp_path_factory.mktemp("worlds")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_runs_two_steps(name, worlds, tmp_path):
    """GRPO of every recipe at smoke size: the same code and options as the real thing, on random weights."""
    recipe = load_recipe(name, ["smoke=true"])
    world = worlds / recipe.family
    world.mkdir(exist_ok=True)
    (tmp_path / "smoke").symlink_to(world)
    result = train("grpo", recipe, tmp_path)
    made = json.loads((tmp_path / "training.json").read_text())
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert result.name == "adapter" and (result / "adapter_model.safetensors").exists()
    assert {line["step"] for line in logged if "reward" in line} == {1, 2}
    assert made["training_scorer"] == ReferenceScorer().id != made["evaluation_scorer"]
    assert all(f"rewards/{reward}/mean" in logged[0] for reward in made["recipe"]["rewards"])
    steps = [line for line in logged if "reward" in line]
    assert all(line["grad_norm"] > 0 and line["reward_std"] > 0 for line in steps), "the weights were not updated"
    if made["recipe"]["grpo"].get("beta"):
        assert steps[1]["kl"] > 0, "after an update the policy differs from its reference"
    sheet = json.loads((tmp_path / "cost.json").read_text())
    parts = sum(sheet[f"{stage}_s"] for stage in ("rollout", "tower", "judge", "sync", "passes"))
    assert sheet["steps"] == 1 and sheet["step_s"] == pytest.approx(parts) and sheet["tokens_per_s"] > 0


@pytest.mark.parametrize("variant", sorted(variants()))
def test_every_variant_runs_two_steps(variant, worlds, tmp_path):
    (worlds / "qwen2_5_omni").mkdir(exist_ok=True)
    (tmp_path / "smoke").symlink_to(worlds / "qwen2_5_omni")
    train("grpo", load_recipe("tiny", ["smoke=true"], variant=variant), tmp_path)
    grpo = json.loads((tmp_path / "training.json").read_text())["recipe"]["grpo"]
    assert all(grpo[key] == value for key, value in variants()[variant]["grpo"].items())
    assert variants()[variant]["source"].count("arXiv")


def test_an_early_stop_keeps_the_best_checkpoint(worlds, tmp_path):
    (worlds / "qwen2_5_omni").mkdir(exist_ok=True)
    small = smoke_test_recipe(load_recipe("tiny"), worlds / "qwen2_5_omni")
    validation = {"validation": small.data["sources"]}
    options = {"max_steps": 8, "save_steps": 1, "learning_rate": 10.0}  # so large that the loss soon rises
    stop = {"metric": "eval_loss", "patience": 2}
    recipe = replace(small, smoke=False, data=small.data | validation, sft=small.sft | options, early_stop=stop)
    train("sft", recipe, tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["eval_loss"] for line in logged if "eval_loss" in line]
    assert len(losses) < 8 and losses[-1] > min(losses)
    best = tmp_path / f"checkpoint-{1 + losses.index(min(losses))}" / "adapter_model.safetensors"
    kept = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(weight, kept[name]) for name, weight in load_file(best).items())
    with pytest.raises(RecipeError, match="needs data.validation"):
        train("sft", replace(recipe, data=small.data), tmp_path / "without")


def test_trackers_are_one_option_of_both_methods(tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="report_to names 'mlflow': use wandb, tensorboard, trackio"):
        load_recipe("tiny", ["report_to=mlflow"])
    monkeypatch.setattr(training.recipe.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="trackio, which is not installed: pip install trackio"):
        load_recipe("tiny", ["report_to=[trackio]"])
    monkeypatch.setattr(training.recipe.importlib.util, "find_spec", lambda name: object())
    recipe = load_recipe("tiny", ["report_to=[wandb, trackio]"])
    for options in (recipe.sft, recipe.grpo):
        assert _common(recipe, tmp_path, options)["report_to"] == ["wandb", "trackio"]


def test_a_recipe_asks_in_the_words_that_it_names(tmp_path):
    question = item("a", sound(tmp_path / "a.wav"))
    asked = {}
    for name in ("r1-aqa", "r1-aqa-think", "sari"):
        recipe = load_recipe(name)
        row = to_dataset([question], recipe.mode, prompt=recipe.prompt)[0]
        asked[name] = row["prompt"][0]["content"][1]["text"]
    assert asked["r1-aqa"] == (
        "What in a? Please choose the answer from the following options: ['dog', 'cat']. "
        "Output the final answer in <answer> </answer>."
    )
    assert "<think> </think>" in asked["r1-aqa-think"] and "(A) dog" in asked["sari"]
    with pytest.raises(PromptError, match="no prompt 'theirs'"):
        load_recipe("tiny", ["prompt=theirs"])


@pytest.mark.parametrize("name", ["tiny", "qwen2-audio-7b", "tiny-r1-aqa-think"])
def test_sft_then_grpo_from_its_adapter(name, worlds, tmp_path):
    recipe = load_recipe(name, ["smoke=true"])
    world = worlds / recipe.family
    world.mkdir(exist_ok=True)
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "smoke").symlink_to(world)
    adapter = train("sft", recipe, tmp_path / "sft")
    small = smoke_test_recipe(recipe, world)
    follow = replace(small, smoke=False, adapter=str(adapter))
    result = train("grpo", follow, tmp_path / "grpo")
    assert (result / "adapter_model.safetensors").exists()
    from mpar2.engines.checkpoint import load_checkpoint

    assert load_checkpoint(small.model, str(result), device="cpu").adapters


def test_all_weights_can_be_trained_too(worlds, tmp_path):
    world = worlds / "qwen2_5_omni"
    world.mkdir(exist_ok=True)
    (tmp_path / "smoke").symlink_to(world)
    recipe = load_recipe("tiny", ["smoke=true", "lora=~", "train_tower=true"])
    assert recipe.lora is None
    result = train("grpo", recipe, tmp_path)
    assert result.name == "model" and (result / "model.safetensors").exists()


def test_a_folder_keeps_to_its_training(worlds, tmp_path):
    world = worlds / "qwen2_5_omni"
    world.mkdir(exist_ok=True)
    small = replace(smoke_test_recipe(load_recipe("tiny"), world), smoke=False)
    train("sft", small, tmp_path)
    with pytest.raises(RecipeError, match="add --resume"):
        train("sft", small, tmp_path)
    with pytest.raises(RecipeError, match=r"another training \(recipe.seed: 0, now 1"):
        train("sft", replace(small, seed=1), tmp_path, resume=True)
    longer = replace(small, sft=small.sft | {"max_steps": 3})
    train("sft", longer, tmp_path, resume=True)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert max(steps) == 3 and steps.count(1) == 1


def test_overrides_reach_every_depth():
    recipe = load_recipe("tiny", ["seed=3", "grpo.learning_rate=1e-6", "data.sources.0.data=x", "lora.r=4"])
    assert (recipe.seed, recipe.grpo["learning_rate"], recipe.lora["r"]) == (3, 1e-6, 4)
    assert recipe.data["sources"][0] == {"kind": "scenes", "data": "x"}
    assert load_recipe("ablation-no-step").rewards.keys() == {"format", "review", "perception"}
    assert load_recipe("ablation-soft-min").rewards["step"] == {
        "weight": 0.5,
        "aggregate": "soft_min",
        "temperature": 0.1,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", ["colour=red"]), "unknown keys colour"),
        (("tiny", ["seed"]), "write key=value"),
        (("tiny", ["data.sources.4.data=x"]), "no place in a list of 1"),
        (("tiny", ["mode=prose"]), "mode is 'prose'"),
        (("tiny", ["grpo.output_dir=x"]), "out=FOLDER"),
        (("tiny", ["data.colour=1"]), "data has unknown keys"),
        (("huge",), "no recipe 'huge'"),
    ],
)
def test_recipes_say_what_is_wrong(arguments, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(*arguments)


def test_what_the_paper_gives_stands_in_its_recipe():
    recipe = load_recipe("qwen2.5-omni-7b")
    assert recipe.grpo["num_generations"] == 8 and recipe.grpo["temperature"] == 1.0
    assert recipe.grpo["learning_rate"] == 1e-5 and recipe.grpo["gradient_accumulation_steps"] == 2
    assert recipe.scorer["model"] == "Qwen/Qwen3-32B" and recipe.rewards["step"]["aggregate"] == "geometric"
    for name in recipe_names():
        make_rewards(load_recipe(name).rewards, ReferenceScorer())


def test_the_command_lists_shows_and_explains(capsys):
    assert main(["recipes"]) == 0 and "MPAR² at tiny scale" in capsys.readouterr().out
    assert main(["show", "--recipe", "sari", "seed=2"]) == 0
    assert json.loads(capsys.readouterr().out)["order"] == "easy_first"
    assert main(["memory"]) == 0 and "Qwen2.5-Omni-7B" in capsys.readouterr().out
    assert main(["sft", "--recipe", "huge"]) == 2 and "no recipe 'huge'" in capsys.readouterr().err
    assert main(["sft", "--recipe", "tiny", "out=/nonexistent/x/y", "smoke=maybe", "mode=x"]) == 2


# scenes and memory -----------------------------------------------------------------------------------------------


def test_training_scenes_carry_chains_and_name_their_recordings(tmp_path):
    bank = tmp_path / "bank"
    rows = []
    for i, label in enumerate(("dog bark", "siren", "bell", "piano")):
        rows.append({"label": label, "split": "train", "source": f"pack/{label}", "file": f"{i}.wav", "seconds": 1.0})
        sound(bank / f"{i}.wav", i, 1.0)
    (bank / "bank.json").write_text(json.dumps(rows))
    assert main(["scenes", str(bank), str(tmp_path / "out"), "--count", "2"]) == 0
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    corpus = build_corpus([{"kind": "scenes", "data": str(tmp_path / "out")}], decode=True)
    assert card["items"] == len(corpus.items) > 0 and set(card["recordings"]) <= {row["source"] for row in rows}
    for mode in ("mpar2", "cot", "direct"):
        assert all(to_dataset(corpus.items, mode, completions=True)["completion"])
    from training.scene_items import write_scenes

    with pytest.raises(ValueError, match="never test"):
        write_scenes(bank, tmp_path / "no", "test", 1)


def test_the_table_of_memory_counts_the_real_models():
    """Shapes as published; the vision tower is part of what is loaded."""
    import torch
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    for model in MODELS[:2]:
        text = {
            "hidden_size": model.hidden,
            "num_hidden_layers": model.layers,
            "num_attention_heads": model.heads,
            "num_key_value_heads": model.kv_heads,
            "intermediate_size": model.intermediate,
            "vocab_size": model.vocabulary,
            "tie_word_embeddings": False,
        }
        config = Qwen2_5OmniThinkerConfig(
            text_config=text,
            audio_config={"output_dim": model.hidden},
            vision_config={"hidden_size": 1280, "out_hidden_size": model.hidden},
            tie_word_embeddings=False,
        )
        with torch.device("meta"):
            network = Qwen2_5OmniThinkerForConditionalGeneration(config)
        assert sum(weight.numel() for weight in network.parameters()) == model.parameters
        linear = [m for n, m in network.named_modules() if "language_model" in n and n.endswith("_proj")]
        assert sum(64 * (m.in_features + m.out_features) for m in linear) == model.adapter(64)


def test_memory_grows_with_rows_and_shrinks_with_gpus():
    seven = MODELS[1]
    assert needs(seven, "full", 8, sharded=True).total < needs(seven, "full", 4, sharded=True).total
    assert needs(seven, "lora", 1, sharded=False).training < 4 < needs(seven, "full", 1, sharded=False).training
    assert needs(seven, "lora", 1, sharded=False, rows=16).total > needs(seven, "lora", 1, sharded=False).total
    assert table().count("\n") == 1 + 4 * len(MODELS)
