"""Speedup of encoding a clip once for the G completions of a prompt, over encoding it for each.

    python -m benchmarks.encode_once [--model tiny-base] [--generations 8] [--seconds 10] [--tokens 64] [--repeat 3]

The passes of one GRPO step on one prompt: a policy pass with gradients, and a reference pass without. ``stock`` passes
mel features to the model for each row, as TRL does with images; ``once`` is ``AudioInjector`` with the tower frozen
(encoding cached from the generation) and with the tower trained (encoded once in each pass). The log-probabilities of
the three must agree to 1e-5 before any time is printed. On a CPU processor time of all threads is measured, so that
other work on the machine does not count. Median of ``--repeat`` runs. Without ``--model``: random weights of the tiny
pair's size, which take the same time as trained ones.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch

from benchmarks.setting import QUESTION, checkpoint, machine, noise
from mpar2.audio import SAMPLE_RATE
from mpar2.engines.checkpoint import load_checkpoint
from training.audio_inputs import AudioInjector, Clips
from training.audio_sft import prompt_ids


def _logps(model, ids: torch.Tensor, keep: int, **audio) -> torch.Tensor:
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **audio).logits
    targets = ids[:, -keep:]
    return torch.log_softmax(logits[:, -keep - 1 : -1].float(), -1).gather(-1, targets[..., None])[..., 0]


def _time(work: Callable[[], None], repeat: int, device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(repeat + 1):  # the first warms up
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tokens", type=int, default=64, help="of each completion")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        loaded = load_checkpoint(args.model or checkpoint(Path(temporary)))
        model, device = loaded.model, loaded.device
        path = Path(temporary) / "clip.wav"
        soundfile.write(path, noise(args.seconds).samples, SAMPLE_RATE)
        clips = Clips(loaded.processor)
        mel = clips.mel(clips.number(str(path)))
        from mpar2.prompts import build_messages

        prompt = prompt_ids(loaded.processor, build_messages(QUESTION, "mpar2"), mel.positions)
    # Random completions of equal length, so that the timing does not depend on the weights.
    generator = torch.Generator().manual_seed(0)
    completions = torch.randint(300, 900, (args.generations, args.tokens), generator=generator)
    ids = torch.cat([torch.tensor([prompt] * args.generations), completions], dim=1).to(device)
    rows = [0] * args.generations
    features = mel.features.expand(args.generations, -1, -1).to(device, loaded.dtype)
    mask = mel.mask.expand(args.generations, -1).to(device)
    policy_weights = [weight for name, weight in model.named_parameters() if "language_model" in name]
    tower_weights = [weight for name, weight in model.named_parameters() if "audio_tower" in name]

    def stock(grad: bool) -> torch.Tensor:
        with torch.set_grad_enabled(grad):
            return _logps(model, ids, args.tokens, input_features=features, feature_attention_mask=mask)

    def once(injector: AudioInjector, grad: bool) -> torch.Tensor:
        with torch.set_grad_enabled(grad), injector.inject(model, rows):
            return _logps(model, ids, args.tokens)

    def step(forward: Callable[[bool], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            forward(False)
            forward(True).sum().backward()
            model.zero_grad()

        return run

    audio = model.config.audio_token_id
    results = {}
    # Equal log-probabilities are required before timing, so that both ways compute the same.
    for name, train_tower in (("tower frozen", False), ("tower trained", True)):
        model.requires_grad_(False)
        for weight in policy_weights + (tower_weights if train_tower else []):
            weight.requires_grad_(True)
        injector = AudioInjector(clips, audio, frozen=not train_tower)
        with torch.no_grad():
            gap = float((stock(False) - once(injector, False)).abs().max())
        limit = 1e-5 if loaded.dtype == torch.float32 else 0.1
        if gap > limit:
            raise SystemExit(f"{name}: log-probabilities differ by {gap:.1e}, more than {limit:g}")
        slow = _time(step(stock), args.repeat, device)
        fast = _time(step(lambda grad, injector=injector: once(injector, grad)), args.repeat, device)
        results[name] = (slow, fast, gap)
    print(
        f"{loaded.name} on {device}, {args.generations} completions, {args.seconds:g} s of audio, {args.tokens} tokens"
    )
    for name, (slow, fast, gap) in results.items():
        print(f"{name}: stock {slow:.3f} s, once {fast:.3f} s, {slow / fast:.2f} x, log-probs agree to {gap:.0e}")


if __name__ == "__main__":
    main()
