"""Each model family on small random weights of its classes: ids equal to ``generate``, attention equal to eager."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from conftest import CORPUS, make_clip
from safetensors.torch import load_file, save_file

from mpar2.engines.base import Arm, Decoding, Generation
from mpar2.engines.checkpoint import Checkpoint, load_checkpoint
from mpar2.engines.decode import end_tokens
from mpar2.engines.families import family_names, family_of, family_of_processor, get_family
from mpar2.engines.probe import set_text_attention
from mpar2.engines.transformers import TransformersEngine
from mpar2.question import Question

TOKENS = 10
QUESTION = Question("What comes first?", ("dog bark", "bell"))
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
WINDOWED = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 2}
WINDOWED |= {"intermediate_size": 64, "num_mel_bins": 80, "max_source_positions": 1500, "head_dim": 4}
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'audio' %}AUDIO{% else %}{{ c['text'] }}"
    "{% endif %}{% endfor %}{% endfor %} assistant:"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A byte-level BPE of some hundred pieces with the control tokens of every family."""
    from training.tiny.build import build_checkpoint

    folder = build_checkpoint(tmp_path_factory.mktemp("tokenizer") / "base", CORPUS, small=True, seed=1)
    made = transformers.AutoTokenizer.from_pretrained(folder)
    extra = ["<sound>", "<|sound_bos|>", "<|sound_eos|>", "<|pad|>", "<|audio|>", "<s>"]
    made.add_special_tokens({"additional_special_tokens": [*extra, "[INST]", "[/INST]", "[BEGIN_AUDIO]", "[AUDIO]"]})
    return made


def text_config(tokenizer, kind: str) -> dict:
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return TEXT | {"model_type": kind, "vocab_size": len(tokenizer)} | ends


def extractor(**options):
    return transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=30, return_attention_mask=True, **options)


def flamingo(tokenizer, name: str):
    kind = getattr(transformers, f"{name}Config")
    marks = {}
    if name == "MusicFlamingo":
        ids = tokenizer.convert_tokens_to_ids(["<|sound_bos|>", "<|sound_eos|>"])
        marks = dict(zip(("audio_bos_token_id", "audio_eos_token_id"), ids, strict=True))
    config = kind(
        text_config=text_config(tokenizer, "qwen2"),
        audio_config=WINDOWED | {"model_type": "audioflamingo3_encoder"},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
        **marks,
    )
    processor = getattr(transformers, f"{name}Processor")(
        extractor(), tokenizer, chat_template=TEMPLATE.replace("AUDIO", "<sound>")
    )
    return config, processor


def glm(tokenizer):
    config = transformers.GlmAsrConfig(
        text_config=text_config(tokenizer, "llama"),
        audio_config=WINDOWED | {"model_type": "glmasr_encoder", "max_position_embeddings": 1500},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
    )
    processor = transformers.GlmAsrProcessor(extractor(), tokenizer, chat_template=TEMPLATE.replace("AUDIO", "<|pad|>"))
    return config, processor


def qwen3(tokenizer):
    from mpar2.engines.processor import Qwen3AudioProcessor

    text = text_config(tokenizer, "qwen3_omni_moe_text") | {
        "head_dim": 8,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
    }
    audio = {"d_model": 32, "encoder_attention_heads": 4, "encoder_ffn_dim": 32, "encoder_layers": 2}
    audio |= {"num_mel_bins": 80, "output_dim": 32, "n_window": 50, "n_window_infer": 100, "conv_chunksize": 500}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 4, "out_hidden_size": 32}
    vision |= {"patch_size": 16, "spatial_merge_size": 1, "temporal_patch_size": 2, "deepstack_visual_indexes": [1]}
    ids = tokenizer.convert_tokens_to_ids(["<|AUDIO|>", "<|audio_bos|>", "<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>"])
    names = ("audio_token_id", "audio_start_token_id", "image_token_id", "video_token_id", "vision_start_token_id")
    thinker = transformers.Qwen3OmniMoeConfig().thinker_config.__class__(
        text_config=text,
        vision_config=vision,
        audio_config=audio | {"downsample_hidden_size": 16, "model_type": "qwen3_omni_moe_audio_encoder"},
        **dict(zip(names, ids, strict=True)),
    )
    processor = Qwen3AudioProcessor(
        extractor(), tokenizer, chat_template=TEMPLATE.replace("AUDIO", "<|audio_bos|><|AUDIO|><|audio_eos|>")
    )
    return thinker, processor


