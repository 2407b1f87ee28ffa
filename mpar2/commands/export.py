"""Write a checkpoint, its adapter merged, in a layout that servers and other programs read."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="short name, folder or hub id")
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument("--adapter", help="a LoRA adapter for it: folder or hub id")
    parser.add_argument(
        "--as",
        dest="form",
        choices=("whole", "thinker", "adapter", "gguf"),
        default="thinker",
        help="whole: a whole-Omni repository, for vLLM and SGLang; thinker: merged, for transformers and this project; "
        "adapter: the adapter by the names that servers know; gguf: for llama.cpp (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights (default: as the checkpoint's)"
    )
    llama_cpp = os.environ.get("MPAR2_LLAMA_CPP")
    parser.add_argument(
        "--llama-cpp",
        type=Path,
        default=Path(llama_cpp) if llama_cpp else None,
        metavar="DIR",
        help="gguf: llama.cpp's source, which holds convert_hf_to_gguf.py (or MPAR2_LLAMA_CPP)",
    )


def run(options: argparse.Namespace) -> int:
    from mpar2.commands._arms import quiet_libraries
    from mpar2.export import export_checkpoint

    quiet_libraries()
    out = export_checkpoint(
        options.model,
        options.out,
        options.form,
        adapter=options.adapter,
        dtype=options.dtype,
        llama_cpp=options.llama_cpp,
    )
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return 0
