"""What of TRL is overridden has the signature that it was written for."""

from __future__ import annotations

import inspect

from trl import GRPOTrainer

from training.audio_grpo import AudioGRPOTrainer

SIGNATURES = {  # of TRL 1.16, as overridden; when one changes, read what TRL does now before changing it here
    "_tokenize_prompts": ["self", "prompts"],
    "_generate_single_turn": [
        "self",
        "prompt_ids",
        "images",
        "multimodal_fields",
        "num_generations",
        "has_tool_images",
    ],
    "_generate_and_score_completions": ["self", "inputs"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_compute_loss": ["self", "model", "inputs"],
}


def test_what_is_overridden_has_the_signature_that_it_was_written_for():
    for name, expected in SIGNATURES.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == expected, name
        assert list(inspect.signature(getattr(AudioGRPOTrainer, name)).parameters) == expected, name
    passes = list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
    assert passes[:7] == [
        "self",
        "model",
        "input_ids",
        "attention_mask",
        "logits_to_keep",
        "batch_size",
        "compute_entropy",
    ]
    source = inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies)
    assert "model(**model_inputs" in source  # it only calls the model: the hook sees every pass
    assert "self._step % generate_every" in inspect.getsource(GRPOTrainer._prepare_inputs)
