"""A vision tower without weights, for models whose class builds one always.

Gemma 3n builds its tower of images with timm, which an audio model does not need.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoModel, PreTrainedModel
from transformers.models.gemma3n.configuration_gemma3n import Gemma3nVisionConfig

__all__ = ["NoVisionConfig"]


class NoVisionConfig(Gemma3nVisionConfig):
    """The sizes of the stock configuration, which the embedder of images is built from."""

    model_type = "gemma3n_no_vision"


class _NoVision(PreTrainedModel):
    config_class = NoVisionConfig
    _supports_sdpa = True

    def __init__(self, config: NoVisionConfig) -> None:
        super().__init__(config)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Leave every module as it is; there is none."""


AutoModel.register(NoVisionConfig, _NoVision)
