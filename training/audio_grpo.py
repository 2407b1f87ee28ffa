"""GRPO with audio: TRL's GRPOTrainer with overrides that put audio into its passes.

TRL 1.16 threads images through its passes but not audio. Generation would use the clip, while the reference and policy
log-probabilities would be computed without it, and no error would be raised. These methods are overridden:

``_tokenize_prompts``                    prompts with one placeholder for each audio position; clips decoded once
``_generate_single_turn``                rollouts with the clips, with the adapter merged
``_get_per_token_logps_and_entropies``   reference, old and policy passes with the clips
``_generate_and_score_completions``      keeps the clip of each completion through TRL's shuffling and splitting
``_calculate_rewards``                   logs groups without variance, zero groups, unscored completions
``_compute_loss``                        selects the clips of the slice; adds PAPO's term if configured
``_prepare_inputs``                      requests the next batch from a rollout server, if not yet (``rollouts.ahead``)
``training_step``                        logs seconds by stage

All passes get their audio from :class:`training.audio_inputs.AudioInjector`: the G completions of a prompt share one
encoding, and a pass without audio is an error. In a single process they also share the prompt's pass
(``training.prefix_sharing``). ``tests/test_grpo.py`` checks the signatures of the overridden methods against the
installed TRL.

PAPO's term (arXiv 2507.06448) needs no judge. It raises the divergence between the policy with the clip and the policy
with the clip masked, so that completions depend on the audio. With ``r = pi(o|clip) / pi(o|masked)`` for each token,
``loss -= weight * mean(r - log r - 1)``. ``entropy_weight`` times the policy's mean surprise is added, so that noise
does not maximise the term. Masking replaces a share of the frames, in spans of 0.4 s, by the tower's output for
silence. Departures: masked frames, where PAPO masks patches of pixels; the term is bounded per token.

Rollouts are made by transformers' ``generate``, or by a server that gets the audio (``training.rollouts``); TRL itself
sends no audio to vLLM.

Limit: one clip in each prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import pad

from mpar2.engines.merge import merged_adapter
from training.audio_inputs import AudioInjector, AudioNotUsedError, Clips, inner_model, tower_is_trained
from training.audio_sft import audio_path, prompt_ids
from training.cost import StageTimer, peak_memory_gb
from training.judge_ahead import JudgeAhead
from training.prefix_sharing import can_share, read_prompts, score_completions, shared_cache
from training.resample import flat_groups, replace_groups
from training.rewards.functions import AudioContrast, Schedule
from training.rollouts import GroupRequest, ServerRollouts

_SPAN = 10  # frames of 40 ms
_MAX_LOG_RATIO = 5.0  # bound of a token's log ratio in PAPO's term, nats


@dataclass(frozen=True)
class PerceptionTerm:
    """PAPO's term: its weight, the masked share of the clip, and the weight of the entropy penalty."""

    weight: float = 0.01
    masked_share: float = 0.6
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.weight < 0 or self.entropy_weight < 0 or not 0 < self.masked_share <= 1:
            raise ValueError(f"{self}: weights must not be negative, masked_share above 0 and at most 1")


