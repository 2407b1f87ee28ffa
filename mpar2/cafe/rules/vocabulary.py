"""Names of sounds in a text, matched without a model.

A vocabulary has *concepts* (one kind of sound each) and their *forms* (phrases that name it). They come from the
project's classes with their synonyms, from the names of ``sounds``, and from the labels of the truth. A form may belong
to several concepts ("chirping": birds, crickets); the caller resolves such a hit by the truth.

Conventions: matching ignores case, possessive 's and hyphens, takes the longest phrase at each position, and uses each
character at most once. Hits have half-open character spans. Time is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from mpar2.cafe.rules.sounds import GENERAL, MAKERS, PARENTS, SOUNDS, WEAK, WEAK_VERBS
from mpar2.cafe.sound_classes import CLASSES

__all__ = ["MAKER_WORDS", "Concept", "Hit", "Vocabulary", "Word", "absent_classes", "words_of"]

Role = Literal["noun", "action", "general"]


@dataclass(frozen=True)
class Concept:
    """One kind of sound. ``parent`` is the name of the more general concept."""

    name: str
    family: str | None
    parent: str | None = None


class Word(NamedTuple):
    """A normalised word of a text with its character span."""

    text: str
    start: int
    stop: int


class Hit(NamedTuple):
    """A phrase that may name a sound. ``concepts`` holds at least one name; empty for general words (``family``)."""

    start: int
    stop: int
    first: int  # index of its first and last word in the text's words
    last: int
    concepts: tuple[str, ...]
    role: Role
    plural: bool
    weak: bool
    family: str | None = None


@dataclass(frozen=True)
class _Form:
    concepts: tuple[str, ...]
    role: Role
    plural: bool
    weak: bool
    family: str | None = None


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")  # noqa: RUF001 (typographic apostrophe)


def words_of(text: str) -> list[Word]:
    """Return the words of ``text`` in lower case, without possessive endings. Hyphens separate words.

    >>> [word.text for word in words_of("A dog's bark, hi-hat")]
    ['a', 'dog', 'bark', 'hi', 'hat']
    """
    if len(lower := text.lower()) != len(text):  # a few letters become two
        return [Word(_normalize(m.group().lower()), m.start(), m.end()) for m in _WORD.finditer(text)]
    return [Word(_normalize(m.group()), m.start(), m.end()) for m in _WORD.finditer(lower)]


def _normalize(word: str) -> str:
    """Return a word without a possessive ending, with a plain apostrophe."""
    if word.isalnum():
        return word
    return word.replace("’", "'").removesuffix("'s")  # noqa: RUF001


_IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "wolf": "wolves", "leaf": "leaves", "goose": "geese",
    "calf": "calves", "sheep": "sheep", "speech": "speeches", "hiss": "hisses", "glass": "glasses",
}  # fmt: skip
_MASS_WORDS = (
    "speech|applause|thunder|water|static|rain|music|brass|percussion|laughter|crying|singing|typing|sawing|drilling"
    "|traffic|footsteps|drums|crickets|birdsong|gunfire|breathing|chewing|frying"
)
_MASS = frozenset(_MASS_WORDS.split("|"))
_IRREGULAR_VERBS = {
    "speak": ("spoke", "spoken"),
    "ring": ("rang", "rung"),
    "sing": ("sang", "sung"),
    "weep": ("wept",),
}
_DOUBLED = re.compile(r"[^aeiou]+[aeiou][bdgmnpt]|rev")


def _plural(word: str) -> str:
    if word in _IRREGULAR_PLURALS:
        return _IRREGULAR_PLURALS[word]
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


def _verb_forms(verb: str) -> tuple[str, ...]:
    """Return the forms of a verb: ``bark`` -> bark, barks, barking, barked."""
    stem = verb + verb[-1] if _DOUBLED.fullmatch(verb) else verb
    third = _plural(verb)
    if verb.endswith("e"):
        rest: tuple[str, ...] = (verb[:-1] + "ing", verb + "d")
    elif re.search(r"[^aeiou]y$", verb):
        rest = (verb + "ing", verb[:-1] + "ied")
    else:
        rest = (stem + "ing", stem + "ed")
    return (verb, third, *rest, *_IRREGULAR_VERBS.get(verb, ()))


def _agent(verb: str) -> str:
    """Return the agent noun of a verb: ``snore`` -> snorer."""
    gerund = _verb_forms(verb)[2]
    return gerund.removesuffix("ing") + "er"


def _key(phrase: str) -> tuple[str, ...]:
    return tuple(word.text for word in words_of(phrase))


def _plural_key(key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the key with its last word in the plural, or the word before "of"."""
    head = key.index("of") - 1 if "of" in key[1:] else len(key) - 1
    return (*key[:head], _plural(key[head]), *key[head + 1 :])


