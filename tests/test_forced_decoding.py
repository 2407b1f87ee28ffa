"""Forced lengths and hidden audio: what the model chooses must be what it would choose of the text as it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_clip

from mpar2.attention import attention_ratio, corrected_ratio
from mpar2.engines import forced_decoding
from mpar2.engines.base import Arm, Decoding, EngineError, Generation, Request
from mpar2.engines.checkpoint import load_checkpoint
from mpar2.engines.decode import Sampler, Session
from mpar2.engines.inputs import AudioFeatureCache, build_prompt
from mpar2.engines.probe import AttentionProbe, install
from mpar2.engines.transformers import TransformersEngine
from mpar2.question import Question

CLIP = make_clip(1.2, 3)
QUESTION = Question("Which sound comes first?", ("dog bark", "bell"), "dog bark")
SHIPPED = Arm("mpar2", "tiny-mpar2", mode="mpar2")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(device="cpu")


@pytest.fixture(params=["omni", "qwen2_audio"])
def folder(request: pytest.FixtureRequest, tiny_checkpoint: Path, qwen2_audio_checkpoint: Path) -> Path:
    return tiny_checkpoint if request.param == "omni" else qwen2_audio_checkpoint


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch):
    """Makes the model want a text first; what it wants after that is its own."""

    class Wanting(Sampler):
        wanted: list[int] = []

        def choose(self, logits, written):
            own = super().choose(logits, written)
            return type(self).wanted.pop(0) if type(self).wanted else own

    def want(folder: Path, text: str, *, ends: bool = False, most: int | None = None) -> int:
        tokenizer = load_checkpoint(str(folder), device="cpu").processor.tokenizer
        wanted = tokenizer(text)["input_ids"][:most]
        Wanting.wanted = wanted + [tokenizer.eos_token_id] * ends
        return len(wanted)

    monkeypatch.setattr(forced_decoding, "Sampler", Wanting)
    return want


def write(engine: TransformersEngine, arm: Arm, *, attention="ratio", **decoding) -> Generation:
    return engine.generate_batch([Request(CLIP, QUESTION, arm)], Decoding(**decoding), attention=attention)[0]


def ids(generation: Generation) -> list[int]:
    return [token.id for token in generation.tokens]


def prompted(arm: Arm):
    checkpoint = load_checkpoint(arm.model, device="cpu")
    (heard,) = AudioFeatureCache(checkpoint).get([CLIP], [None])
    return checkpoint, build_prompt(checkpoint, QUESTION, arm, heard, None)


def likeliest(arm: Arm, written: list[int], deaf_from: int | None = None) -> list[int]:
    """The likeliest token at each place of a written text: one plain forward pass, no cache.

    From token ``deaf_from`` on the audio's columns are masked.
    """
    checkpoint, prompt = prompted(arm)
    model = checkpoint.model
    whole = torch.tensor([[*prompt.ids, *written]])
    first, length = len(prompt.ids), whole.shape[1]
    embeds = model.get_input_embeddings()(whole).clone()
    audio = slice(prompt.audio_start, prompt.audio_start + len(prompt.audio))
    embeds[0, audio] = prompt.audio
    sees = torch.ones(length, length, dtype=torch.bool).tril()
    if deaf_from is not None:
        sees[first + deaf_from - 1 :, audio] = False
    if checkpoint.family.name == "qwen2_5_omni":
        positions, _ = model.get_rope_index(whole, attention_mask=torch.ones_like(whole))
    else:
        positions = torch.arange(length)[None]
    with torch.inference_mode():
        hidden = model.model(inputs_embeds=embeds, attention_mask=sees[None, None], position_ids=positions)
        return model.lm_head(hidden.last_hidden_state[0, first - 1 : -1]).argmax(-1).tolist()


def after(generation: Generation, text: str) -> int:
    """The first token behind the last ``text`` of a generation."""
    place = generation.text.rindex(text) + len(text)
    return next(n for n, token in enumerate(generation.tokens) if token.chars.start >= place)


# Cut short


@pytest.mark.parametrize(
    ("wanted", "at", "becomes"),
    [
        ("", None, "<answer>"),
        ("<perception>a dog barks and a bell rings", 6, "</perception>\n<answer>"),
        ("<perception>a dog</perception>\n<step><ask>what rings", None, "</ask></step>\n<answer>"),
        ("<perception>a dog</perception>\n<step><ask>what</ask>", None, "</step>\n<answer>"),
        ("a dog barks first, I think", None, "\n<answer>"),
    ],
)
def test_a_cut_trace_is_closed_and_made_to_answer(
    engine, folder: Path, says, wanted: str, at: int | None, becomes: str
):
    at = says(folder, wanted, most=at)
    arm = Arm("a", str(folder), mode="mpar2")
    cut = write(engine, arm, max_reasoning_tokens=at, max_new_tokens=at + 40)
    kept, closing, _ = cut.text.partition(becomes)
    assert closing and wanted.startswith(kept) and cut.text.count("<answer>") == 1
    own = after(cut, "<answer>")
    assert len(cut.tokens) - own > 5 and ids(cut)[own:] == likeliest(arm, ids(cut))[own:]


def test_a_cut_inside_a_tag_waits_for_its_end(engine, tiny_checkpoint: Path, says) -> None:
    wanted = "<perception>a dog</ perception>"  # written so, the closing tag is several tokens
    inside = says(tiny_checkpoint, wanted) - 1
    cut = write(engine, Arm("a", str(tiny_checkpoint)), max_reasoning_tokens=inside, max_new_tokens=inside + 20)
    assert cut.text.startswith(wanted + "\n<answer>")


def test_who_answers_before_the_cut_is_left_alone(engine, tiny_checkpoint: Path, says) -> None:
    wanted = "<think>a dog</think>\n<answer>dog bark</answer>"
    arm = Arm("a", str(tiny_checkpoint), mode="cot")
    says(tiny_checkpoint, wanted, ends=True)
    assert write(engine, arm, max_reasoning_tokens=60, max_new_tokens=90).text == wanted
    says(tiny_checkpoint, wanted, ends=True)
    inside = 1 + next(n for n, t in enumerate(write(engine, arm).tokens) if t.chars.stop > wanted.index("dog bark"))
    says(tiny_checkpoint, wanted, ends=True)
    assert write(engine, arm, max_reasoning_tokens=inside, max_new_tokens=90).text == wanted


# Made to go on


@pytest.mark.parametrize(
    ("mode", "wanted", "becomes"),
    [
        ("cot", "<think>a dog.</think>", "<think>a dog.\nWait,"),
        ("cot", "a dog <answer>", "a dog \nWait,"),
        ("mpar2", "<perception>a dog</perception>\n<review>", "<perception>a dog</perception>\n<step><ask>"),
        ("mpar2", "<step><ask>what?<answer>", "<step><ask>what?</ask></step>\n<step><ask>"),
    ],
)
def test_an_end_that_comes_too_soon_is_taken_back(engine, folder: Path, says, mode, wanted: str, becomes: str) -> None:
    """Beside a longer row that is left alone, so that the batch is padded and rows differ in what they see."""
    says(folder, wanted)
    arm = Arm("a", str(folder), mode=mode)
    longer = write(engine, arm, attention="full", min_reasoning_tokens=30, max_new_tokens=50)
    assert longer.text.startswith(becomes)
    own = after(longer, becomes)
    assert len(longer.tokens) - own > 10, "it goes on"
    assert ids(longer)[own:] == likeliest(arm, ids(longer))[own:], "nothing is seen of what was taken back"
    # the attention too is that of reading the text as it stands
    checkpoint, prompt = prompted(arm)
    assert install(checkpoint.model)
    session = Session(checkpoint, [prompt])
    session.probe = AttentionProbe(session.audio_positions(), 0.04)
    session.prefill()
    for token in ids(longer)[:-1]:
        session.feed([[token]])
    session.close()
    read = session.probe.record(0, len(longer.tokens))
    np.testing.assert_allclose(longer.attention.mass, read.mass, atol=2e-5)
    assert longer.attention.visible.tolist() == read.visible.tolist()


def test_an_end_of_text_that_comes_too_soon_is_not_written(engine, folder: Path, says) -> None:
    for mode, wanted, becomes in (
        ("cot", "a dog.", "a dog.\nWait,"),
        ("mpar2", "<perception>a dog", "<perception>a dog</perception>\n<step><ask>"),
        ("mpar2", "", "<step><ask>"),
    ):
        says(folder, wanted, ends=True)
        arm = Arm("a", str(folder), mode=mode)
        longer = write(engine, arm, min_reasoning_tokens=25, max_new_tokens=40)
        assert longer.text.startswith(becomes) and len(longer.tokens) >= 25
        own = after(longer, becomes)
        assert ids(longer)[own:] == likeliest(arm, ids(longer))[own:]


def test_an_exact_length(engine, tiny_checkpoint: Path, says) -> None:
    says(tiny_checkpoint, "<think>a dog</think>")
    arm = Arm("a", str(tiny_checkpoint), mode="cot")
    exact = write(engine, arm, min_reasoning_tokens=20, max_reasoning_tokens=20, max_new_tokens=60)
    before = exact.text.index("</think>\n<answer>")
    assert 20 <= sum(token.chars.stop <= before for token in exact.tokens) <= 28
    assert exact.text.startswith("<think>a dog\nWait,")


def test_forced_rows_of_a_batch_equal_each_alone(engine, tiny_checkpoint: Path, tiny_adapter: Path) -> None:
    arms = [Arm("b", str(tiny_checkpoint), mode="cot"), Arm("m", str(tiny_checkpoint), str(tiny_adapter))]
    requests = [Request(make_clip(s, 5), QUESTION, arm) for s in (0.8, 1.9) for arm in arms]
    for forced in (
        {"max_reasoning_tokens": 6},
        {"min_reasoning_tokens": 20, "hide_audio_after": 5},
        {"hide_audio_after": "40%"},
    ):
        decoding = Decoding(max_new_tokens=24, **forced)
        together = engine.generate_batch(requests, decoding)
        alone = [engine.generate_batch([request], decoding)[0] for request in requests]
        assert [ids(g) for g in together] == [ids(g) for g in alone]


def test_the_shipped_model_cut_and_stretched(engine) -> None:
    """One trace at several lengths: the same beginning, an answer at the end, and more of it where it must go on."""
    whole = write(engine, SHIPPED, max_new_tokens=200)
    for length in (0, 16):
        cut = write(engine, SHIPPED, max_reasoning_tokens=length, max_new_tokens=200)
        assert ids(cut)[:length] == ids(whole)[:length] and "<answer>" in cut.text
    natural = whole.text.find("<review>")
    if natural > 0:
        least = next(n for n, token in enumerate(whole.tokens) if token.chars.stop > natural) + 12
        longer = write(engine, SHIPPED, min_reasoning_tokens=least, max_new_tokens=least + 60)
        assert longer.text.startswith(whole.text[:natural].rstrip() + "\n<step><ask>")
        assert "<review>" not in longer.text[: longer.tokens[least - 1].chars.stop]


# Hidden audio


def test_hidden_audio_is_not_seen_any_more(engine, folder: Path) -> None:
    arm = Arm("a", str(folder), mode="cot")
    open_, hidden = (write(engine, arm, max_new_tokens=30, hide_audio_after=after_) for after_ in (None, 8))
    assert ids(hidden)[:8] == ids(open_)[:8]
    ratio, before = attention_ratio(hidden.attention), attention_ratio(open_.attention)
    np.testing.assert_allclose(ratio[:8], before[:8], atol=1e-6)
    assert (ratio[:8] > 0).all() and (ratio[8:] == 0).all() and (corrected_ratio(hidden.attention)[8:] == 0).all()
    assert ids(hidden) == likeliest(arm, ids(hidden), deaf_from=8)
    frames = hidden.attention.audio_positions
    assert (np.diff(hidden.attention.visible) == [*[1] * 7, 1 - frames, *[1] * 21]).all()
    assert ids(hidden) != ids(open_), "these weights listen"


def test_audio_hidden_from_the_middle_of_the_trace(engine, tiny_checkpoint: Path) -> None:
    arm = Arm("a", str(tiny_checkpoint), mode="cot")
    whole = write(engine, arm, max_new_tokens=30)
    half = write(engine, arm, max_new_tokens=30, hide_audio_after="50%")
    middle = round(len(whole.tokens) / 2)
    assert ids(half)[:middle] == ids(whole)[:middle]
    assert ids(half) == ids(write(engine, arm, max_new_tokens=30, hide_audio_after=middle))
    ratio = attention_ratio(half.attention)
    assert (ratio[:middle] > 0).all() and (ratio[middle:] == 0).all()
    # sampled, the first half is the very same sample
    sampled = {"max_new_tokens": 30, "temperature": 1.0, "seed": 4}
    assert (
        ids(write(engine, arm, **sampled, hide_audio_after="50%"))[:middle]
        == ids(write(engine, arm, **sampled))[:middle]
    )


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_reasoning_tokens": -1}, "max_reasoning_tokens is -1"),
        ({"max_reasoning_tokens": 512}, r"below max_new_tokens \(512\), which counts the answer too"),
        ({"min_reasoning_tokens": 9, "max_reasoning_tokens": 8}, "no length is both"),
        ({"hide_audio_after": 0}, "number of generated tokens from 1, or a share of the trace such as 50%"),
        ({"hide_audio_after": "half"}, "'half'"),
        ({"hide_audio_after": "0%"}, "'0%'"),
        ({"hide_audio_after": "100%"}, "'100%'"),
        ({"hide_audio_after": "50%", "max_reasoning_tokens": 8}, "give a number of tokens"),
    ],
)
def test_what_cannot_be_forced_is_said(options, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        Decoding(**options)


def test_direct_answers_have_no_length_to_force(engine, tiny_checkpoint: Path) -> None:
    with pytest.raises(EngineError, match="mode direct does not reason"):
        write(engine, Arm("a", str(tiny_checkpoint), mode="direct"), max_reasoning_tokens=4)
