"""The app with broken checkpoints on offer, without its judge, or with recordings gone: it says so and goes on."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from conftest import make_clip

from mpar2.audio import AudioError, wav_bytes
from mpar2.engines.transformers import TransformersEngine
from mpar2.formats import Limits
from pages.running import Asked, Comparer
from pages.services import Offer, Services
from testing.wire import openai_reply, serve

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def services(tiny_checkpoint: Path, tiny_adapter: Path, tmp_path: Path) -> Services:
    """An app with one good checkpoint and all kinds of broken ones on offer."""
    cut = shutil.copytree(tiny_checkpoint, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    forged = shutil.copytree(tiny_checkpoint, tmp_path / "forged")
    (forged / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    pickled = shutil.copytree(tiny_checkpoint, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    other = shutil.copytree(tiny_adapter, tmp_path / "other-adapter")
    (other / "adapter_model.safetensors").write_bytes(b"\0" * 100)
    offers = (
        Offer("good", str(tiny_checkpoint), None),
        Offer("missing", str(tmp_path / "nowhere"), None),
        Offer("cut", str(cut), None),
        Offer("forged", str(forged), None),
        Offer("pickled", str(pickled), None),
        Offer("adapter", str(tiny_checkpoint), str(other)),
    )
    return Services(engine=TransformersEngine(), offers=offers, limits=Limits(max_seconds=8.0), max_new_tokens=8)


def test_broken_checkpoints_are_said_and_the_good_one_still_answers(services: Services, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav_bytes(make_clip()))
    for offer in services.offers[1:]:
        asked = Asked(str(clip), "What?", arms=((offer.name, "cot"),), max_new_tokens=4)
        *_, last = Comparer(services).run(asked, offer.name)
        assert last["status"] == "error" and len(last["arms"]) == 1
        shown = json.dumps(last)
        assert str(tmp_path) not in shown and str(services.offers[0].model) not in shown, "a path of the server"
        assert "Something went wrong on our side" not in shown, offer.name
    *_, last = Comparer(services).run(Asked(str(clip), "What?", arms=(("good", "cot"),), max_new_tokens=4), "me")
    assert last["status"] == "done"
    assert not (ROOT / "pwned").exists() and not Path("pwned").exists()


def test_a_judge_that_is_not_there_leaves_the_comparison(services: Services, tmp_path: Path) -> None:
    from pages.scoring import Judging

    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav_bytes(make_clip()))
    judging = Judging("server", "a-marked-secret", "http://127.0.0.1:9/v1", "judge")
    asked = Asked(str(clip), "What?", arms=(("good", "cot"),), events="dog bark", max_new_tokens=4, judging=judging)
    *_, last = Comparer(services).run(asked, "me")
    assert last["status"] == "done" and last["arms"][0]["text"]
    assert "no connection to http://127.0.0.1:9/v1" in last["arms"][0]["cafe"]["unscored"]
    assert "a-marked-secret" not in json.dumps(last)


def test_a_judge_that_never_answers_holds_nobody(services: Services, tmp_path: Path) -> None:
    """Whoever stops, or leaves, while a judge is waited for lets the next visitor in; the traces stay."""
    from pages.scoring import Judging

    clip = tmp_path / "clip.wav"
    clip.write_bytes(wav_bytes(make_clip()))
    with serve(lambda _: openai_reply("{}", delay_s=600)) as server:
        judging = Judging("server", "k", f"{server.url}/v1", "judge")
        asked = Asked(str(clip), "What?", arms=(("good", "cot"),), events="dog bark", max_new_tokens=4, judging=judging)
        for leave in (False, True):
            documents = Comparer(services).run(asked, "me")
            while next(documents)["arms"][0]["stage"] != "scoring":
                pass
            start = time.monotonic()
            if leave:
                documents.close()
            else:
                services.stops.stop("me")
                *_, last = documents
                assert last["status"] == "stopped" and last["arms"][0]["text"] and last["arms"][0]["cafe"] is None
            assert time.monotonic() - start < 10 and server.calls


def test_a_recording_that_was_deleted_meanwhile_is_said(services: Services, tmp_path: Path) -> None:
    asked = Asked(str(tmp_path / "gone.wav"), "What?", arms=(("good", "cot"),), max_new_tokens=4)
    with pytest.raises(AudioError, match="not here any more.*choose it again"):
        next(Comparer(services).run(asked, "me"))
