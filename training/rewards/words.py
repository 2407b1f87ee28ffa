"""The training scorer's own lexicon of sounds, and its extraction of claims from a text.

Independence, by design: the *evaluation* scorer is ``mpar2.cafe.rules.judge``: longest phrases of a wide vocabulary
with parents and kinds, and the grammar of each sentence (stance, order, length, loudness, maker). This scorer trains,
and shares neither table nor rule nor code with it. It splits the text at separators, stems the words, and has one flat
list of stems for each sound. A policy that optimises this scorer has never been exposed to that judge. Keep it so:
nothing in ``training.rewards`` may import from ``mpar2.cafe``'s vocabulary, rules.

Known limits: English; each clause is read alone (pronouns are not resolved); a sound outside of the table is recognised
only if the truth names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SOUNDS = {
    "dog": "dog bark puppy hound woof yap growl",
    "cat": "cat meow kitten purr mew",
    "cow": "cow moo cattle bull low",
    "horse": "horse neigh whinny hoof gallop",
    "sheep": "sheep bleat lamb goat",
    "pig": "pig oink",
    "chicken": "chicken hen cluck rooster crow",
    "bird": "bird birdsong chirp tweet twitter warbl sparrow",
    "insect": "insect cricket cicada bee buzz fly mosquito",
    "frog": "frog croak toad",
    "speech": "speech speak voice talk convers spoken man woman narrat say",
    "child": "child baby kid infant",
    "laugh": "laugh giggl chuckl",
    "cry": "cry sob weep",
    "cough": "cough sneez",
    "crowd": "crowd cheer applaus clap audienc",
    "sing": "sing singer choir vocal hum",
    "steps": "footstep step walk stair",
    "hammer": "hammer nail bang pound",
    "glass": "glas shatter smash shard",
    "door": "door knock creak slam",
    "bell": "bell toll chim ding",
    "beep": "beep bleep tone blip",
    "alarm": "alarm clock",
    "siren": "siren ambulanc police wail",
    "horn": "honk carhorn",
    "phone": "phone telephon rington",
    "static": "static hiss",
    "fire": "fire flam crackl campfir burn",
    "rain": "rain drizzl downpour",
    "thunder": "thunder lightn storm",
    "wind": "wind gust breez",
    "water": "water stream river splash wave ocean sea drip",
    "car": "car engin motor vehicl truck automobil",
    "train": "train railway locomotiv",
    "plane": "plan airplan aircraft helicopter jet",
    "gun": "gun gunshot shot explosion firework",
    "saw": "saw drill chainsaw",
    "keys": "typ keyboardtyp",
    "piano": "piano pianist",
    "guitar": "guitar strum ukulel banjo",
    "violin": "violin fiddl cello viola bow",
    "trumpet": "trumpet brass trombon bugl",
    "flute": "flut recorder woodwind clarinet",
    "organ": "organ accordion",
    "xylophone": "xylophon marimba glockenspiel mallet vibraphon",
    "drum": "drum percussion snare",
    "cymbal": "cymbal gong",
    "whistle": "whistl",
}
_STEM_OF = {stem: sound for sound, words in _SOUNDS.items() for stem in words.split()}
_EMPTY_WORDS = (
    "a an the of is are was were be in on at to and or then with it its there this that some sound noise hear heard "
    "audio clip second sec s from for as by very loud soft quiet play playing music"
)
_EMPTY = frozenset(_EMPTY_WORDS.split())
_NUMBERS = {"one": 1, "once": 1, "two": 2, "twice": 2, "three": 3, "four": 4, "five": 5, "six": 6, "several": 2}

_CLAUSE = re.compile(r"[;\n,]|\.(?!\d)|\bthen\b|\bfollowed by\b|\band\b(?!\s*\d)|\bbut\b")
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)\s*s?\s*(?:-|–|—|to|until|and)\s*(\d+(?:\.\d+)?)\s*s(?:ec(?:ond)?s?)?\b")
_MOMENT = re.compile(r"(?:at|around|@|from|after)\s*(?:about\s*)?(\d+(?:\.\d+)?)\s*s(?:ec(?:ond)?s?)?\b")
_ENUMERATION = re.compile(r"^\s*(?:[-*•]|\(?\d+[:.)])\s+")
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_NOT = frozenset(("no", "not", "never", "without", "isn", "aren", "wasn", "neither", "nor", "cannot", "absent"))
_MAX_CLAUSES = 400  # a trace has some dozens; more is a repetition loop, whose end is not read


@dataclass(frozen=True)
class SoundClaim:
    """A sound that a clause claims. Times in seconds, None where not given; ``count`` is the claimed number."""

    sound: str
    onset_s: float | None = None
    offset_s: float | None = None
    count: int = 1
    denied: bool = False
    clause: int = 0


def stems(text: str) -> list[str]:
    """Return the words of a text without endings that do not distinguish sounds.

    >>> stems("Dogs barking, 2 sirens")
    ['dog', 'bark', '2', 'siren']
    """
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    for ending in ("ings", "ing", "ies", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
        word = word[:-1]  # humming -> hum
    return word


class Lexicon:
    """Map stems to sounds: the table, and the labels of the truth that the table has no word for."""

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self._truth_stems: dict[str, str] = {}
        for label in labels:
            if self._find(label) is None:
                for stem in stems(label):
                    if stem not in _EMPTY and len(stem) > 2:
                        self._truth_stems.setdefault(stem, label)

    def sound(self, label: str) -> str:
        """Return the sound of a label; a label outside of the table is its own sound."""
        return self._find(label) or label

    def get(self, stem: str) -> str | None:
        """Return the sound of a stem, or None."""
        return _STEM_OF.get(stem) or self._truth_stems.get(stem)

    @staticmethod
    def _find(label: str) -> str | None:
        return next((_STEM_OF[stem] for stem in stems(label) if stem in _STEM_OF), None)


def read_claims(text: str, lexicon: Lexicon) -> list[SoundClaim]:
    """Extract the sounds that a text claims, clause by clause. A time belongs to the first sound of its clause.

    >>> [(c.sound, c.onset_s, c.offset_s) for c in read_claims("0.4-1.6 s a dog bark; a siren at 2.0 s", Lexicon())]
    [('dog', 0.4, 1.6), ('siren', 2.0, None)]
    """
    claims: list[SoundClaim] = []
    for number, clause in enumerate(_CLAUSE.split(text.lower())[:_MAX_CLAUSES]):
        rest = _ENUMERATION.sub("", clause)
        onset, offset, rest = _times(rest)
        count, denied, is_first = 1, False, True
        sounds: set[str] = set()
        for stem in stems(rest):
            if stem in _NOT:
                denied = True
            elif stem in _NUMBERS or stem.isdigit():
                count = min(_NUMBERS.get(stem) or int(stem), 20)
            elif (sound := lexicon.get(stem)) is not None and sound not in sounds:
                first, last = (onset, offset) if is_first else (None, None)
                claims.append(SoundClaim(sound, first, last, max(count, 1), denied, number))
                sounds.add(sound)
                is_first, count = False, 1
    return claims


def _times(clause: str) -> tuple[float | None, float | None, str]:
    """Return onset, offset, and the clause without any number that is a time."""
    if match := _INTERVAL.search(clause):
        times = float(match[1]), float(match[2])
        return min(times), max(times), clause[: match.start()] + " " + clause[match.end() :]
    if match := _MOMENT.search(clause):
        return float(match[1]), None, clause[: match.start()] + " " + clause[match.end() :]
    return None, None, clause