_WEAK_KEYS = (
    frozenset(_key(word) for word in WEAK)
    | frozenset((_plural(word),) for word in WEAK if " " not in word)
    | frozenset((form,) for verb in WEAK_VERBS for form in _verb_forms(verb))
)


class _Table:
    """Forms by their words. A phrase of several concepts keeps all of them, in order of insertion."""

    def __init__(self) -> None:
        self.forms: dict[tuple[str, ...], _Form] = {}
        self.concepts: dict[str, Concept] = {}
        self.longest: dict[str, int] = {}  # first word -> number of words of the longest phrase with it

    def copy(self) -> _Table:
        table = _Table()
        table.forms, table.concepts, table.longest = dict(self.forms), dict(self.concepts), dict(self.longest)
        return table

    def put(self, key: tuple[str, ...], form: _Form) -> None:
        """Set the form of a key."""
        self.forms[key] = form
        self.longest[key[0]] = max(self.longest.get(key[0], 0), len(key))

    def add(self, concept: str, key: tuple[str, ...], role: Role, *, plural: bool, weak: bool | None = None) -> None:
        """Add a concept to the form of a key. An existing form keeps its role and number."""
        if not key:
            return
        entry = self.forms.get(key)
        weak = key in _WEAK_KEYS if weak is None else weak
        if entry is None or not entry.concepts:
            family = entry.family if entry else None
            self.put(key, _Form((concept,), role, plural, weak, family))
        elif concept not in entry.concepts:
            self.put(
                key, _Form((*entry.concepts, concept), entry.role, entry.plural, entry.weak and weak, entry.family)
            )

    def add_phrase(self, concept: str, phrase: str, *, weak: bool | None = None) -> None:
        """Add a noun phrase in singular and plural (of its last word, or of its first in "gust of wind")."""
        key = _key(phrase)
        if not key:
            return
        gerund = len(key) == 1 and key[0].endswith("ing") and len(key[0]) > 5
        self.add(concept, key, "action" if gerund else "noun", plural=False, weak=weak)
        if gerund or key[-1] in _MASS:
            return
        self.add(concept, _plural_key(key), "noun", plural=True, weak=weak)

    def add_verb(self, concept: str, verb: str) -> None:
        """Add all forms of a verb as actions of a concept."""
        for form in _verb_forms(verb):
            key = _key(form)
            entry = self.forms.get(key)
            if entry is None or concept not in entry.concepts:
                self.add(concept, key, "action", plural=False)
            elif entry.role == "noun":  # "barks", noun or verb: the verb claims no number
                self.put(key, _Form(entry.concepts, "action", entry.plural, entry.weak, entry.family))


@lru_cache(maxsize=1)
def _base_table() -> _Table:
    """Build the table of all known sounds, without the labels of a truth."""
    table = _Table()
    # The project's classes come first, so that they are the first concept of a shared phrase.
    for name, sound in CLASSES.items():
        table.concepts[name] = Concept(name, sound.family, PARENTS.get(name))
        phrases = (sound.name, re.sub(r"^an? ", "", sound.singular), *sound.synonyms)
        for phrase in phrases:
            table.add_phrase(name, phrase)
        table.add(name, _key(sound.plural), "noun", plural=True)
    agents: list[tuple[str, tuple[str, ...]]] = []
    for name, family, phrases, verbs in SOUNDS:
        table.concepts.setdefault(name, Concept(name, family, PARENTS.get(name)))
        for phrase in (name, *phrases.split("|")):
            table.add_phrase(name, phrase)
        for verb in filter(None, verbs.split("|")):
            table.add_verb(name, verb)
            if family == "human" and (agent := _key(_agent(verb))) not in table.forms:
                agents.append((name, agent))
    # Agent nouns ("singer") last: they never replace a phrase of the tables.
    for name, agent in agents:
        if agent not in table.forms:
            table.add(name, agent, "noun", plural=False, weak=True)
            table.add(name, _plural_key(agent), "noun", plural=True, weak=True)
    for phrase, family in GENERAL.items():
        for key in {_key(phrase), _plural_key(_key(phrase))}:
            entry = table.forms.get(key)
            concepts, role = (entry.concepts, entry.role) if entry else ((), "general")
            table.put(key, _Form(concepts, role, bool(entry and entry.plural), bool(entry and entry.weak), family))
    return table


