"""Run llama.cpp's converter on exports of :mod:`mpar2.export`, in a process of its own, since it patches the converter.

    python -m mpar2.gguf_converter LLAMA_CPP FOLDER --outfile FILE [--mmproj]

Two patches of the converter in LLAMA_CPP: an unknown byte-level BPE counts as Qwen's (tokenizers of this project have
its pre-tokenizer but a vocabulary of their own), and only the audio part of Qwen2.5-Omni's projector is written, since
no images are used.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Run the converter with the arguments of ``sys.argv``."""
    root = Path(sys.argv.pop(1))
    sys.path[:0] = [str(root / "gguf-py"), str(root)]
    if (root / "conversion").is_dir():
        _adapt()
    sys.argv[0] = str(root / "convert_hf_to_gguf.py")
    runpy.run_path(sys.argv[0], run_name="__main__")


def _adapt() -> None:
    import gguf
    from conversion import base, qwenvl

    original_pre_tokenizer = base.TextModel.get_vocab_base_pre

    def pre_tokenizer(self, tokenizer) -> str:
        try:
            return original_pre_tokenizer(self, tokenizer)
        except NotImplementedError:
            return "qwen2"

    base.TextModel.get_vocab_base_pre = pre_tokenizer
    qwenvl.Qwen2VLModel.set_vocab = lambda self: self._set_vocab_gpt2()  # the original requires sentencepiece

    omni, audio = qwenvl.Qwen25OmniModel, qwenvl.Qwen25AudioModel
    original_filter = omni.filter_tensors.__func__

    def parameters(self) -> None:
        audio.set_gguf_parameters(self)
        self.gguf_writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN2A)

    omni.has_vision_encoder = False
    omni.get_vision_config = lambda self: None
    omni.set_gguf_parameters = parameters
    omni.filter_tensors = classmethod(lambda cls, item: None if "visual." in item[0] else original_filter(cls, item))
    # the constructor of the vision class reads sizes of vision
    qwenvl.Qwen2VLVisionModel.__init__ = lambda self, *args, **options: audio.__init__(self, *args, **options)


if __name__ == "__main__":
    main()
