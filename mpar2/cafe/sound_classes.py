"""The sound classes of the project's scenes.

A class is a label that a listener would use, with its synonyms in questions, captions and traces. ``name`` is the
canonical label, the value of ``Event.label`` in every scene.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLASSES", "SoundClass"]


@dataclass(frozen=True)
class SoundClass:
    """One kind of sound. ``singular`` and ``plural`` fit after "there is" and "there are two"."""

    name: str
    family: str  # animal, human, object, nature, vehicle, music, signal
    singular: str
    plural: str
    synonyms: tuple[str, ...] = ()


def _table(*rows: tuple[str, str, str, str, str]) -> dict[str, SoundClass]:
    classes = (
        SoundClass(name, family, singular, plural, tuple(s for s in words.split("|") if s))
        for name, family, singular, plural, words in rows
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
    ("violin", "music", "a violin", "violin phrases", "violin notes|violin playing|bowed strings|strings|fiddle"),
    ("trumpet", "music", "a trumpet", "trumpet phrases", "trumpet notes|trumpet playing|brass|horn"),
    ("flute", "music", "a flute", "flute phrases", "flute notes|flute playing|woodwind"),
    ("drums", "music", "drums", "drum beats", "drum|drum beat|drumming|drum roll|percussion"),
    ("cymbal", "music", "a cymbal crash", "cymbal crashes", "cymbals|gong|crash cymbal|cymbal hit"),
    ("sheep bleat", "animal", "a sheep bleat", "sheep bleats", "sheep|lamb|goat|bleating|baa|goats"),
    ("chicken cluck", "animal", "a chicken", "chickens", "hen|hens|rooster|clucking|poultry"),
    ("duck quack", "animal", "a duck quack", "duck quacks", "duck|ducks|goose|geese|quacking|quack"),
    ("pig oink", "animal", "a pig", "pigs", "pig oink|oink|oinking|grunting pig|hog|boar"),
    ("owl hoot", "animal", "an owl", "owls", "owl hoot|hoot|hooting"),
    ("crow caw", "animal", "a crow cawing", "crows cawing", "crow|raven|caw|cawing"),
    ("frog croak", "animal", "a frog", "frogs", "frog croak|croak|croaking|toad|ribbit"),
    ("wolf howl", "animal", "a wolf howl", "wolf howls", "wolf|howling|howl|coyote"),
    ("laughter", "human", "laughter", "bursts of laughter", "laugh|laughing|giggle|giggling|chuckle"),
    ("cough", "human", "a cough", "coughs", "coughing|sneeze|sneezing"),
    ("scream", "human", "a scream", "screams", "screaming|shout|shouting|yell|shriek"),
    ("singing", "human", "singing", "sung phrases", "singer|a person singing|vocals|singing voice"),
    ("applause", "human", "applause", "bursts of applause", "clapping|clap|hand clap|hands clapping|ovation"),
    ("crowd", "human", "a crowd", "crowds", "chatter|babble|crowd noise|hubbub"),
    ("door", "object", "a door", "doors", "door slam|door closing|door opening|creaking door|door creak|slamming door"),
    ("knocking", "object", "knocking", "bursts of knocking", "knock|knock at the door|door knock|knocking on wood"),
    ("sawing", "object", "sawing", "bursts of sawing", "chainsaw|hand saw|buzz saw"),
    ("typing", "object", "typing", "bursts of typing", "typing on a keyboard|keyboard typing|keystrokes|typewriter"),
    ("camera shutter", "object", "a camera shutter", "camera shutters", "camera|camera click|shutter|shutter click"),
    ("clock", "object", "a ticking clock", "ticking clocks", "clock|ticking|tick-tock|clock ticking"),
    ("gunshot", "object", "a gunshot", "gunshots", "gun|gunfire|shooting|rifle|pistol|machine gun"),
    ("doorbell", "signal", "a doorbell", "doorbells", "door bell|ding-dong|door chime"),
    ("alarm", "signal", "an alarm", "alarms", "alarm clock|fire alarm|smoke alarm|buzzer|alarm beeping"),
    ("rain", "nature", "rain", "showers of rain", "rainfall|raining|raindrops|heavy rain|rain falling"),
    ("water", "nature", "running water", "stretches of running water", "water|flowing water|stream|river|waterfall|brook"),
    ("splash", "nature", "a splash", "splashes", "splashing|water splash|splash of water"),
    ("thunder", "nature", "thunder", "claps of thunder", "thunderclap|thunderstorm|clap of thunder"),
    ("wind", "nature", "wind", "gusts of wind", "gust|breeze|wind blowing|howling wind"),
    ("train", "vehicle", "a train", "trains", "railway|locomotive|steam train|steam engine|tram|subway"),
    ("airplane", "vehicle", "an airplane", "airplanes", "aeroplane|plane|aircraft|jet|jet engine"),
    ("helicopter", "vehicle", "a helicopter", "helicopters", "chopper|rotor|helicopter rotor"),
    ("ship horn", "vehicle", "a ship horn", "ship horns", "foghorn|ship's horn|boat horn|fog horn"),
    ("guitar", "music", "a guitar", "guitar phrases", "guitar notes|guitar playing|acoustic guitar|electric guitar|banjo|strumming"),
    ("organ", "music", "an organ", "organ phrases", "church organ|pipe organ|organ notes|organ playing"),
    ("bass guitar", "music", "a bass guitar", "bass guitar phrases", "bass|bass line|double bass|bass notes"),
    ("choir", "music", "a choir", "choir phrases", "chorus|choral singing|choir singing"),
    ("harp", "music", "a harp", "harp phrases", "harp notes|harp playing"),
    ("accordion", "music", "an accordion", "accordion phrases", "accordion notes|accordion playing|harmonica|concertina"),
    ("saxophone", "music", "a saxophone", "saxophone phrases", "sax|saxophone notes|saxophone playing"),
    ("xylophone", "music", "a xylophone", "xylophone phrases", "marimba|vibraphone|glockenspiel|xylophone notes|mallets"),
)  # fmt: skip
