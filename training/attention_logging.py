"""The policy's attention to its audio over a completion, as a metric of the training log.

The definitions are those of ``mpar2.attention`` (row t is the query that produced token t; mean over layers and heads).
``ratio`` is the mass on audio positions; ``corrected`` is that mass over the audio share of the visible positions. The
pass is teacher-forced with the engine's probe, on one completion. The attention implementation is restored afterwards.
"""

from __future__ import annotations

from typing import Any

import torch

from training.audio_inputs import AudioInjector, inner_model


@torch.no_grad()
def attention_to_audio(
    model: Any, injector: AudioInjector, number: int, prompt: torch.Tensor, completion: torch.Tensor
) -> tuple[float, float] | None:
    """Measure how much a completion attends to its clip.

    Args:
        model: The policy, wrapped or not.
        injector: Puts the clip into the pass.
        number: Number of the clip (:class:`training.audio_inputs.Clips`).
        prompt: Token ids of the prompt, (L,).
        completion: Token ids of the completion, (T,).

    Returns:
        Means of ratio and corrected ratio over the tokens; None for models with sliding windows, which the probe does
        not support.
    """
    from mpar2.attention import attention_ratio, corrected_ratio
    from mpar2.engines.families import family_of
    from mpar2.engines.probe import AttentionProbe, install, set_text_attention

    network = inner_model(model)
    text = network.config.get_text_config()
    implementation = text._attn_implementation
    if not install(network):
        return None
    training = network.training
    network.eval()
    try:
        ids = torch.cat([prompt, completion])[None, :-1]  # the last token is output only
        positions = torch.nonzero(prompt == injector.audio_token_id).flatten()
        span = range(int(positions[0]), int(positions[-1]) + 1)
        probe = AttentionProbe([span], family_of(network.config.model_type).frame_s, keep="ratio")
        with injector.inject(network, [number]), probe.listen([0], len(completion)):
            network.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        record = probe.record(0, len(completion))
    finally:
        set_text_attention(network, implementation)
        network.train(training)
    return float(attention_ratio(record).mean()), float(corrected_ratio(record).mean())