def granite(tokenizer):
    config = transformers.GraniteSpeechConfig(
        text_config=text_config(tokenizer, "granite"),
        encoder_config={
            "model_type": "granite_speech_encoder",
            "context_size": 200,
            "conv_expansion_factor": 2,
            "conv_kernel_size": 15,
            "dim_head": 8,
            "dropout": 0.0,
            "feedforward_mult": 4,
            "hidden_dim": 32,
            "input_dim": 160,
            "num_heads": 4,
            "num_layers": 2,
            "output_dim": 42,
        },
        projector_config={
            "model_type": "blip_2_qformer",
            "cross_attention_frequency": 1,
            "encoder_hidden_size": 32,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "use_qformer_text_input": False,
        },
        audio_token_index=tokenizer.convert_tokens_to_ids("<|audio|>"),
        downsample_rate=5,
        window_size=15,
        has_lora_adapter=False,
        tie_word_embeddings=False,
    )

    def features(samples, device):  # torchaudio's spectrogram is not at hand here: sizes as the real one has them
        columns = samples.shape[-1] // 160 // 2 + 1
        made = torch.randn(1, columns, 160, generator=torch.Generator().manual_seed(samples.shape[-1]))
        return {"input_features": made, "audio_embed_sizes": [-(-columns // 15) * 3]}

    def chat(messages, tokenize, add_generation_prompt):
        return "".join(message["content"] for message in messages)  # a template of plain strings

    processor = SimpleNamespace(
        tokenizer=tokenizer, audio_token="<|audio|>", audio_processor=features, apply_chat_template=chat
    )
    return config, processor


def voxtral(tokenizer):
    config = transformers.VoxtralConfig(
        text_config=text_config(tokenizer, "llama"),
        audio_config=WINDOWED | {"model_type": "voxtral_encoder"},
        audio_token_id=tokenizer.convert_tokens_to_ids("[AUDIO]"),
    )
    real = transformers.VoxtralProcessor
    processor = SimpleNamespace(tokenizer=tokenizer, feature_extractor=extractor(), audio_token="[AUDIO]")
    processor.audio_token_id = tokenizer.convert_tokens_to_ids("[AUDIO]")
    processor._retrieve_input_features = lambda *a, **k: real._retrieve_input_features(processor, *a, **k)
    return config, processor


def phi4(tokenizer):
    audio = {"hidden_size": 32, "intermediate_size": 48, "num_blocks": 2, "num_attention_heads": 4}
    audio |= {"ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "nemo_conv_channels": 16}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = {key: value for key, value in text_config(tokenizer, "").items() if key != "model_type"}
    text |= {"bos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 131072, "sliding_window": 262144}
    config = transformers.Phi4MultimodalConfig(
        **text,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.1, 1.2],
            "long_factor": [1.0, 2.0, 4.0],
        },
        audio_config=audio | {"audio_token_id": tokenizer.convert_tokens_to_ids("<|audio|>")},
        vision_config=vision | {"image_size": 28, "crop_size": 28, "image_token_id": len(tokenizer) - 1},
    )
    processor = SimpleNamespace(  # the real one wants torchvision for its pictures
        tokenizer=tokenizer,
        audio_processor=transformers.Phi4MultimodalFeatureExtractor(),
        audio_token="<|audio|>",
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio|>"),
        apply_chat_template=lambda messages, **_: "".join(message["content"] for message in messages),
    )
    return config, processor


def gemma_text(tokenizer) -> dict:
    """Two layers with keys of their own, one with a sliding window shorter than a prompt; the third shares its keys."""
    text = {key: value for key, value in text_config(tokenizer, "").items() if key != "model_type"}
    text |= {"layer_types": ["sliding_attention", "full_attention", "full_attention"], "num_kv_shared_layers": 1}
    return text | {"sliding_window": 40, "head_dim": 8, "hidden_size_per_layer_input": 8, "pad_token_id": 0}


def gemma_tokenizer(tokenizer, **marks: str):
    """The tokenizer with the names of the marks of audio, as Gemma's has them."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return transformers.AutoTokenizer.from_pretrained(folder, extra_special_tokens=marks)


def gemma3n(tokenizer):
    from mpar2.engines.processor import Gemma3nAudioProcessor

    marks = {"boa_token": "<boa>", "eoi_token": "<eoi>", "boi_token": "<image>", "eoa_token": "<eoa>"}
    tokenizer = gemma_tokenizer(tokenizer, audio_token="<|audio|>", **marks)
    audio_token, words, image, end = tokenizer.convert_tokens_to_ids(["<|audio|>", "<eoi>", "<image>", "<eoa>"])
    assert (words, image, end) == (len(tokenizer) - 3, words + 1, words + 2)  # above the words, as in the real one
    text = gemma_text(tokenizer) | {"vocab_size": end + 4, "vocab_size_per_layer_input": words}
    audio = {"hidden_size": 32, "conf_num_attention_heads": 4, "conf_num_hidden_layers": 2, "input_feat_size": 128}
    config = transformers.Gemma3nConfig(
        text_config=text | {"laurel_rank": 8, "activation_sparsity_pattern": [0.5, 0.0, 0.0]},
        vision_config={"hidden_size": 16, "vocab_size": 2, "vocab_offset": words, "label_names": ["a", "b"]},
        audio_config=audio | {"vocab_size": 4, "vocab_offset": end, "sscp_conv_channel_size": (8, 4)},
        audio_token_id=audio_token,
        eoa_token_id=end,
        image_token_id=image,
    )
    template = TEMPLATE.replace("AUDIO", "<|audio|>")
    extractor = transformers.Gemma3nAudioFeatureExtractor()
    return config, Gemma3nAudioProcessor(extractor, tokenizer, chat_template=template)


def gemma4(tokenizer):
    from mpar2.engines.processor import Gemma4AudioProcessor

    tokenizer = gemma_tokenizer(tokenizer, audio_token="<|audio|>", boa_token="<|audio>", eoa_token="<audio|>")
    audio = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "output_proj_dims": 24}
    config = transformers.Gemma4Config(
        text_config=gemma_text(tokenizer)
        | {"vocab_size_per_layer_input": len(tokenizer) + 2, "global_head_dim": 16, "final_logit_softcapping": 30.0}
        | {"vocab_size": len(tokenizer) + 2},
        vision_config=None,
        audio_config=audio | {"subsampling_conv_channels": [128, 4]},
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio|>"),
        image_token_id=len(tokenizer),
        video_token_id=len(tokenizer) + 1,
    )
    template = TEMPLATE.replace("AUDIO", "<|audio|>")
    extractor = transformers.Gemma4AudioFeatureExtractor()
    return config, Gemma4AudioProcessor(extractor, tokenizer, chat_template=template)


SLIDING = ("gemma3n", "gemma4")  # their attention cannot be recorded

BUILDERS = {
    "gemma3n": gemma3n,
    "gemma4": gemma4,
    "qwen3_omni_moe": qwen3,
    "audioflamingo3": lambda tokenizer: flamingo(tokenizer, "AudioFlamingo3"),
    "musicflamingo": lambda tokenizer: flamingo(tokenizer, "MusicFlamingo"),
    "voxtral": voxtral,
    "glmasr": glm,
    "granite_speech": granite,
    "phi4_multimodal": phi4,
}


@pytest.fixture(scope="module", params=BUILDERS)
def checkpoint(request, tokenizer, tmp_path_factory) -> Checkpoint:
    """A small model of the family, saved and loaded as a user's would be."""
    config, processor = BUILDERS[request.param](tokenizer)
    family = get_family(request.param)
    folder = tmp_path_factory.mktemp("families") / request.param
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = getattr(transformers, family.model_class)(family.loaded_config(copy.deepcopy(config)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("_proj.weight") and ("language_model" in name or name.startswith("model.layers")):
                weight.mul_(8)
            if "multi_modal_projector" in name:
                weight.mul_(4)
    model.save_pretrained(folder)
    config.save_pretrained(folder)
    if isinstance(processor, SimpleNamespace):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(family), "load_processor", lambda self, source: processor)
            return load_checkpoint(str(folder), device="cpu")
    processor.save_pretrained(folder)
    return load_checkpoint(str(folder), device="cpu")


@pytest.fixture
def engine(checkpoint: Checkpoint, monkeypatch) -> TransformersEngine:
    monkeypatch.setattr("mpar2.engines.transformers.load_checkpoint", lambda *args, **options: checkpoint)
    monkeypatch.setattr("mpar2.engines.transformers.resolve", lambda name: name)
    monkeypatch.setattr("mpar2.engines.transformers.split_adapter", lambda model, adapter=None: (model, adapter))
    return TransformersEngine(device="cpu")


def prompt_of(checkpoint: Checkpoint, seconds: float, mode: str) -> tuple[list[int], object]:
    from mpar2.engines.inputs import build_prompt

    features = checkpoint.family.features(checkpoint.processor, np.asarray(make_clip(seconds).samples))
    frames = torch.zeros(features.positions, 32)
    return list(build_prompt(checkpoint, QUESTION, Arm("a", "a", mode=mode), frames, None).ids), features


def stock_inputs(checkpoint: Checkpoint, features) -> dict:
    """The audio as the forward of the stock class takes it."""
    name = checkpoint.family.name
    if name == "phi4_multimodal":
        return {"audio_input_features": features.features, "audio_embed_sizes": [features.positions]}
    masks = {} if name in ("voxtral", "granite_speech") else {checkpoint.family.mask_name: features.mask}
    return {"input_features": features.features} | masks


def stock(checkpoint: Checkpoint, seconds: float, mode: str) -> list[int]:
    """What ``generate`` of the stock class makes of the prompt, from features and not from frames."""
    ids, features = prompt_of(checkpoint, seconds, mode)
    tokens = torch.tensor([ids])
    made = checkpoint.model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        **stock_inputs(checkpoint, features),
        max_new_tokens=TOKENS,
        do_sample=False,
        eos_token_id=sorted(end_tokens(checkpoint)),
        pad_token_id=checkpoint.processor.tokenizer.pad_token_id,
    )[0, len(ids) :].tolist()
    return [token for token in made if token not in end_tokens(checkpoint)]


def generate(engine: TransformersEngine, lengths: list[float], modes: list[str], **options) -> list[Generation]:
    from mpar2.engines.base import Request

    requests = [
        Request(make_clip(seconds), QUESTION, Arm("a", "a", mode=mode))
        for seconds, mode in zip(lengths, modes, strict=True)
    ]
    return engine.generate_batch(requests, Decoding(max_new_tokens=TOKENS), **options)


def test_ids_equal_generate_alone_and_in_a_padded_batch(checkpoint: Checkpoint, engine: TransformersEngine) -> None:
    lengths, modes = [1.5, 2.0], ["direct", "mpar2"]
    want = [stock(checkpoint, seconds, mode) for seconds, mode in zip(lengths, modes, strict=True)]
    assert max(len(set(ids)) for ids in want) > 2
    got = generate(engine, lengths, modes)
    assert [[token.id for token in g.tokens] for g in got] == want


def test_attention_equals_eager(checkpoint: Checkpoint, engine: TransformersEngine) -> None:
    generation = generate(engine, [1.5], ["direct"], attention="full")[0]
    if checkpoint.family.name in SLIDING:
        assert generation.attention is None and "sliding windows" in generation.warnings[-1]
        return
    record = generation.attention
    ids, features = prompt_of(checkpoint, 1.5, "direct")
    start = ids.index(checkpoint.family.audio_token(checkpoint.processor)[1])
    written = [token.id for token in generation.tokens]
    tokens = torch.tensor([ids + written[:-1]])
    inputs = stock_inputs(checkpoint, features)
    model = checkpoint.model
    before = model.config.get_text_config()._attn_implementation
    set_text_attention(model, "eager")
    try:
        with torch.inference_mode():
            out = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **inputs, output_attentions=True)
    finally:
        set_text_attention(model, before)
    whole = torch.stack(out.attentions, dim=1)[0][:, :, len(ids) - 1 :, start : start + features.positions]
    whole = whole.permute(2, 0, 1, 3).numpy()  # (T, L, H, F)
    assert np.abs(record.mass - whole.sum(-1)).max() < 1e-4
    assert np.abs(record.rows.astype(np.float32) - whole[..., : record.rows.shape[-1]]).max() < 1e-3
    assert record.frame_s == checkpoint.family.frame_s


def test_positions_follow_the_seconds_of_a_frame(checkpoint: Checkpoint) -> None:
    family = checkpoint.family
    counts = [family.features(checkpoint.processor, np.asarray(make_clip(s).samples)).positions for s in (4.0, 24.0)]
    if family.name in ("voxtral", "gemma3n"):  # padded to 30 s
        assert counts[0] == counts[1] and counts[0] * family.frame_s == pytest.approx(30.0, abs=0.1)
    else:
        assert (counts[1] - counts[0]) * family.frame_s == pytest.approx(20.0, abs=0.5)


def test_lora_adapts_linear_layers_of_the_text_stack(checkpoint: Checkpoint) -> None:
    family, modules = checkpoint.family, dict(checkpoint.model.named_modules())
    chosen = [name for name in modules if re.fullmatch(family.lora_targets(), name)]
    assert len({re.search(r"layers\.(\d+)", name)[1] for name in chosen}) == TEXT["num_hidden_layers"]
    assert all(isinstance(modules[name], torch.nn.Linear) and not family.is_audio(name) for name in chosen)
    assert not any("vis" in name or "img" in name for name in chosen)
    both = [name for name in modules if re.fullmatch(family.lora_targets(audio=True), name)]
    assert any(family.is_audio(name) for name in both) and set(chosen) < set(both)


def test_columns_beyond_the_clips_end_are_not_drawn(checkpoint: Checkpoint, engine: TransformersEngine) -> None:
    if checkpoint.family.name in SLIDING:
        pytest.skip("its attention is not recorded")
    record = generate(engine, [1.5], ["direct"], attention="full")[0].attention
    assert record.rows.shape[-1] * record.frame_s <= 1.5 + 4 * record.frame_s
    assert record.audio_positions >= record.rows.shape[-1]


def test_every_family_is_known_by_its_types_and_its_processor() -> None:
    assert {"qwen2_5_omni", "qwen2_audio", *BUILDERS} == set(family_names())
    for name in family_names():
        family = get_family(name)
        assert all(family_of(kind) is family for kind in family.model_types)
        processor = getattr(transformers, family.processor_class)
        assert family_of_processor(processor.__new__(processor)) is family


def test_a_whole_qwen3_omni_gives_its_thinker_without_vision(tokenizer, tmp_path: Path) -> None:
    thinker, processor = qwen3(tokenizer)
    model = transformers.Qwen3OmniMoeThinkerForConditionalGeneration(thinker)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    weights = {f"thinker.{name}": value for name, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights | {"talker.x.weight": torch.zeros(2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    whole = {"model_type": "qwen3_omni_moe", "thinker_config": config, "enable_audio_output": False}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    loaded = load_checkpoint(str(tmp_path), device="cpu").model
    ours = dict(loaded.named_parameters())
    theirs = dict(model.named_parameters())
    assert not any("visual.blocks" in name for name in ours) and set(ours) <= set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
