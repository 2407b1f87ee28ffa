"""What a comparison weighs: a 30 s clip and two traces of 512 tokens, with attention, as pages carry it.

    python -m benchmarks.page [--seconds 30] [--tokens 512]

The clip is noise, the hardest sound to pack; the model writes all tokens (random weights). ``document`` is the JSON
that the app sends to the page, ``page`` the self-contained page that a visitor downloads, with its scripts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path

from benchmarks.setting import checkpoint, lora, machine, noise
from mpar2.audio import wav_bytes
from mpar2.engines.transformers import TransformersEngine
from pages.export import to_html
from pages.running import Asked, Comparer
from pages.services import Offer, Services

LIMIT_MB = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--tokens", type=int, default=512)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = checkpoint(Path(folder))
        offers = (Offer("base", base, None), Offer("adapted", base, lora(base, Path(folder) / "adapter")))
        clip = Path(folder) / "clip.wav"
        clip.write_bytes(wav_bytes(noise(args.seconds)))
        services = Services(engine=TransformersEngine(), offers=offers, max_new_tokens=args.tokens)
        asked = Asked(
            str(clip),
            "Which sound comes first?",
            "a bell\na piano",
            arms=(("base", "cot"), ("adapted", "mpar2")),
            max_new_tokens=args.tokens,
        )
        *_, document = Comparer(services).run(asked, "benchmark")
    tokens = [arm["token_count"] for arm in document["arms"]]
    print(machine())
    print(f"clip of {args.seconds:g} s, tokens {tokens}\n\n| part | MB | MB compressed |\n| --- | --- | --- |")
    weights = {}
    for name, text in (("document", json.dumps(document)), ("page", to_html(document))):
        data = text.encode()
        weights[name] = len(data) / 1e6
        print(f"| {name} | {weights[name]:.2f} | {len(gzip.compress(data)) / 1e6:.2f} |")
    print(f"\nlimit {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