MAKER_WORDS = {
    word: name for name, words in MAKERS.items() for base in words.split("|") for word in (base, _plural(base))
}


class Vocabulary:
    """The forms of all known sounds and of the labels of one truth.

    Args:
        labels: Labels of the truth's events.

    Attributes:
        truth: The concepts of each label: one, or several where the label names several ("Bark, howl").

    >>> [hit.concepts for hit in Vocabulary(["Dog"]).find("a dog, barking")]
    [('dog bark',), ('dog bark',)]
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        base = _base_table()
        self._table = base.copy() if labels else base
        self.truth: tuple[tuple[str, ...], ...] = tuple(self._resolve(label) for label in labels)
        self._labels_by_concept: dict[str, list[int]] = {}
        self._labels_by_parent: dict[str | None, list[int]] = {}
        for index, names in enumerate(self.truth):
            for name in names:
                self._labels_by_concept.setdefault(name, []).append(index)
            parents = {PARENTS.get(name) for name in names}
            if len(parents) == 1:  # "Horn" may be that of a train, so that it is no kind of "train"
                self._labels_by_parent.setdefault(parents.pop(), []).append(index)

    def concept(self, name: str) -> Concept:
        """Return the concept of that name."""
        return self._table.concepts[name]

    def labels_named(self, name: str, kinds: bool = True) -> list[int]:
        """Return the indices of the labels that name a concept.

        Args:
            name: Name of the concept.
            kinds: Include labels that name a kind of it.
        """
        return self._labels_by_concept.get(name, []) + (self._labels_by_parent.get(name, []) if kinds else [])

    def maker(self, hit: Hit, words: Sequence[Word]) -> str | None:
        """Return the concept of the animal that a hit names by a single word, else None."""
        return MAKER_WORDS.get(words[hit.first].text) if hit.first == hit.last else None

    def lookup(self, label: str) -> tuple[str, ...]:
        """Return the concepts that a label or choice names; empty where none is known."""
        return self._concepts_of(label)

    def find(self, text: str, words: Sequence[Word] | None = None) -> list[Hit]:
        """Find all hits in order of position, without overlap. The longest phrase at a position wins.

        Returns:
            Hits with half-open character spans.
        """
        words = words_of(text) if words is None else words
        forms, longest_of = self._table.forms, self._table.longest
        texts = [word.text for word in words]
        hits = []
        next_free = 0  # index of the first word after the last hit
        for position, first_text in enumerate(texts):
            longest = longest_of.get(first_text)
            if longest is None or position < next_free:
                continue
            for length in range(min(longest, len(words) - position), 0, -1):
                form = forms.get(tuple(texts[position : position + length]))
                if form is not None and (length == 1 or self._is_contiguous(text, words[position : position + length])):
                    next_free = position + length
                    last = next_free - 1
                    hits.append(Hit(words[position].start, words[last].stop, position, last, *_form_fields(form)))
                    break
        return hits

    @staticmethod
    def _is_contiguous(text: str, words: Sequence[Word]) -> bool:
        """Return whether only blanks and hyphens separate the words of a phrase."""
        gaps = (text[a.stop : b.start] for a, b in zip(words, words[1:], strict=False))
        return all(len(gap) <= 3 and not gap.strip(" -\t\n\u00a0") for gap in gaps)

    def _is_human(self, hit: Hit) -> bool:
        return self._table.concepts[hit.concepts[0]].family == "human"

    def _resolve(self, label: str) -> tuple[str, ...]:
        """Return the concepts of a truth label, and add the label as a form.

        An unknown label becomes a new concept.
        """
        concepts = self._concepts_of(label)
        if not concepts:
            name = " ".join(_key(label)) or label.strip().lower() or "unnamed"
            family = next((GENERAL[phrase] for phrase in _general_phrases(label)), None)
            self._table.concepts.setdefault(name, Concept(name, family))
            concepts = (name,)
            self._add_words(name)
            if family is not None:
                for phrase, phrase_family in GENERAL.items():
                    if phrase_family == family and phrase in _general_phrases(label):
                        self._table.add_phrase(name, phrase, weak=False)
        for concept in concepts:
            self._table.add_phrase(concept, re.sub(r"[(),/;].*$", "", label), weak=False)
        self._add_head(concepts[0], label)
        return concepts

    def _add_head(self, name: str, label: str) -> None:
        """Add short forms of a label: "hand dryer" is also "the dryer" and "drying"."""
        words = _key(label)
        if not words or len(words) > 3:
            return
        if words[-1].endswith("ing"):  # "flag flapping": "the flag", "the flapping"
            self._table.add_phrase(name, words[-1], weak=False)
            entry = self._table.forms.get((words[0],))
            if len(words) == 2 and (entry is None or entry.weak):  # "plate breaking": "the plate"
                self._table.add_phrase(name, words[0], weak=entry is not None)
            return
        if (
            len(words) == 2 and self._is_action(words[1]) and words[0] not in _EMPTY_HEADS
        ):  # "mouse squeak": "the mouse"
            entry = self._table.forms.get((words[0],))
            if entry is None or entry.weak:
                self._table.add_phrase(name, words[0], weak=True)
        forms = [words[-1]] + ([words[-1][:-2] + "ing"] if words[-1].endswith("er") else [])
        for form in forms:
            entry = self._table.forms.get((form,))
            if (entry is None or entry.weak) and form not in _EMPTY_HEADS:
                self._table.add_phrase(name, form, weak=False)

    def _is_action(self, word: str) -> bool:
        """Return whether the word is also a verb of sounding: bark, squeak, honk."""
        form = self._table.forms.get((_verb_forms(word)[2],))
        return form is not None and form.role == "action"

    def _add_words(self, name: str) -> None:
        """Add forms of an unknown label of two words: "tree falling" is also "falling tree" and "the tree"."""
        words = name.split()
        if len(words) == 2 and words[1].endswith("ing"):
            for phrase in (f"{words[1]} {words[0]}", words[0], re.sub(r"([bdgmnprt])\1$", r"\1", words[1][:-3])):
                if _key(phrase) not in self._table.forms:
                    self._table.add_phrase(name, phrase, weak=False)

    def _concepts_of(self, label: str) -> tuple[str, ...]:
        """Look up a label: the full text, else its parts at commas and brackets, else its longest known phrase."""
        text = label.strip().lower()
        if text in self._table.concepts:
            return (text,)
        form = self._table.forms.get(_key(label))
        if form is not None and form.concepts:
            return form.concepts  # "Horn" may be that of a car, a train or a ship
        names: list[str] = []
        for piece in re.split(r"[(),/;]|\band\b", label):
            form = self._table.forms.get(_key(piece))
            if form is not None and form.concepts:
                names.append(form.concepts[0])
        if names:
            # "Male speech, man speaking": of a parent and its kind, keep the kind.
            parents = {PARENTS.get(name) for name in names}
            return tuple(dict.fromkeys(name for name in names if name not in parents))
        hits = [hit for hit in self.find(label) if hit.concepts]
        if not hits:
            return ()
        last = hits[-1]
        if (
            last.role == "action"
            and len(hits) > 1
            and (self._is_human(hits[-2]) or self._table.concepts[hits[-2].concepts[0]].family == "music")
            and self._is_human(last)
            and self._table.concepts[hits[-2].concepts[0]].parent not in last.concepts
        ):
            return (last.concepts[0],)  # "crowd cheering", "woman crying": the action
        best = max(hits, key=lambda hit: (hit.last - hit.first, not hit.weak, hit.role == "noun", hit.start))
        return (best.concepts[0],)


_EMPTY_HEADS = frozenset("sound sounds noise noises music other effect unit system object water set event".split())  # noqa: SIM905


def _general_phrases(label: str) -> list[str]:
    """Return the words for families that a label contains, longest first."""
    words = f" {' '.join(_key(label))} "
    return sorted((p for p in GENERAL if f" {p} " in words or f" {p}s " in words), key=len, reverse=True)


def _form_fields(form: _Form) -> tuple[tuple[str, ...], Role, bool, bool, str | None]:
    return form.concepts, form.role, form.plural, form.weak, form.family


def absent_classes(labels: Sequence[str]) -> list[str]:
    """Return the project's classes that are absent from ``labels``, also as a parent or a kind of a label.

    Returns:
        Names of classes, in the order of ``CLASSES``.

    >>> {"speech", "female speech"} & set(absent_classes(["male speech"]))
    set()
    """
    concepts = {name for names in Vocabulary(labels).truth for name in names}
    concepts |= {PARENTS[name] for name in concepts if name in PARENTS}
    concepts |= {kind for kind, parent in PARENTS.items() if parent in concepts}
    return [name for name in CLASSES if name not in concepts]
