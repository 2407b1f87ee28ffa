"""The programs of General MIDI that the tagger learns from, each with the label that it is taught."""

from __future__ import annotations

__all__ = ["PROGRAMS"]

_RANGES = {
    "piano": "0-5", "harpsichord": "6", "xylophone": "9,11-13", "bell": "14", "zither": "15", "organ": "16-20",
    "accordion": "21,23", "harmonica": "22", "guitar": "24-31", "bass guitar": "32-39", "violin": "40-42,110",
    "double bass": "43", "string section": "44,48-51", "plucked strings": "45", "harp": "46", "timpani": "47",
    "singing": "52-54", "orchestra": "55", "trumpet": "56,59", "trombone": "57", "brass": "58,61", "french horn": "60",
    "synthesizer": "62,63,80-103", "saxophone": "64-67", "woodwind": "68-70", "clarinet": "71", "flute": "72-77,79",
    "whistling": "78", "sitar": "104", "banjo": "105", "plucked string": "106,107", "bagpipes": "109",
    "steelpan": "114", "wood block": "115", "drums": "116-118", "waves": "122", "bird song": "123", "telephone": "124",
    "helicopter": "125", "applause": "126", "gunshot": "127",
}  # fmt: skip


def _numbers(text: str) -> list[str]:
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return [str(number) for number in numbers]


#: General MIDI program ("kit": the drum channel) -> label
PROGRAMS: dict[str, str] = {n: label for label, text in _RANGES.items() for n in _numbers(text)} | {"kit": "drums"}
