"""A hub repository of the whole Qwen2.5-Omni, rebuilt with few and thin layers, through every way that models are run.

Real are the layout (``thinker.``, ``talker.`` and ``token2wav.`` weights in three shards with an index, the older chat
template and preprocessor files), the 151,936 rows of the vocabulary with the real ids of the control tokens, 16 query
heads on 2 key heads, 128 mel bands and the encoder's chunks. The weights are random.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CORPUS, make_clip
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mpar2.attention import load_record
from mpar2.audio import wav_bytes
from mpar2.cli import main
from mpar2.engines.checkpoint import free_bytes, load_checkpoint
from training.tiny.build import SPECIAL_TOKENS, build_tokenizer

VOCABULARY, WORDS = 151_936, 151_643  # rows of the embedding; ordinary tokens, after which the control tokens come
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'audio' or 'audio' in content or 'audio_url' in "
    "content %}<|audio_bos|><|AUDIO|><|audio_eos|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EXTRACTOR = {
    "chunk_length": 300,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 128,
    "hop_length": 160,
    "image_processor_type": "Qwen2VLImageProcessor",
    "max_pixels": 12_845_056,
    "merge_size": 2,
    "n_fft": 400,
    "n_samples": 4_800_000,
    "nb_max_frames": 30_000,
    "padding_side": "right",
    "padding_value": 0.0,
    "patch_size": 14,
    "processor_class": "Qwen2_5OmniProcessor",
    "return_attention_mask": True,
    "sampling_rate": 16_000,
}
TEXT = {
    "model_type": "qwen2_5_omni_text",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "max_window_layers": 70,
    "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    "rope_theta": 1_000_000.0,
    "sliding_window": 32_768,
    "use_sliding_window": False,
    "vocab_size": VOCABULARY,
}
AUDIO = {
    "model_type": "qwen2_5_omni_audio_encoder",
    "d_model": 64,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "encoder_layers": 2,
    "num_hidden_layers": 2,
    "max_source_positions": 1500,
    "n_window": 100,
    "num_mel_bins": 128,
    "output_dim": 128,
}
VISION = {
    "model_type": "qwen2_5_omni_vision_encoder",
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "fullatt_block_indexes": [1],
    "out_hidden_size": 128,
    "patch_size": 14,
    "window_size": 112,
}


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (free := free_bytes(torch.device("cpu"))) is not None and free < 2e9:
        pytest.skip(f"2 GB of memory are needed, {free / 1e9:.1f} are free")
    return build(tmp_path_factory.mktemp("hub") / "Qwen2.5-Omni-3B")


def build(folder: Path) -> Path:
    from transformers import AutoConfig, Qwen2_5OmniThinkerForConditionalGeneration

    folder.mkdir()
    marks = dict(zip(SPECIAL_TOKENS, range(WORDS, WORDS + len(SPECIAL_TOKENS)), strict=True))
    thinker = {
        "architectures": ["Qwen2OmniNaViTThinkerForConditionalGeneration"],
        "model_type": "qwen2_5_omni_thinker",
        "text_config": TEXT,
        "audio_config": AUDIO,
        "vision_config": VISION,
        "audio_token_index": marks["<|AUDIO|>"],
        "audio_start_token_id": marks["<|audio_bos|>"],
        "audio_end_token_id": marks["<|audio_eos|>"],
        "vision_start_token_id": marks["<|vision_bos|>"],
        "vision_end_token_id": marks["<|vision_eos|>"],
        "image_token_index": marks["<|IMAGE|>"],
        "video_token_index": marks["<|VIDEO|>"],
        "bos_token_id": marks["<|im_start|>"],
        "eos_token_id": marks["<|im_end|>"],
        "pad_token_id": marks["<|endoftext|>"],
        "torch_dtype": "bfloat16",
    }
    whole = {"architectures": ["Qwen2_5OmniModel"], "model_type": "qwen2_5_omni", "enable_audio_output": True}
    whole |= {"thinker_config": thinker, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0"}
    (folder / "config.json").write_text(json.dumps(whole))
    _write_tokenizer(folder, marks)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    (folder / "preprocessor_config.json").write_text(json.dumps(EXTRACTOR))

    with torch.device("meta"):
        model = Qwen2_5OmniThinkerForConditionalGeneration(AutoConfig.from_pretrained(folder).thinker_config)
    weights, random = {}, torch.Generator().manual_seed(0)
    for name, shape in ((name, weight.shape) for name, weight in model.state_dict().items()):
        older = name.replace("model.language_model.", "model.").replace("model.audio_tower", "audio_tower")
        spread = 0.2 if name.endswith("_proj.weight") else 0.02  # small ones attend evenly
        value = torch.randn(shape, generator=random, dtype=torch.bfloat16).mul_(spread)
        weights["thinker." + older.replace("model.visual", "visual")] = value.add_(1) if "norm" in name else value
    weights["talker.codec_head.weight"] = torch.zeros(64, 16, dtype=torch.bfloat16)
    weights["token2wav.code2wav_bigvgan_model.conv_pre.weight"] = torch.zeros(8, 8, 5)
    names, index = list(weights), {}
    for number, part in enumerate(np.array_split(np.array(names), 3), 1):
        file = f"model-{number:05d}-of-00003.safetensors"
        save_file({name: weights[name] for name in part.tolist()}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part.tolist(), file)
    size = sum(weight.nbytes for weight in weights.values())
    content = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder


def _write_tokenizer(folder: Path, marks: dict[str, int]) -> None:
    """A small byte-level BPE, filled up to the real number of tokens, so that all ids are the real ones."""
    build_tokenizer(CORPUS, 400).save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    written = json.loads((folder / "tokenizer.json").read_text())
    words = written["model"]["vocab"]
    words |= {f"Ġfill{number}": number for number in range(len(words), WORDS)}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    written["added_tokens"] = [{"id": number, "content": mark, **added} for mark, number in marks.items()]
    (folder / "tokenizer.json").write_text(json.dumps(written))


@pytest.fixture
def ask(tmp_path: Path) -> list[str]:
    (tmp_path / "clip.wav").write_bytes(wav_bytes(make_clip(3.0)))
    return [str(tmp_path / "clip.wav"), "--question", "What comes first?", "--choice", "dog bark", "--choice", "bell"]


QUICK = ["--dtype", "bfloat16", "--max-new-tokens", "6"]


def test_the_thinker_is_read_from_its_shards_without_vision_and_untied(omni: Path) -> None:
    checkpoint = load_checkpoint(str(omni), device="cpu", dtype="bfloat16")
    assert (checkpoint.family.name, checkpoint.max_audio_seconds) == ("qwen2_5_omni", 300.0)
    assert checkpoint.model.lm_head.weight.shape == (VOCABULARY, 128)
    assert checkpoint.model.lm_head.weight is not checkpoint.model.get_input_embeddings().weight
    assert checkpoint.processor.audio_token_id == 151_646 == checkpoint.model.config.audio_token_id
    assert not any("visual.blocks" in name for name, _ in checkpoint.model.named_parameters())


def test_reason_and_compare(omni: Path, ask: list[str], tmp_path: Path, capsys) -> None:
    assert main(["reason", *ask, "--model", str(omni), *QUICK, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["tokens"] == 6 and 0 < alone["attention_ratio"] < 1
    records = ["--attention", str(tmp_path / "where.npz")]
    assert main(["compare", *ask, "--base", str(omni), *QUICK, *records, "--json"]) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert [arm["mode"] for arm in arms] == ["direct", "cot", "mpar2"]
    record = load_record(tmp_path / "where-3.npz")
    assert record.mass.shape == (6, 3, 16) and record.rows.shape == (6, 3, 16, record.audio_positions)
    assert record.audio_positions == 75 and record.frame_s == 0.04


def test_evaluate(omni: Path, ask: list[str], tmp_path: Path, capsys) -> None:
    lines = [
        {"id": f"i{n}", "audio": "clip.wav", "question": "What?", "choices": ["dog bark", "bell"], "answer": "bell"}
        for n in range(2)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["evaluate", "--benchmark", "jsonl", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    assert main([*command, "--arm", f"omni={omni}:cot", *QUICK, "--attention-share", "1"]) == 0
    records = [json.loads(line) for line in (tmp_path / "run" / "items.jsonl").read_text().splitlines()]
    assert [(record["status"], record["tokens"]) for record in records] == [("ok", 6)] * 2
    assert records[0]["attention"]["frame_s"] == 0.04 and len(records[0]["attention"]["ratio"]) == 6


@pytest.mark.parametrize("form", ["whole", "thinker"])
def test_export_and_back(omni: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "served"
    assert main(["export", str(omni), str(out), "--as", form]) == 0
    kept = set()
    for shard in sorted(omni.glob("*.safetensors")):
        with safe_open(shard, "pt") as opened:
            kept |= {name for name in opened.keys() if name.startswith("thinker.")}  # noqa: SIM118
    written = set(load_file(out / "model.safetensors"))
    assert written == {name if form == "whole" else name.removeprefix("thinker.") for name in kept}
    ours, theirs = (load_checkpoint(str(each), device="cpu", dtype="bfloat16").model for each in (omni, out))
    ids = torch.tensor([[5, 6, 151_644, 7]])
    with torch.inference_mode():
        assert torch.equal(ours(input_ids=ids).logits, theirs(input_ids=ids).logits)


def test_the_app_compares_it_in_three_modes(omni: Path, ask: list[str]) -> None:
    from pages.options import build_services, parse_options
    from pages.running import Asked, Comparer

    options = parse_options(["--base", str(omni), "--dtype", "bfloat16", "--max-new-tokens", "6"])
    services = build_services(options)
    assert len(services.arms) == 3
    asked = Asked(ask[0], "What comes first?", "dog bark\nbell", services.arms, max_new_tokens=6)
    *_, document = Comparer(services).run(asked, "session")
    assert document["status"] == "done"
    assert [arm["token_count"] for arm in document["arms"]] == [6, 6, 6]
    assert all(arm["attention"]["columns"] > 0 for arm in document["arms"])
