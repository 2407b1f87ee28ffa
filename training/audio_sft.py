"""SFT with audio, on TRL's SFTTrainer: a collator that refuses batches without audio, and loss on the completion alone.

TRL 1.16 does not support audio. By default its SFTTrainer drops the features and trains on the text, and the loss looks
normal. So this project has its own collator, which checks every batch:

* each prompt holds exactly as many audio placeholders as its clip has positions, each completion none;
* features are present, finite, and not the same for all clips of a batch whose clips differ;
* labels cover the completion and its end-of-turn token, and nothing else.

An example is a row of ``training.data``: ``prompt`` (chat messages, with the path of the clip in the audio part) and
``completion`` (the assistant's text). Prompt and completion are tokenised separately, as in generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from trl import SFTConfig, SFTTrainer

from mpar2.engines.chat import render_template
from mpar2.engines.families import family_of_processor, stack_features
from mpar2.prompts import user_message
from training.audio_inputs import AudioNotUsedError, Clips
from training.rewards.sample import completion_text

_IGNORED = -100


def audio_path(prompt: Sequence[Mapping[str, Any]]) -> str:
    """Return the path of the one clip of a prompt.

    Raises:
        AudioNotUsedError: The prompt holds no clip, or several.
    """
    paths = [
        part.get("path") or part.get("audio") or part.get("audio_url")
        for message in prompt
        if not isinstance(message["content"], str)
        for part in message["content"]
        if part.get("type") == "audio"
    ]
    if len(paths) != 1 or not isinstance(paths[0], str):
        raise AudioNotUsedError(
            f'a prompt holds {len(paths)} clips ({paths[:3]}): each must hold one, as {{"type": "audio", "path": "…"}}'
        )
    return paths[0]


def prompt_ids(processor: Any, prompt: Sequence[Mapping[str, Any]], positions: int) -> list[int]:
    """Tokenise a prompt with as many audio placeholders as its clip has positions.

    Raises:
        AudioNotUsedError: The prompt holds another number of placeholders.
    """
    messages = [_without_paths(message) for message in prompt]
    family = family_of_processor(processor)
    _, token = family.audio_token(processor)
    text = render_template(processor, messages)
    ids = family.prompt_ids(processor, text, positions)
    if ids.count(token) != positions:
        raise AudioNotUsedError(
            f"the prompt holds {ids.count(token)} audio placeholders and its clip {positions} "
            "positions: the chat template writes no audio, or the question contains the placeholder"
        )
    return ids


def _without_paths(message: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the keys that the template reads: tables give every part all keys, and templates test for keys."""
    content = message["content"]
    if not isinstance(content, str):
        content = [
            user_message("")[0]["content"][0] if part["type"] == "audio" else {"type": "text", "text": part["text"]}
            for part in content
        ]
    return {"role": message["role"], "content": content}


class AudioCollator:
    """Collate rows of a dataset to a batch with audio, or raise :class:`AudioNotUsedError`.

    An example of more than ``max_tokens`` is an error.
    """

    def __init__(self, processor: Any, clips: Clips, *, max_tokens: int | None = None) -> None:
        self._processor = processor
        self._clips = clips
        self._max_tokens = max_tokens
        self._pad = processor.tokenizer.pad_token_id
        self._end = processor.tokenizer.eos_token_id

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        numbers = [self._clips.number(audio_path(example["prompt"])) for example in examples]
        mels = [self._clips.mel(number) for number in numbers]
        rows = [self.tokenize(example, mel.positions) for example, mel in zip(examples, mels, strict=True)]
        width = max(len(tokens) for tokens, _ in rows)
        ids = torch.full((len(rows), width), self._pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), width), _IGNORED)
        for i, (tokens, start) in enumerate(rows):
            size = len(tokens)
            ids[i, :size] = torch.tensor(tokens)
            mask[i, :size] = 1
            labels[i, start:size] = ids[i, start:size]
        features, feature_mask = stack_features(mels)
        batch = {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": labels,
            "input_features": features,
            self._clips.family.mask_name: feature_mask,
        }
        self.check(batch, numbers, [mel.positions for mel in mels])
        return batch

    def tokenize(self, example: Mapping[str, Any], positions: int) -> tuple[list[int], int]:
        """Return the token ids of one example, and the index at which its completion begins.

        Raises:
            ValueError: The completion is empty, or the example is too long.
            AudioNotUsedError: The prompt holds another number of placeholders.
        """
        prompt = prompt_ids(self._processor, example["prompt"], positions)
        text = completion_text(example["completion"])
        completion = self._processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not completion:
            raise ValueError(f"the completion for '{audio_path(example['prompt'])}' is empty: nothing can be learnt")
        ids = [*prompt, *completion, self._end]
        if self._max_tokens is not None and len(ids) > self._max_tokens:
            raise ValueError(
                f"an example has {len(ids)} tokens ({len(prompt)} of the prompt), the limit is {self._max_tokens}: "
                "raise max_tokens, or filter long examples out; cutting would cut the answer off"
            )
        return ids, len(prompt)

    def check(self, batch: Mapping[str, torch.Tensor], numbers: Sequence[int], positions: Sequence[int]) -> None:
        """Refuse a batch that would train the model without audio.

        Raises:
            AudioNotUsedError: Features are missing, invalid or identical, or placeholders do not match; see the module.
        """
        features = batch.get("input_features")
        if features is None or batch.get("feature_attention_mask") is None:
            raise AudioNotUsedError("the batch has no audio features")
        audio = batch["input_ids"] == self._processor.audio_token_id
        if audio.sum(-1).tolist() != list(positions):
            raise AudioNotUsedError(
                f"placeholders {audio.sum(-1).tolist()} do not match the clips' positions {list(positions)}"
            )
        if bool((audio & (batch["labels"] != _IGNORED)).any()):
            raise AudioNotUsedError("a completion contains the audio placeholder: it would be learnt as text")
        if not bool(torch.isfinite(features).all()):
            raise AudioNotUsedError("the audio features hold NaN or infinity: a clip is damaged")
        if len(set(numbers)) > 1 and bool((features == features[:1]).all()):
            paths = [self._clips.path(number) for number in dict.fromkeys(numbers)][:3]
            raise AudioNotUsedError(f"different clips have equal features ({', '.join(paths)}): are they all silent?")


class AudioSFTTrainer(SFTTrainer):
    """SFTTrainer that requires audio features in every forward pass."""

    def __init__(
        self, model: Any, *, processor: Any, clips: Clips | None = None, max_tokens: int | None = None, **rest
    ):
        collator = AudioCollator(processor, clips or Clips(processor), max_tokens=max_tokens)
        super().__init__(model, data_collator=collator, processing_class=processor, **rest)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if inputs.get("input_features") is None:
            raise AudioNotUsedError("a batch without audio features reached the trainer: it would train deaf")
        # mel features arrive as float32; the tower may run in another precision without autocast
        tower = self.accelerator.unwrap_model(model).get_input_embeddings().weight.dtype
        inputs["input_features"] = inputs["input_features"].to(tower)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


def sft_config(**options: Any) -> SFTConfig:
    """Make TRL's configuration with the options that audio needs: our collator gets the rows unchanged and uncut.

    Raises:
        ValueError: An option contradicts these.
    """
    required = {
        "remove_unused_columns": False,
        "max_length": None,
        "packing": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    for name, value in required.items():
        if options.get(name, value) != value:
            raise ValueError(f"{name} must be {value!r} for training with audio, not {options[name]!r}")
    return SFTConfig(**(options | required))
