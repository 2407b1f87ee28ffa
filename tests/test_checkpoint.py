"""Loading: official layouts, adapters that fit and that do not, and what each kind of broken folder says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CORPUS, make_adapter, make_clip
from safetensors.torch import load_file, save_file

from mpar2.engines import names
from mpar2.engines.base import EngineError
from mpar2.engines.checkpoint import load_checkpoint, load_processor
from mpar2.engines.names import resolve, split_adapter
from mpar2.engines.processor import AudioProcessor
from training.tiny.build import SPECIAL_TOKENS, TRACE_TAGS, build_checkpoint

# The template of Qwen2.5-Omni's hub repository, for the messages that we send.
OFFICIAL = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|audio_bos|><|AUDIO|><|audio_eos|>What?<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def official_layout(tiny: Path, folder: Path) -> Path:
    """The tiny checkpoint as the hub repository of the whole Qwen2.5-Omni is laid out."""
    folder.mkdir()
    for file in tiny.iterdir():
        if file.name not in ("config.json", "model.safetensors", "processor_config.json"):
            shutil.copy(file, folder)
    thinker = json.loads((tiny / "config.json").read_text())
    whole = {"model_type": "qwen2_5_omni", "thinker_config": thinker, "enable_audio_output": True}
    (folder / "config.json").write_text(json.dumps(whole))
    weights = {f"thinker.{name}": weight for name, weight in load_file(tiny / "model.safetensors").items()}
    weights["talker.lm_head.weight"] = torch.zeros(4, 4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    extractor = json.loads((tiny / "processor_config.json").read_text())["feature_extractor"]
    extractor |= {"chunk_length": 300, "n_samples": 4_800_000, "nb_max_frames": 30_000, "patch_size": 14}
    extractor |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5OmniProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    return folder


def test_the_whole_omni_gives_its_thinker(tiny_checkpoint: Path, tmp_path: Path) -> None:
    whole = load_checkpoint(str(official_layout(tiny_checkpoint, tmp_path / "Qwen2.5-Omni-nano")), device="cpu")
    tiny = load_checkpoint(str(tiny_checkpoint), device="cpu")
    assert (whole.family.name, whole.name) == ("qwen2_5_omni", "Qwen2.5-Omni-nano")
    assert (whole.max_audio_seconds, tiny.max_audio_seconds) == (300.0, 30.0)
    ours, theirs = tiny.model.state_dict(), whole.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert whole.model.dtype == torch.float32 and not whole.model.training


def test_economical_padding_changes_no_valid_frame(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for folder in (tiny_checkpoint, official_layout(tiny_checkpoint, tmp_path / "whole")):
        processor = load_processor(str(folder))
        clips = [np.asarray(make_clip(s, i).samples) for i, s in enumerate((1.5, 0.33, 2.0001))]
        ours, _ = processor._process_audio(clips, sampling_rate=16_000, return_attention_mask=True, return_tensors="pt")
        stock = processor.feature_extractor(
            clips, sampling_rate=16_000, padding="max_length", return_attention_mask=True, return_tensors="pt"
        )
        width = ours["input_features"].shape[-1]
        assert width < 210 < stock.input_features.shape[-1]
        assert torch.equal(ours["feature_attention_mask"].sum(-1), stock.attention_mask.sum(-1))
        valid = ours["feature_attention_mask"].bool()
        difference = (ours["input_features"] - stock.input_features[..., :width]).abs().amax(1)
        assert difference[valid].max() < 1e-6


def test_processor_round_trip_and_chat_template(tiny_checkpoint: Path, tmp_path: Path) -> None:
    first = AudioProcessor.from_pretrained(tiny_checkpoint)
    first.save_pretrained(tmp_path)
    second = AudioProcessor.from_pretrained(tmp_path)
    user = {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "What?"}]}
    for processor in (first, second):
        assert processor.apply_chat_template([user], tokenize=False, add_generation_prompt=True) == OFFICIAL
        with_answer = [user, {"role": "assistant", "content": "<answer>dog</answer>"}]
        whole = processor.apply_chat_template(with_answer, tokenize=False)
        assert whole == OFFICIAL + "<answer>dog</answer><|im_end|>\n"
    audio = np.asarray(make_clip(1.0).samples)
    inputs = second(text=[OFFICIAL], audio=[audio], sampling_rate=16_000, return_tensors="pt")
    assert int((inputs.input_ids == second.audio_token_id).sum()) == 25  # 25 positions a second


def test_tokenizer_keeps_trace_tags_and_drops_control_tokens(tiny_checkpoint: Path) -> None:
    tokenizer = load_processor(str(tiny_checkpoint)).tokenizer
    text = "<perception>dog bark 1.25-3.5 s</perception>\n<answer>dog</answer>"
    tokens = tokenizer(text)["input_ids"]
    assert tokenizer.decode(tokens, skip_special_tokens=True) == text
    pieces = tokenizer.convert_ids_to_tokens(tokens)
    assert {"<perception>", "</answer>", "1", "2", "5"} <= set(pieces)
    for token in (*SPECIAL_TOKENS, *TRACE_TAGS):
        assert len(tokenizer(token)["input_ids"]) == 1
    assert tokenizer.decode(tokenizer("a<|im_end|><|audio_bos|>")["input_ids"], skip_special_tokens=True) == "a"


def test_building_twice_gives_equal_files(tmp_path: Path) -> None:
    one, two = (build_checkpoint(tmp_path / name, CORPUS, small=True, seed=4) for name in ("one", "two"))
    for file in sorted(path.name for path in one.iterdir()):
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_names(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "CHECKPOINTS", tiny_checkpoint.parent)
    assert resolve("small-base") == tiny_checkpoint
    assert resolve(str(tiny_checkpoint)) == tiny_checkpoint
    assert resolve("Qwen/Qwen2.5-Omni-7B") == "Qwen/Qwen2.5-Omni-7B"
    (tmp_path / "weights.bin").write_text("x")
    for bad, words in (
        ("nix", "small-base"),
        ("../no-such-checkpoint", "no checkpoint"),
        (str(tmp_path / "weights.bin"), "is a file"),
    ):
        with pytest.raises(EngineError, match=words):
            resolve(bad)


def test_an_adapter_names_its_base(tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    assert split_adapter(str(tiny_adapter)) == (str(tiny_checkpoint), str(tiny_adapter))
    assert split_adapter(str(tiny_checkpoint), "x") == (str(tiny_checkpoint), "x")
    with pytest.raises(EngineError, match="is an adapter itself"):
        split_adapter(str(tiny_adapter), str(tiny_adapter))
    homeless = shutil.copytree(tiny_adapter, tmp_path / "homeless")
    config = json.loads((homeless / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
    (homeless / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match="does not say which model"):
        split_adapter(str(homeless))


def test_loaded_adapter_is_in_use_and_can_be_put_aside(tiny_checkpoint: Path, tiny_adapter: Path) -> None:
    ids = torch.tensor([[5, 6, 7]])
    base = load_checkpoint(str(tiny_checkpoint), device="cpu")
    adapted = load_checkpoint(str(tiny_checkpoint), str(tiny_adapter), device="cpu")
    with torch.inference_mode():
        plain, changed = base.model(input_ids=ids).logits, adapted.model(input_ids=ids).logits
        adapted.use(None)
        aside = adapted.model(input_ids=ids).logits
    assert not torch.allclose(plain, changed) and torch.equal(plain, aside)
    (adapter,) = adapted.adapters.values()
    assert adapter.batchable and not adapter.modifies_audio_encoder and adapter.warnings == ()


def test_bounded_number_of_adapters(tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(str(tiny_checkpoint), device="cpu")
    for number in range(10):
        checkpoint.attach(str(shutil.copytree(tiny_adapter, tmp_path / f"a{number}")))
    assert len(checkpoint.adapters) == 8 and len(checkpoint.peft.peft_config) == 8


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "configuration"),
        (lambda f: (f / "config.json").write_text('{"model_type": "llama"}'), "type 'llama'.*qwen2_audio"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x10" + bytes(40)), "cannot be loaded"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:9000]),
            "cut short",
        ),
        (lambda f: (f / "tokenizer.json").unlink(), "processor"),
        (lambda f: (f / "processor_config.json").unlink(), "processor"),
    ],
)
def test_broken_folders_say_what_is_wrong(copy: Path, damage, words: str) -> None:
    damage(copy)
    with pytest.raises(EngineError, match=words):
        load_checkpoint(str(copy), device="cpu")


def test_missing_weights_are_an_error(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["audio_tower.proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match="lacks 1 weights.*audio_tower.proj"):
        load_checkpoint(str(copy), device="cpu")


def edit_adapter(folder: Path, edit) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(edit(weights), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def edit_config(folder: Path, **values) -> None:
    config = json.loads((folder / "adapter_config.json").read_text()) | values
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: edit_adapter(f, lambda w: {k.replace("layers", "blocks"): v for k, v in w.items()}), "no place"),
        (lambda f: edit_adapter(f, lambda w: w | {"base_model.model.nowhere.weight": torch.zeros(2)}), "no place"),
        (lambda f: edit_adapter(f, lambda w: {k: v * float("nan") for k, v in w.items()}), "not finite numbers"),
        (
            lambda f: edit_adapter(
                f, lambda w: {k.replace(".language_model" * (i % 2), ""): v for i, (k, v) in enumerate(w.items())}
            ),
            "mixes names of several versions",
        ),
        (lambda f: edit_adapter(f, lambda w: dict(list(w.items())[:-2])), "lacks 2 of the weights"),
        (lambda f: edit_adapter(f, lambda w: {"other": torch.zeros(1)}), "no LoRA weights"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(b"\xff" * 100), "not readable"),
        (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), "no adapter_model.safetensors"),
        (lambda f: (f / "adapter_config.json").write_text('{"peft_type": "IA3"}'), "only LoRA"),
        (lambda f: (f / "adapter_config.json").write_text("[]"), "not an object"),
        (lambda f: (f / "adapter_config.json").unlink(), "no adapter_config.json"),
    ],
)
def test_adapters_that_do_not_fit_are_errors(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path, damage, words: str
) -> None:
    broken = shutil.copytree(tiny_adapter, tmp_path / "broken")
    damage(broken)
    with pytest.raises(EngineError, match=words):
        load_checkpoint(str(tiny_checkpoint), str(broken), device="cpu")


TARGETS = {
    "list": ["q_proj", "v_proj"],
    "old regex": r"^model.*\.(q|v)_proj",
    "swift regex": r"^(thinker\.model(?=\.).*\.(q_proj|v_proj))$",
}


@pytest.mark.parametrize(
    ("prefix", "targets"),
    [
        ("model.layers", "list"),
        ("model.layers", "old regex"),
        ("thinker.model.layers", "list"),
        ("thinker.model.layers", "swift regex"),
        ("thinker.model.language_model.layers", "list"),
    ],
)
def test_adapters_of_older_layouts_give_the_same_logits(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path, prefix: str, targets: str
) -> None:
    older = shutil.copytree(tiny_adapter, tmp_path / "older")
    edit_adapter(older, lambda w: {k.replace("model.language_model.layers", prefix): v for k, v in w.items()})
    edit_config(older, target_modules=TARGETS[targets])
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        want = load_checkpoint(str(tiny_checkpoint), str(tiny_adapter), device="cpu").model(input_ids=ids).logits
        got = load_checkpoint(str(tiny_checkpoint), str(older), device="cpu").model(input_ids=ids).logits
    assert torch.equal(got, want)


def test_a_bare_list_whose_audio_layers_have_no_weights_is_a_warning(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    listed = shutil.copytree(tiny_adapter, tmp_path / "listed")
    edit_config(listed, target_modules=["q_proj", "v_proj"])
    (adapter,) = load_checkpoint(str(tiny_checkpoint), str(listed), device="cpu").adapters.values()
    assert "names layers of audio_tower too" in adapter.warnings[0]


def test_weights_of_the_base_in_an_adapter_never_change_the_other_arm(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    base = load_file(tiny_checkpoint / "model.safetensors")
    head = next(name for name in base if name.endswith("embed_tokens.weight"))
    same, other = (shutil.copytree(tiny_adapter, tmp_path / name) for name in ("same", "other"))
    name = "base_model.model.model.language_model.embed_tokens.weight"
    edit_adapter(same, lambda w: w | {name: base[head].clone()})
    edit_adapter(other, lambda w: w | {name: base[head] + 1.0})
    ids = torch.tensor([[5, 6, 7]])
    checkpoint = load_checkpoint(str(tiny_checkpoint), device="cpu")
    with torch.inference_mode():
        plain = checkpoint.model(input_ids=ids).logits
        checkpoint.use(checkpoint.attach(str(same)))
        assert not torch.equal(checkpoint.model(input_ids=ids).logits, plain)
        with pytest.raises(EngineError, match=r"carries 1 weights of the base itself.*embed_tokens.*mpar2 export"):
            checkpoint.attach(str(other))
        checkpoint.use(None)
        assert torch.equal(checkpoint.model(input_ids=ids).logits, plain)


def test_saved_modules_of_an_adapter_are_its_own(tiny_checkpoint: Path, tmp_path: Path, clip, question) -> None:
    from peft import LoraConfig, get_peft_model

    from mpar2.engines.base import Arm, Decoding, Request
    from mpar2.engines.transformers import TransformersEngine

    model = load_checkpoint(str(tiny_checkpoint), device="cpu").model
    config = LoraConfig(r=4, target_modules=r".*language_model.*q_proj", modules_to_save=["lm_head"])
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for weight_name, weight in adapted.named_parameters():
            if "modules_to_save" in weight_name:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    adapted.save_pretrained(tmp_path / "head")
    plain = make_adapter(tiny_checkpoint, tmp_path / "plain", seed=9)
    arms = [Arm(n, str(tiny_checkpoint), a) for n, a in (("h", str(tmp_path / "head")), ("p", str(plain)), ("b", None))]
    requests, decoding = [Request(clip, question, arm) for arm in arms], Decoding(max_new_tokens=10)
    together = TransformersEngine(device="cpu").generate_batch(requests, decoding)
    alone = [TransformersEngine(device="cpu").generate_batch([request], decoding)[0] for request in requests]
    assert [g.text for g in together] == [g.text for g in alone]
    assert len({g.text for g in together}) == 3


@pytest.mark.parametrize(
    "pattern", ["(a+)+$|((.*)*)*x", "(q|q)*_proj", ".*" * 9 + "q_proj", r"(.*)\1q_proj", "q_proj" * 1000]
)
def test_patterns_that_may_not_end_are_refused(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path, pattern: str
) -> None:
    hostile = shutil.copytree(tiny_adapter, tmp_path / "hostile")
    edit_config(hostile, target_modules=pattern)
    with pytest.raises(EngineError, match="take for ever"):
        load_checkpoint(str(tiny_checkpoint), str(hostile), device="cpu")


def test_a_rank_of_the_configuration_is_not_believed(tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    huge = shutil.copytree(tiny_adapter, tmp_path / "huge")
    edit_config(huge, r=10**9)
    load_checkpoint(str(tiny_checkpoint), str(huge), device="cpu")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "does not end"),
        ("{{ 'x' * 3000000 }}", "more than 1,000,000 characters"),
        ("{{ raise_exception('\x1b[31mno') }}", "fails: \ufffd\\[31mno"),
        ("{% if %}", "fails"),
        ("no audio here", "writes 0 placeholders"),
    ],
)
def test_hostile_chat_templates_are_errors_in_words(
    copy: Path, clip, question, monkeypatch, template: str, words: str
) -> None:
    from mpar2.engines import chat
    from mpar2.engines.base import Arm, Request
    from mpar2.engines.transformers import TransformersEngine

    monkeypatch.setattr(chat, "_SECONDS", 1.0)
    (copy / "chat_template.jinja").write_text(template)
    with pytest.raises(EngineError, match=words):
        TransformersEngine(device="cpu").generate_batch([Request(clip, question, Arm("a", str(copy)))])


def test_templates_of_2024_and_templates_of_plain_text_give_a_prompt(copy: Path, clip, question) -> None:
    from mpar2.engines.base import Arm, Decoding, Request
    from mpar2.engines.transformers import TransformersEngine

    by_key = (
        "{% for m in messages %}{% for c in m['content'] %}{% if 'audio' in c or 'audio_url' in c "
        "or m['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
        "{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    for template in (by_key, "{% for m in messages %}{{ 'USER: ' + m['content'] }}{% endfor %}"):
        (copy / "chat_template.jinja").write_text(template)
        (generation,) = TransformersEngine(device="cpu").generate_batch(
            [Request(clip, question, Arm("a", str(copy)))], Decoding(max_new_tokens=2)
        )
        assert generation.token_count == 2


def test_quantised_repositories_are_named_for_what_they_are(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    for method, called in (("gptq", "GPTQ"), ("awq", "AWQ"), ("hqq", "hqq")):
        whole = {
            "model_type": "qwen2_5_omni",
            "thinker_config": config,
            "quantization_config": {"quant_method": method},
        }
        (copy / "config.json").write_text(json.dumps(whole))
        with pytest.raises(EngineError, match=rf"is a {called} checkpoint.*--quantize 4bit"):
            load_checkpoint(str(copy), device="cpu")


def test_memory_is_compared_before_loading_and_running_out_is_said(tiny_checkpoint: Path, monkeypatch) -> None:
    from mpar2.engines import checkpoint as module

    monkeypatch.setattr(module, "free_bytes", lambda device: 1000)
    with pytest.raises(EngineError, match=r"needs 0.0 GB on cpu in float32, 0.0 GB are free: use a smaller model"):
        load_checkpoint(str(tiny_checkpoint), device="cpu")
    monkeypatch.undo()

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(EngineError, match="does not fit into the memory of cpu in float32"):
        load_checkpoint(str(tiny_checkpoint), device="cpu")


def test_the_vision_tower_is_not_loaded(tiny_checkpoint: Path) -> None:
    assert any(".visual.blocks" in f".{name}" for name in load_file(tiny_checkpoint / "model.safetensors"))
    names = [name for name, _ in load_checkpoint(str(tiny_checkpoint), device="cpu").model.named_parameters()]
    assert not any("visual.blocks" in name for name in names)


def test_logits_that_are_not_finite_stop_with_words(copy: Path, clip, question) -> None:
    from mpar2.engines.base import Arm, Decoding, Request
    from mpar2.engines.transformers import TransformersEngine

    weights = load_file(copy / "model.safetensors")
    head = next(name for name in weights if name.endswith("embed_tokens.weight"))
    weights[head] = weights[head] * float("nan")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    for temperature in (0.0, 1.0):
        with pytest.raises(EngineError, match="not finite numbers"):
            TransformersEngine(device="cpu").generate_batch(
                [Request(clip, question, Arm("a", str(copy)))], Decoding(max_new_tokens=2, temperature=temperature)
            )


def test_an_adapter_of_another_size_is_an_error(tiny_adapter: Path, tmp_path: Path) -> None:
    text = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    other = build_checkpoint(tmp_path / "other", CORPUS, small=True, text=text)
    with pytest.raises(EngineError, match=r"size 64 at model.language_model.layers.0.self_attn.*has 32"):
        load_checkpoint(str(other), str(tiny_adapter), device="cpu")


def test_an_adapter_trained_on_a_model_of_another_name_is_told(tiny_adapter: Path, copy: Path) -> None:
    checkpoint = load_checkpoint(str(copy), str(tiny_adapter), device="cpu")
    (adapter,) = checkpoint.adapters.values()
    assert "was trained on" in adapter.warnings[0] and "'copy'" in adapter.warnings[0]


@pytest.mark.parametrize(("device", "dtype", "words"), [("gpu", None, "unknown device"), ("cpu", "int8", "precision")])
def test_devices_and_precisions(tiny_checkpoint: Path, device: str, dtype: str | None, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        load_checkpoint(str(tiny_checkpoint), device=device, dtype=dtype)


def test_bfloat16_runs(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(str(tiny_checkpoint), device="cpu", dtype="bfloat16")
    assert checkpoint.model.dtype == torch.bfloat16


def test_dora_adapters_do_not_mix(tiny_checkpoint: Path, tmp_path: Path, clip, question) -> None:
    from peft import LoraConfig, get_peft_model

    from mpar2.engines.base import Arm, Decoding, Request
    from mpar2.engines.transformers import TransformersEngine

    model = load_checkpoint(str(tiny_checkpoint), device="cpu").model
    config = LoraConfig(r=4, target_modules=r".*language_model.*q_proj", use_dora=True, init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path / "dora")
    plain = make_adapter(tiny_checkpoint, tmp_path / "plain", seed=9)
    arms = [Arm(n, str(tiny_checkpoint), a) for n, a in (("d", str(tmp_path / "dora")), ("p", str(plain)), ("b", None))]
    engine = TransformersEngine(device="cpu")
    requests = [Request(clip, question, arm) for arm in arms]
    together = engine.generate_batch(requests, Decoding(max_new_tokens=10))
    alone = [engine.generate_batch([request], Decoding(max_new_tokens=10))[0] for request in requests]
    assert [g.text for g in together] == [g.text for g in alone]
    assert len({g.text for g in together}) == 3
