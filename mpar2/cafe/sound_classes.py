"""The sound classes that scenes are made of.

A class is a label that a listener would use, with the words that a question, a caption or a trace may use for it.
``name`` is the canonical label: it is what ``Event.label`` holds in every scene.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLASSES", "SoundClass"]


@dataclass(frozen=True)
class SoundClass:
    """One kind of sound. ``singular`` and ``plural`` read on after "there is"/"there are two"."""

    name: str
    family: str  # animal, human, object, nature, vehicle, music, signal
    singular: str
    plural: str
    synonyms: tuple[str, ...] = ()


def _table(*rows: tuple[str, str, str, str, str]) -> dict[str, SoundClass]:
    classes = (
        SoundClass(name, family, one, many, tuple(s for s in words.split("|") if s))
        for name, family, one, many, words in rows
    )
    return {sound.name: sound for sound in classes}


CLASSES: dict[str, SoundClass] = _table(  # one row a class
    ("dog bark", "animal", "a dog bark", "dog barks", "dog|barking|dog barking|bark|barks|dogs"),
    ("cat meow", "animal", "a cat meow", "cat meows", "cat|meow|meows|meowing|cat meowing|kitten|cats"),
    ("cow moo", "animal", "a cow moo", "cow moos", "cow|moo|moos|mooing|cow mooing|cattle|cows|lowing"),
    ("horse neigh", "animal", "a horse neigh", "horse neighs", "horse|neigh|neighs|neighing|whinny|horse neighing|horses"),
    ("bird song", "animal", "a bird song", "bird songs", "bird|birds|birdsong|chirp|chirps|chirping|tweet|tweeting|bird chirping"),
    ("speech", "human", "a voice speaking", "voices speaking", "voice|talking|speaking|a person speaking|person talking|spoken words"),
    ("footsteps", "human", "footsteps", "runs of footsteps", "steps|footstep|walking|someone walking"),
    ("hammering", "object", "hammering", "bursts of hammering", "hammer|hammer blows|hammer strikes|banging"),
    ("glass breaking", "object", "glass breaking", "glass breaks", "glass|breaking glass|glass shattering|shattering|shattered glass"),
    ("bell", "object", "a bell", "bell strokes", "bells|bell ringing|bell toll|chime|church bell"),
    ("beep", "signal", "a beep", "beeps", "beeping|tone|electronic beep|bleep"),
    ("telephone", "signal", "a telephone", "telephones", "phone|phone ringing|telephone ringing|ringing phone|ringtone|phone ring"),
    ("siren", "signal", "a siren", "sirens", "sirens|police siren|ambulance siren|fire engine siren|wailing siren"),
    ("static", "signal", "static noise", "bursts of static", "white noise|hiss|static hiss|radio static"),
    ("explosion", "object", "an explosion", "explosions", "blast|boom|bang|detonation|exploding"),
    ("crickets", "nature", "crickets", "bursts of crickets", "cricket|insects|insect|chirping insects|cicadas|grasshoppers"),
    ("fire", "nature", "a crackling fire", "crackling fires", "fire crackling|crackling|flames|campfire|burning"),
    ("car engine", "vehicle", "a car engine", "car engines", "car|engine|motor|vehicle|truck|car passing|engine running"),
    ("piano", "music", "a piano", "piano phrases", "piano notes|piano playing|piano music|keyboard"),
    ("violin", "music", "a violin", "violin phrases", "violin notes|violin playing|cello|bowed strings|strings|fiddle"),
    ("trumpet", "music", "a trumpet", "trumpet phrases", "trumpet notes|trumpet playing|brass|horn"),
    ("flute", "music", "a flute", "flute phrases", "flute notes|flute playing|woodwind"),
    ("drums", "music", "drums", "drum beats", "drum|drum beat|drumming|drum roll|percussion"),
    ("cymbal", "music", "a cymbal crash", "cymbal crashes", "cymbals|gong|crash cymbal|cymbal hit"),
)  # fmt: skip