class AudioGRPOTrainer(GRPOTrainer):
    """GRPO on prompts with a clip.

    Args:
        model: The checkpoint, bare or with a PEFT adapter.
        processor: The checkpoint's (``mpar2.engines.checkpoint.load_processor``).
        clips: Audio inputs shared with another trainer.
        perception_term: PAPO's term.
        watch_attention_every: Steps between two logs of the attention to audio; 0 for none.
        rollouts: Client of a rollout server; by default transformers' ``generate`` makes the completions.
        resample_rounds: Most replacements of groups without variance in a step (``training.resample``).
        schedules: Scheduled weights, by the number of their reward (``training.rewards.functions``).
        rest: Passed on to TRL's ``GRPOTrainer``.
    """

    def __init__(
        self,
        model: Any,
        *,
        processor: Any,
        clips: Clips | None = None,
        perception_term: PerceptionTerm | None = None,
        watch_attention_every: int = 0,
        rollouts: ServerRollouts | None = None,
        resample_rounds: int = 0,
        schedules: Mapping[int, Schedule] | None = None,
        **rest: Any,
    ) -> None:
        args = rest["args"]
        if args.use_vllm or args.use_transformers_continuous_batching:
            raise ValueError(
                "rollouts must be made by transformers' generate or by a rollout server (`rollouts:` in the recipe): "
                "TRL sends no audio to vLLM nor to continuous batching, so the policy would be trained without audio"
            )
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        if not hasattr(inner.config, "image_token_id"):  # TRL reads it of every model with a processor
            inner.config.image_token_id = inner.config.audio_token_id
        args.generation_kwargs = {"suppress_tokens": _placeholders(inner.config)} | (args.generation_kwargs or {})
        self._clip_numbers: list[int] = []
        self._last: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._audio_use_checked = False
        self._perception_term = perception_term
        self._watch_every = watch_attention_every
        self._timer = StageTimer()
        self._rollout_tokens = 0
        self._resample_rounds = resample_rounds
        self._schedules = dict(schedules or {})
        super().__init__(model, processing_class=processor, **rest)
        self.clips = clips or Clips(processor)
        # By now the trainer has set which weights are trained: LoRA of the text stack, LoRA of all, or all weights.
        self.injector = AudioInjector(
            self.clips,
            inner.config.audio_token_id,
            frozen=not tower_is_trained(self.model),
            timer=self._timer,
        )
        self._resample_generator = torch.Generator().manual_seed(args.seed + self.accelerator.process_index)
        # The contrast and the early judge need the policy, which exists only now.
        for function in self.reward_funcs:
            if isinstance(function, AudioContrast):
                function.measure = self._audio_contrast
        template = any(getattr(self._tokenizer, name, None) for name in ("response_template", "response_schema"))
        loop = getattr(self, "async_loop", None)  # only where a reward is asynchronous
        self._judge = None if loop is None or template else JudgeAhead(self.reward_funcs, processor, loop)
        self._rows: Sequence[Mapping[str, Any]] = ()  # of the batch that is generated
        self._next_rows: Sequence[Mapping[str, Any]] = ()  # of the next one
        if args.dataloader_num_workers == 0:
            self.data_collator = self._load_ahead
        self._rollouts = rollouts
        if rollouts is not None:
            self._use_server(rollouts)
        self.add_callback(_ResumeCallback(self))

    def _use_server(self, rollouts: ServerRollouts) -> None:
        """Make TRL read completions and importance ratios from a server, as from vLLM."""
        sampling = {
            "max_tokens": self.max_completion_length,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "logit_bias": {str(token): -100 for token in _placeholders(inner_model(self.model).config)},
        }
        rollouts.attach(self, sampling, self._timer, arrived=self._judge_group, meanwhile=self._encode_clips)
        self.use_vllm = True  # read by TRL at each step: sync, ratios and their truncation
        self.vllm_generation = rollouts
        self._last_loaded_step = -1

    @property
    def _logged(self) -> dict[str, list[float]]:
        """The metrics that TRL logs next."""
        return self._metrics["train" if self.model.training else "eval"]

    def save_policy(self, folder: Path) -> None:
        """Write the current adapter; every process takes part, the main one writes."""
        state = self.accelerator.get_state_dict(self.model_wrapped)  # gathers sharded weights
        if self.accelerator.is_main_process:
            policy = self.accelerator.unwrap_model(self.model_wrapped)
            policy.save_pretrained(folder, state_dict=state, selected_adapters=["default"])

    # work that overlaps with generation

    def _load_ahead(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Start decoding the clips of a batch; accelerate fetches it while the previous one is trained on."""
        self._next_rows = rows
        self.clips.load_ahead(audio_path(row["prompt"]) for row in rows)
        return rows

    def _encode_clips(self) -> None:
        if self.injector.frozen:
            self.injector.frames(self.accelerator.unwrap_model(self.model), self._clip_numbers)

    def _judge_group(self, request: GroupRequest, completions: list[list[int]]) -> None:
        if self._judge and request.row:
            self._judge.ask([request.row] * len(completions), completions)

    def _ask_ahead(self) -> None:
        """Request the next batch from the server, unless it equals the last one."""
        rows, size = self._next_rows, self.num_generations
        if self._rollouts is not None and self._rollouts.ahead and rows and rows is not self._rows:
            requests = [GroupRequest(audio_path(row["prompt"]), row["prompt"], row) for row in rows]
            if requests != self._rollouts.requests:
                self._rollouts.ask_ahead(requests, size)

    # prompts and rollouts

    def _tokenize_prompts(self, prompts: list):
        numbers = [self.clips.number(audio_path(prompt)) for prompt in prompts]
        ids: dict[tuple[int, str], list[int]] = {}
        rows = []
        for number, prompt in zip(numbers, prompts, strict=True):
            key = (number, repr(prompt))
            if key not in ids:  # the G copies of a prompt are tokenised once
                ids[key] = prompt_ids(self.processing_class, prompt, self.clips.mel(number).positions)
            rows.append(ids[key])
        self._clip_numbers, self._prompts = numbers, rows
        if self._rollouts is not None:
            dataset_rows = self._rows if len(self._rows) == len(prompts) else [{}] * len(prompts)
            paths = [self.clips.path(number) for number in numbers]
            self._rollouts.requests = [GroupRequest(*row) for row in zip(paths, prompts, dataset_rows, strict=True)]
        return rows, None, {}

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        rest = (images, multimodal_fields, num_generations, has_tool_images)
        network = self.accelerator.unwrap_model(self.model)
        with self._timer.stage("rollout"):
            if self._rollouts is not None:
                completions, logprobs = super()._generate_single_turn(prompt_ids, *rest)
                if self.model.training and not self._resample_rounds:  # else resampling would wait for these
                    self._ask_ahead()  # the server then works during judging and all passes
            elif can_share(self.accelerator, network):
                with merged_adapter(network):
                    completions, logprobs = self._continue_prompts(network, prompt_ids), None
            elif self.is_fsdp_enabled or self.is_deepspeed_enabled:  # shards cannot be merged
                with self.injector.inject(network, self._clip_numbers):
                    completions, logprobs = super()._generate_single_turn(prompt_ids, *rest)
            else:
                with self.injector.inject(network, self._clip_numbers), merged_adapter(network):
                    completions, logprobs = super()._generate_single_turn(prompt_ids, *rest)
        self._rollout_tokens += sum(len(ids) for ids in completions)
        if self._rollouts is None and self._judge and len(self._rows) == len(completions):
            self._judge.ask(self._rows, completions)
        return completions, logprobs

    @torch.no_grad()
    def _continue_prompts(self, network: Any, prompts: list[list[int]]) -> list[list[int]]:
        """Return completions up to their end of turn; each distinct prompt takes one pass."""
        end_tokens = torch.tensor(self.eos_token_ids)
        rows = [torch.tensor(prompt, device=self.accelerator.device) for prompt in prompts]
        ids = pad(rows, padding_value=self._tokenizer.pad_token_id, padding_side="left")
        mask = pad([torch.ones_like(row) for row in rows], padding_value=0, padding_side="left")
        unwrapped = unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, generation_kwargs=self.generation_kwargs
        )
        with unwrapped as model, self.accelerator.autocast():
            prompts_cache, group, _ = read_prompts(network, self.injector, ids, mask, self._clip_numbers)
            inner_model(network).model.rope_deltas = None  # of another pass: Qwen2.5-Omni would add them to positions
            with shared_cache(network, prompts_cache, group, self.max_completion_length + 1) as cache:
                sequences = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=cache,
                    generation_config=self.generation_config,
                )
        completions = []
        for row in sequences[:, ids.shape[1] :].cpu():
            stops = torch.isin(row, end_tokens).nonzero()
            completions.append(row[: int(stops[0]) + 1].tolist() if len(stops) else row.tolist())
        return completions

    def _generate_and_score_completions(self, inputs):
        output = self._score_batch(inputs)
        if not self._audio_use_checked:
            self._audio_use_checked = self._check_audio_is_used(output)
        if self._rollouts is not None:
            difference = self._rollouts.check(
                output["sampling_per_token_logps"], output["old_per_token_logps"], output["completion_mask"]
            )
            self._logged["rollout/logp_difference"].append(difference)
        if self._watch_every and self.state.global_step % self._watch_every == 0:
            self._watch_attention(output)
        if self._resample_rounds and self.model.training:
            output = self._resample(output)
        return output

    def _score_batch(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a generation batch with the clip of each row, which TRL shuffles and splits with the other columns."""
        for number, schedule in self._schedules.items():
            self.reward_weights[number] = schedule.at(self.state.global_step)
        self._rows = inputs
        output = super()._generate_and_score_completions(inputs)
        output["clips"] = torch.tensor(self._clip_numbers, device=output["completion_ids"].device)
        return output

    def _resample(self, output: dict[str, Any]) -> dict[str, Any]:
        """Replace groups without variance by groups of other prompts, at most ``resample_rounds`` times."""
        size, replaced = self.num_generations, 0
        for _ in range(self._resample_rounds):
            flat = flat_groups(output["advantages"], size)
            # Rewards are gathered over all processes, so each process must generate the same number of groups.
            count = int(self.accelerator.gather(torch.tensor([len(flat)], device=self.accelerator.device)).max())
            if count == 0:
                break
            rows = torch.randint(len(self.train_dataset), (count,), generator=self._resample_generator).tolist()
            fresh = self._score_batch([self.train_dataset[row] for row in rows for _ in range(size)])
            useful = [group for group in range(count) if group not in flat_groups(fresh["advantages"], size)]
            places = flat[: len(useful)]
            pad_id = self._tokenizer.pad_token_id
            output = replace_groups(output, fresh, places, useful[: len(places)], size, pad_id)
            replaced += len(places)
        tokens = self.accelerator.gather(output["completion_mask"].sum()[None]).sum()
        output["num_items_in_batch"] = tokens
        self._clip_numbers = output["clips"].tolist()
        self._metrics["train"]["resampled_groups"].append(replaced)
        return output

    def _prepare_inputs(self, generation_batch):
        prepared = super()._prepare_inputs(generation_batch)
        if self.model.training:
            self._ask_ahead()  # this batch has its completions and is not trained on yet
        return prepared

    def training_step(self, model, inputs, num_items_in_batch):
        with self._timer.stage("passes"):
            loss = super().training_step(model, inputs, num_items_in_batch)
        if self._step % self.current_gradient_accumulation_steps == 0:  # TRL has already counted this pass
            metrics, seconds = self._metrics["train"], self._timer.take()
            for stage, value in seconds.items():
                metrics[f"time/{stage}_s"].append(value)
            if seconds["rollout"] > 0:
                metrics["rollout/tokens_per_s"].append(self._rollout_tokens / seconds["rollout"])
            metrics["memory/peak_gb"].append(peak_memory_gb())
            self._rollout_tokens = 0
        return loss

    # passes

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **rest
    ):
        numbers = self._clip_numbers
        if len(numbers) != len(input_ids):
            raise AudioNotUsedError(f"a pass has {len(input_ids)} rows and {len(numbers)} clips: whose audio are they?")
        network = self.accelerator.unwrap_model(model)
        share = can_share(self.accelerator, network) and not rest.get("compute_aux_loss")
        # Without gradients the clips are encoded once for all chunks; with them TRL passes everything at once.
        frames = None if torch.is_grad_enabled() else self.injector.frames(network, numbers)
        size = batch_size or len(input_ids)
        outputs = []
        for first in range(0, len(input_ids), size):
            rows = slice(first, first + size)
            if share:
                with self.accelerator.autocast():
                    scores = score_completions(
                        network, self.injector, input_ids[rows], attention_mask[rows], logits_to_keep, numbers[rows]
                    )
                outputs.append((*scores, None))
                continue
            with self.injector.inject(network, numbers[rows], None if frames is None else frames[rows]):
                outputs.append(
                    super()._get_per_token_logps_and_entropies(
                        model, input_ids[rows], attention_mask[rows], logits_to_keep, **rest
                    )
                )
        logps, entropies, aux = zip(*outputs, strict=True)
        self._last = torch.cat(logps), torch.cat(entropies) if entropies[0] is not None else None
        return *self._last, torch.stack(aux).mean() if aux[0] is not None else None

    def _compute_loss(self, model, inputs):
        self._clip_numbers = inputs["clips"].tolist()
        loss = super()._compute_loss(model, inputs)
        term = self._perception_term
        if term is None or not (term.weight or term.entropy_weight):
            return loss
        assert self._last is not None
        return loss + self._perception_loss(model, inputs, self._last[0], term)

    def _perception_loss(self, model, inputs, logps: torch.Tensor, term: PerceptionTerm) -> torch.Tensor:
        network = self.accelerator.unwrap_model(model)
        frames = _mask_spans(
            [row.detach() for row in self.injector.frames(network, self._clip_numbers)],
            self.injector.silent_frames(network, self._clip_numbers),
            term.masked_share,
            seed=self.state.global_step,
        )
        ids, attention_mask = _sequences(inputs)
        with self.injector.inject(network, self._clip_numbers, frames):
            masked, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(
                self, model, ids, attention_mask, inputs["completion_ids"].size(1)
            )
        mask = inputs["completion_mask"]
        log_ratio = (logps - masked).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        divergence = _mean(log_ratio.exp() - log_ratio - 1, mask)
        surprise = -_mean(logps, mask)
        self._logged["perception_divergence"].append(self.accelerator.gather(divergence.detach()).mean().item())
        steps = self.current_gradient_accumulation_steps if self.model.training else 1
        return (term.entropy_weight * surprise - term.weight * divergence) / steps

    # guards and logs

    @torch.no_grad()
    def _check_audio_is_used(self, output: dict[str, Any]) -> bool:
        """Score one completion with its clip and with silence; equal log-probabilities mean that no audio is used.

        Returns:
            Whether there was a completion to check; all may be masked as truncated.
        """
        row = int(output["completion_mask"].sum(dim=1).argmax())
        mask = output["completion_mask"][row : row + 1]
        if not mask.any():
            return False
        ids, attention_mask = (tensor[row : row + 1] for tensor in _sequences(output))
        numbers = self._clip_numbers
        real, silent = self._with_clip_and_silence(ids, attention_mask, mask.shape[1], numbers[row : row + 1])
        difference = float(((real - silent) * mask).abs().max())
        if difference == 0.0:
            raise AudioNotUsedError(
                f"the policy says the same of '{self.clips.path(numbers[row])}' and of silence: its audio does not "
                "reach it (is the clip itself silent?)"
            )
        self._logged["clip_vs_silence"].append(difference)
        if self._rollouts is not None:
            server = output["sampling_per_token_logps"][row : row + 1]
            self._rollouts.check_audio(server, real, silent, mask)
        return True

    @torch.no_grad()
    def _with_clip_and_silence(
        self, ids: torch.Tensor, attention_mask: torch.Tensor, keep: int, numbers: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities (N, keep) of the last tokens of rows, with their clips and with silence.

        Both come from the same code path, so that any difference comes from the audio.
        """
        network = self.accelerator.unwrap_model(self.model)
        passes = []
        for frames_of in (self.injector.frames, self.injector.silent_frames):
            frames = frames_of(network, numbers)
            with self.injector.inject(network, numbers, frames):
                outputs = GRPOTrainer._get_per_token_logps_and_entropies(self, self.model, ids, attention_mask, keep)
            passes.append(outputs[0])
        return passes[0], passes[1]

    def _audio_contrast(self, completions: Sequence[Sequence[int]]) -> list[float]:
        """Return log-probability with the clip minus that with silence, in nats a token, for each completion."""
        device, fill = self.accelerator.device, self._tokenizer.pad_token_id
        values: list[float] = []
        for first in range(0, len(completions), self.args.per_device_train_batch_size):
            rows = range(first, min(first + self.args.per_device_train_batch_size, len(completions)))
            padded = []
            for sequences, side in ((self._prompts, "left"), (completions, "right")):
                tokens = [torch.tensor(list(sequences[row]), device=device) for row in rows]
                padded.append((pad(tokens, fill, side), pad([torch.ones_like(row) for row in tokens], 0, side)))
            (prompts, prompt_mask), (completion_ids, mask) = padded
            real, silent = self._with_clip_and_silence(
                torch.cat([prompts, completion_ids], dim=1),
                torch.cat([prompt_mask, mask], dim=1),
                completion_ids.shape[1],
                [self._clip_numbers[row] for row in rows],
            )
            values += (((real - silent) * mask).sum(1) / mask.sum(1).clamp(min=1)).tolist()
        return values

    @torch.no_grad()
    def _watch_attention(self, output: dict[str, Any]) -> None:
        """Log the audio-attention ratio over the first completion; skipped under sharding."""
        from training.attention_logging import attention_to_audio

        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return
        length = int(output["completion_mask"][0].sum())
        attention = attention_to_audio(
            self.accelerator.unwrap_model(self.model),
            self.injector,
            self._clip_numbers[0],
            output["prompt_ids"][0][output["prompt_mask"][0].bool()],
            output["completion_ids"][0][:length],
        )
        if attention is not None:
            for name, value in zip(("ratio", "corrected"), attention, strict=True):
                self._logged[f"audio_attention/{name}"].append(value)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self._timer.stage("judge"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        size = self.num_generations if self.model.training else self.num_generations_eval
        groups = rewards.view(-1, size, rewards.shape[1])
        unscored = torch.isnan(groups)
        values = torch.nan_to_num(groups)
        for i, name in enumerate(self.reward_func_names):
            spread = values[..., i].amax(1) - values[..., i].amin(1)
            shares = {
                "zero_variance_groups": spread == 0,
                "zero_groups": (values[..., i] == 0).all(1),
                "unscored": unscored[..., i],
            }
            for share, rows in shares.items():
                self._logged[f"rewards/{name}/{share}"].append(rows.float().mean().item())
            if i in self._schedules:
                self._logged[f"rewards/{name}/weight"].append(self.reward_weights[i].item())
        return rewards


class _ResumeCallback(TrainerCallback):
    """After a resume, count passes from where the run stopped.

    TRL starts at 0, and would reuse completions of one prompt for the next if the run was stopped between two
    generations.
    """

    def __init__(self, trainer: AudioGRPOTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args, state, control, **rest) -> None:
        self._trainer._step = state.global_step * args.gradient_accumulation_steps
        self._trainer._buffered_inputs = None
        if self._trainer._judge is not None:
            self._trainer._judge.open()

    def on_train_end(self, args, state, control, **rest) -> None:
        if self._trainer._rollouts is not None:
            self._trainer._rollouts.drop_pending()
        if self._trainer._judge is not None:
            self._trainer._judge.close()


def grpo_config(**options: Any) -> GRPOConfig:
    """Make TRL's configuration with the options that audio needs.

    Raises:
        ValueError: An option contradicts these.
    """
    if options.get("remove_unused_columns", False):
        raise ValueError("remove_unused_columns must be False: rewards read the dataset's columns")
    return GRPOConfig(**(options | {"remove_unused_columns": False}))


def _placeholders(config: Any) -> list[int]:
    """Return the placeholder tokens of media; sampling one would require frames that do not exist."""
    names = ("audio_token_id", "image_token_id", "video_token_id")
    return sorted({getattr(config, name) for name in names if getattr(config, name, None) is not None})


def _sequences(batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask of prompts with their completions, (N, T) each."""
    ids, mask = (torch.cat([batch[f"prompt_{key}"], batch[f"completion_{key}"]], dim=1) for key in ("ids", "mask"))
    return ids, mask


def _mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1)


def _mask_spans(
    frames: Sequence[torch.Tensor], silent: Sequence[torch.Tensor], share: float, seed: int
) -> list[torch.Tensor]:
    """Return each clip with a share of its spans of 0.4 s silenced; equal seeds give equal masks."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for real, quiet in zip(frames, silent, strict=True):
        spans = -(-len(real) // _SPAN)
        masked = torch.randperm(spans, generator=generator)[: max(1, round(share * spans))]
        is_masked = torch.zeros(spans, dtype=torch.bool)
        is_masked[masked] = True
        mask = is_masked.repeat_interleave(_SPAN)[: len(real)].to(real.device)
        rows.append(torch.where(mask[:, None], quiet.to(real.dtype), real))
    return rows
