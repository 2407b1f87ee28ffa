"""Exports: what is written loads again and gives the same logits; adapters come back from the names of servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mpar2.cli import main
from mpar2.engines.base import EngineError
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.export import export_checkpoint

IDS = torch.tensor([[5, 6, 7, 8]])


def logits(model: Path, adapter: Path | None = None) -> torch.Tensor:
    checkpoint = load_checkpoint(str(model), None if adapter is None else str(adapter), device="cpu")
    with torch.inference_mode():
        return checkpoint.model(input_ids=IDS).logits


@pytest.mark.parametrize("form", ["whole", "thinker"])
def test_a_merged_export_gives_the_adapters_logits(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path, form: str, capsys
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(tiny_checkpoint), str(out), "--adapter", str(tiny_adapter), "--as", form]) == 0
    assert "config.json" in capsys.readouterr().out
    want = logits(tiny_checkpoint, tiny_adapter)
    assert not torch.allclose(want, logits(tiny_checkpoint), atol=1e-3)
    assert torch.allclose(logits(out), want, atol=1e-4 * float(want.abs().max()))
    names = set(load_file(out / "model.safetensors"))
    config = json.loads((out / "config.json").read_text())
    if form == "whole":
        assert all(name.startswith("thinker.") for name in names)
        assert config["architectures"] == ["Qwen2_5OmniModel"]
        assert config["thinker_config"]["text_config"]["rope_scaling"]["mrope_section"]
    assert any("visual.blocks" in name for name in names)  # the vision tower is part of what is served
    assert not list(tmp_path.glob(".out*"))


def test_qwen2_audio_exports_merged_and_refuses_the_whole(qwen2_audio_checkpoint: Path, tmp_path: Path) -> None:
    export_checkpoint(str(qwen2_audio_checkpoint), tmp_path / "out", "thinker")
    assert torch.equal(logits(tmp_path / "out"), logits(qwen2_audio_checkpoint))
    with pytest.raises(EngineError, match="use --as thinker"):
        export_checkpoint(str(qwen2_audio_checkpoint), tmp_path / "whole", "whole")
    assert not (tmp_path / "whole").exists()


def test_an_adapter_under_the_names_of_servers_comes_back(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    out = export_checkpoint(str(tiny_checkpoint), tmp_path / "out", "adapter", adapter=str(tiny_adapter))
    names = load_file(out / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.thinker.model.layers.") for name in names)
    assert json.loads((out / "adapter_config.json").read_text())["target_modules"] == ["q_proj", "v_proj"]
    assert torch.equal(logits(tiny_checkpoint, out), logits(tiny_checkpoint, tiny_adapter))


def test_an_adapter_with_weights_of_the_base_can_be_merged(
    tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    import shutil

    own = shutil.copytree(tiny_adapter, tmp_path / "own")
    weights = load_file(own / "adapter_model.safetensors")
    embedding = load_file(tiny_checkpoint / "model.safetensors")
    name = next(name for name in embedding if name.endswith("embed_tokens.weight"))
    weights["base_model.model.model.language_model.embed_tokens.weight"] = embedding[name] * 2
    save_file(weights, own / "adapter_model.safetensors", metadata={"format": "pt"})
    out = export_checkpoint(str(tiny_checkpoint), tmp_path / "out", "thinker", adapter=str(own))
    assert torch.equal(load_file(out / "model.safetensors")[name], embedding[name] * 2)


def test_what_cannot_be_exported_is_said(tiny_checkpoint: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").write_text("")
    assert main(["export", str(tiny_checkpoint), str(tmp_path / "there")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["export", str(tiny_checkpoint), str(tmp_path / "a"), "--as", "adapter"]) == 2
    assert "needs an adapter" in capsys.readouterr().err
    assert main(["export", str(tiny_checkpoint), str(tmp_path / "a"), "--as", "gguf"]) == 2
    assert "convert_hf_to_gguf.py" in capsys.readouterr().err


def test_gguf_calls_the_converter_and_says_what_it_said(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A stand-in for llama.cpp's converter: it checks its input, and fails for the projector where it is told to."""
    tool = tmp_path / "llama"
    tool.mkdir()
    script = (
        "import json, pathlib, sys\n"
        "folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[3])\n"
        "assert json.loads((folder / 'config.json').read_text())['thinker_config']\n"
        "out.write_text(' '.join(sys.argv[4:]))\n"
    )
    (tool / "convert_hf_to_gguf.py").write_text(script)
    out = export_checkpoint(str(tiny_checkpoint), tmp_path / "out", "gguf", llama_cpp=tool)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"model.gguf": "", "mmproj.gguf": "--mmproj"}
    (tool / "convert_hf_to_gguf.py").write_text("raise SystemExit('unknown architecture')")
    with pytest.raises(EngineError, match=r"failed for model.gguf: unknown architecture"):
        export_checkpoint(str(tiny_checkpoint), tmp_path / "again", "gguf", llama_cpp=tool)
    assert not (tmp_path / "again").exists()
