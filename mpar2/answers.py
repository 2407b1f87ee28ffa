r"""Parse the answer of a reply: tagged answers, text after the thoughts, and bare replies.

Models answer in many forms: ``<answer>Woman</answer>``, ``B``, ``The correct option is B.``, ``\boxed{B}``,
``Answer: B`` with an explanation below it, ``Woman`` alone. One grammar parses all of them, wherever they occur.

Conventions:

* Only a definite answer counts. Negations ("it is not a man"), hedges ("either", "unclear"), conditions
  ("if it were low, the answer would be A"), questions and several choices at once ("Man or Woman") name no choice:
  no answer is better than a guess.
* The last of several tagged answers counts. Of several statements in prose that contradict each other the last one
  counts if it corrects or concludes ("wait", "so", "final"), or stands alone in the last line; otherwise none does.
* Unicode compatibility forms, typographic quotes and markup (``**``, LaTeX's ``\text``) are ignored.
* Without an answer, the official rule still gets the words of the reply after its thoughts (the whole reply if there
  is nothing else), as in the scripts of MMAU and MMAR: ``Answer.prediction`` is empty only for an empty reply.

``read_answer``    a parsed trace and the choices -> words, choice, and the prediction for the official rule
``named_choice``   one passage and the choices -> the choice that it names
``stated_answer``  one passage -> the words of its answer, without known choices
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mpar2.question import MAX_CHOICES, match_choice

if TYPE_CHECKING:
    from mpar2.trace import Trace

__all__ = ["Answer", "named_choice", "read_answer", "stated_answer", "visible_text"]

_MAX_CHARS = 4000  # of a passage; of a longer one only the end is parsed
_MAX_STATEMENTS = 60  # of a passage; more indicate a loop
_OBJECT_CHARS = 400  # of the text after "the answer is"
_MAX_DENIALS = 8  # "not A, it is not B, it is ..", per line


class Answer(NamedTuple):
    """The answer of a reply."""

    words: str | None  # as written; None without an answer
    choice: str | None  # that it names, as written in the question; None if none or ambiguous
    prediction: str  # input of the official rule: the choice, else the words, else the reply


def read_answer(trace: Trace, choices: Sequence[str] = ()) -> Answer:
    """Parse the answer of a trace; its ``prediction`` is empty only if the reply is blank."""
    tagged = any(part.kind == "answer" and part.text.strip() for part in trace.parts)
    if tagged and trace.answer is not None:
        choice = named_choice(trace.answer, choices)
        return Answer(trace.answer, choice, choice or trace.answer)
    visible = visible_text(trace)
    choice = named_choice(visible, choices)
    words = trace.answer if trace.answer is not None else choice
    reply = visible or trace.text.strip()
    return Answer(words, choice, choice or (reply if choices else words or reply))


_END_OF_OTHER_THOUGHTS = re.compile(
    r"</\s?(?:thinking|thoughts?|reasoning|reason|analysis|scratchpad)\s?>|\[/think\]|◁/think▷|"
    r"<\|channel\|>final(?:<\|message\|>)?",
    re.IGNORECASE,
)


def visible_text(trace: Trace) -> str:
    """Return the text of a reply outside of thoughts and other tagged parts, stripped; empty if all of it is tagged."""
    text = "\n".join(part.text.strip() for part in trace.top() if part.kind == "text" and part.text.strip())
    stop = max((match.end() for match in _END_OF_OTHER_THOUGHTS.finditer(text)), default=0)
    return text[stop:].strip() or text


def named_choice(text: str | None, choices: Sequence[str]) -> str | None:
    r"""Return the only choice that a passage names, None otherwise.

    Args:
        text: An answer, tagged or not.
        choices: The choices of the question.

    >>> replies = ("The answer is B. Note that A is close.", r"\boxed{B}", "Man or Woman")
    >>> [named_choice(reply, ["Man", "Woman", "Child"]) for reply in replies]
    ['Woman', 'Woman', None]
    """
    if not text or not choices:
        return None
    direct = match_choice(text, choices)
    if direct is not None or len(choices) > MAX_CHOICES:
        return direct
    lines = _lines(_fold_units(text[-_MAX_CHARS:]))
    if not lines:
        return None
    names = _Names(choices)
    result = _from_statements(lines, names)
    if result:
        return result if isinstance(result, str) else None
    return (
        _from_marks(lines, names)
        or _from_position(lines, names, text)
        or _from_pair(lines, names)
        or _from_end(lines, names)
    )


def stated_answer(text: str, *, alone: bool = True) -> str | None:
    """Return the words of the answer that a passage states, without known choices.

    Args:
        text: The reply without its thoughts.
        alone: Nothing but thoughts precedes it, so that a bare letter may be the answer.

    >>> stated_answer("The first sound is a bell. So the answer is (B)."), stated_answer("The answer is unclear.")
    ('(B)', None)
    """
    lines = _lines(text)
    if not lines:
        return None
    statements = [statement for statement in _statements(lines, implied=False) if statement.explicit]
    if statements:
        last = statements[-1]
        if _HEDGE.match(last.words) or _is_retracted(lines, last):
            return None
        return _clean(_first_clause(last.words))
    last_line = lines[-1]
    if _LETTERED.fullmatch(last_line) or (len(lines) == 1 and alone and re.fullmatch(r"[A-Z]\.?", last_line)):
        return _clean(last_line)
    return None


# Folding: remove differences that do not distinguish answers.

_FOLD = str.maketrans(
    {
        **dict.fromkeys("‘’‛′ʼ", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—−", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad*`$", None), "。": ". ",
        **dict.fromkeys("→➜➔➝⇒⟶", "->"),
    }
)  # fmt: skip
_LATEX = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox)\s{0,4}\{([^{}]{0,400})\}")
_SPACING = re.compile(r"\\[,;:! ()\[\]]")
_OTHER_TAG = re.compile(r"<\|?(/?)([a-z_][a-z_ -]{0,30})\|?>", re.IGNORECASE)


# "it is not A, it is B" and "not A but B" state B; the negated part is removed.
_DENIED = re.compile(
    r"\b(is|was|be)(?:n't| not) [^,;.!?\n]{1,80}[,;]? (?:but(?: rather)?|(?:it|he|she|this|that)(?:'s| is| was)|rather|instead)(?= )",  # noqa: E501
    re.IGNORECASE,
)
_LATIN_THEN_CJK = re.compile(r"(?<=[A-Za-z0-9])(?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")
_BULLET = re.compile(r"^(?:[^\w\s(\[{\"'\\<.?!]+ ?)+(?=\S)")


# "0.5 seconds" and "50ms" are "0.5 s" and "50 ms".
_UNITS = {
    "s": "s|sec|secs|second|seconds", "ms": "ms|millisecond|milliseconds", "min": "min|mins|minute|minutes",
    "hz": "hz|hertz", "khz": "khz|kilohertz", "%": "%|percent|per cent", "db": "db|decibel|decibels",
    "bpm": "bpm|beats per minute",
}  # fmt: skip
_UNIT_OF_WORD = {word: unit for unit, words in _UNITS.items() for word in words.split("|")}
_QUANTITY = re.compile(
    rf"(?<![\w.])(\d+(?:\.\d+)?)[ -]?({'|'.join(sorted(_UNIT_OF_WORD, key=len, reverse=True))})(?!\w)", re.IGNORECASE
)


def _fold_units(text: str) -> str:
    """Write "0.5 seconds" as "0.5 s"."""
    return _QUANTITY.sub(lambda match: f"{match[1]} {_UNIT_OF_WORD[match[2].lower()]}", text)


# The answer of a reply that is one JSON object.
_OBJECT = re.compile(r"\s*(?:```\w*\s*)?\{.*\}\s*(?:```)?\s*", re.DOTALL)
_FIELD = re.compile(
    r"[\"'](?:(?:final|correct|my|selected|predicted|best|right)[_ ])?(?:answer|choice|option|selection)[\"']\s*:\s*(?:\"([^\"\n]+)\"|'([^'\n]+)'|([\w.]+))",  # noqa: E501
    re.IGNORECASE,
)


def _lines(text: str) -> list[str]:
    """Return the non-blank lines, folded; markup is removed, and tags of other formats become cues or blanks."""
    folded = unicodedata.normalize("NFKC", text[-_MAX_CHARS:]).translate(_FOLD)
    if "{" in folded and _OBJECT.fullmatch(folded) and len(fields := _FIELD.findall(folded)) == 1:
        return ["Answer: " + "".join(fields[0])]
    if not folded.isascii():
        folded = _LATIN_THEN_CJK.sub(" ", folded)
    if "\\" in folded:
        folded = _SPACING.sub(" ", _LATEX.sub(r"\1", folded))
    if "<" in folded:
        folded = _OTHER_TAG.sub(lambda tag: "\nAnswer: " if not tag[1] and "answer" in tag[2].lower() else " ", folded)
    if "[[" in folded:
        folded = folded.replace("[[", "[").replace("]]", "]")
    if "__" in folded:
        folded = re.sub(r"(?<!\w)__([^_\n]{1,400})__(?!\w)", r"\1", folded)
    lines = (_BULLET.sub("", " ".join(line.split()), count=1).rstrip(",; ") for line in folded.splitlines())
    return [_without_denials(line) for line in lines if line]


def _without_denials(line: str) -> str:
    """Return the line with "is not A, it is B" as "is B"."""
    for _ in range(_MAX_DENIALS):
        shorter = _DENIED.sub(r"\1", line, count=1)
        if shorter == line:
            break
        line = shorter
    return line


# Statements: "the answer is X", "X is correct", "I would choose X", boxed answers.

_JUDGED = (
    r"(?:correct|right|best|final|true|proper|actual|only|"
    r"(?:most |more )?(?:likely|appropriate|suitable|accurate|fitting|plausible|logical|probable))"
)
_IS = (
    r"(?: (?:here|to (?:this|the|that) question|for (?:this|the) question|in this case|that (?:best )?(?:fits|matches)"
    r"(?: the (?:audio|recording|clip))?|should|would|must|will|(?:has|have) to|seems to|appears to|can only|therefore|then))*"  # noqa: E501
    r" ?\"?\)? ?(?:\b(?:is|was|(?:to )?be|being|remains)\b(?: (?:therefore|thus|then|clearly|definitely|most likely|"
    r"likely|probably|simply|indeed|option|as follows))* ?:?|:|=|->|=>|-(?= ))"
)
_REJECTED = (
    "wrong|incorrect|false|other|another|alternative|possible|potential|tempting|common|previous|second|first|"
    "if the|is the|was the|not the|your|user'?s"
)
_BEFORE_OPTION = (
    "my correct right best final likely appropriate suitable accurate fitting logical probable plausible only"
)
_JUDGED_BEFORE = "".join(f"|(?<={word} )" for word in (*_BEFORE_OPTION.split(), "selected"))
_ANSWER_IS = re.compile(
    rf"(?:\b|(?=答案|[选選]))(?P<rejected>(?:{_REJECTED}) )?(?:{_JUDGED}[ ,])*"
    r"(?:(?P<noun>answer|response|solution|ans)"
    rf"|(?:(?<=the ){_JUDGED_BEFORE})(?:option|choice|conclusion|pick|selection|one|guess|statement|description|match)"
    r"|^(?:option|choice|conclusion|selection|final|verdict|result)(?= ?:)|答案|[选選][项項]?)"
    rf"(?:{_IS}|[应應]?[该該]?[是为為]|[择擇])? ?",
    re.IGNORECASE,
)
_COPULA_AT_END = re.compile(
    r"(?:\b(?:is|was|be|being|remains|therefore|thus|then|clearly|definitely|likely|probably|simply|indeed|option|"
    r"follows) ?:?|:|=|>|-|[是为為选選择擇]) ?$",
    re.IGNORECASE,
)
_I_CHOOSE = re.compile(
    r"\b(?:i|we|let me)(?:'d| would|'ll| will| have to| must|'m| am| can)?"
    r"(?: (?:therefore|thus|then|definitely|confidently|now))?"
    r" (?:choose|chose|choosing|picking|selecting|pick(?:ed)?|select(?:ed)?|go(?:ing)? with|went with|opt(?:ed)? for|answer|say|vote for|"  # noqa: E501
    r"settle on|conclude|think|believe|call (?:it|this|that)|(?:classify|describe|identify) (?:it|this|that) as)(?: that)?(?: the (?:answer|option|choice))?(?: (?:it|this|that)(?: is|'s))?"  # noqa: E501
    r"(?: (?:option|choice|answer))? ?:? ?",
    re.IGNORECASE,
)
_CONCLUDE = re.compile(
    r"(?:^|[.!;,] )(?:so|(?:it )?(?:sounds|seems|looks) like|to answer (?:the|your) question|therefore|thus|hence|in conclusion|in summary|overall|consequently|finally)[,:]? "  # noqa: E501
    r"(?:(?:it|this|that)(?: is|'s| must be| has to be| should be) )?",
    re.IGNORECASE,
)
_IS_CORRECT = re.compile(
    r" (?:it is|fits best|fits|makes the most sense|remains)(?=[.!]?$)|,? (?:is|would be|must be|seems(?: to be)?|appears(?: to be)?|should be|has to be)(?: (?:therefore|thus|then|clearly|definitely))?"  # noqa: E501
    rf"(?: the| my)? (?:{_JUDGED}|answer)\b"
    r"(?! (?:not|only|if))",
    re.IGNORECASE,
)
# "B remains" after eliminating the others, and "wait, B" replacing the word before it.
_LEAVES = re.compile(
    r"\b(?:leaving|leaves|we get|left with)(?: us| me)?(?: with)?(?: only| just)?(?: the)?(?: (?:option|choice|answer))? ",  # noqa: E501
    re.IGNORECASE,
)
_POINTS_TO = re.compile(
    r"\b(?:point(?:s|ing) to|suggest(?:s|ing)|indicat(?:es|ing)|belongs to|support(?:s|ing)|if i (?:had|have|must|were forced) to \w+,)"  # noqa: E501
    r"(?: that (?:it|this) is)? ",
    re.IGNORECASE,
)
_CORRECTED = re.compile(
    r"\b(?:thought|assumed|believed|guessed|chose)\b [^.;!?\n]{1,80}?[,;]? but (?:now )?(?:it|this|that|he|she)(?:'s| is| was)"  # noqa: E501
    r"(?: actually| really)? |(?:\.{2,}|[,;.?-]) ?(?:no|sorry|wait|actually|i meant?|correction|make that)[,:.]? "
    r"(?:(?:no|wait|sorry|actually|i meant?|make that|it's|it is)[,:]? )*",
    re.IGNORECASE,
)
_ANSWER_ELSEWHERE = re.compile(
    r"\b(?:respuesta|opción|opção|opzione|réponse|resposta|risposta|antwort|antwoord|ответ|відповідь|odpowiedź|odpověď|cevap|svar|svaret|vastaus"
    r"|jawaban|đáp án|उत्तर|الإجابة|الجواب)(?!\w)(?: \w+)? ?(?:\b(?:es|est|é|è|ist|is|lautet|to|je|är|er|on|adalah|là|है|هي|هو)\b|[:-])"  # noqa: E501
    r"(?: (?:la|le|die|a|de))?(?: (?:opción|option|opção|opzione|optie))? |(?:答えは|正解は|정답은|답은|我(?:认为|認為|觉得|覺得)是) ?",  # noqa: E501
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s{0,4}\{([^{}]{1,400})\}|\bboxed\{([^{}]{1,400})\}")
_HEADING = re.compile(rf"(?:the |my )?(?:{_JUDGED} )?(?:answer|choice|option)(?: is)? ?[:.]?", re.IGNORECASE)
_LETTERED = re.compile(r"(?:[(\[][A-Z][)\]]|[A-Z][.):])\s{1,4}\S.{0,200}|[(\[][A-Z][)\]][.:]?")
_HEDGE = re.compile(
    r"(?:not|unclear|unknown|uncertain|ambiguous|undetermined|indeterminate|in the|to be|that|whether|either|one of|"
    r"none|neither|hard to|difficult to|impossible|somewhere|somewhat)\b|cannot|can't|n't",
    re.IGNORECASE,
)
_DECLINED = re.compile(
    r"(?:un(?:clear|known|certain)|ambiguous|either|neither|none of|impossible|hard to|cannot)\b", re.IGNORECASE
)
_CONDITION = re.compile(
    r"\b(?:if|unless|suppose|supposing|whether|had it|were it|isn't|wasn't|is not|not|never|neither|nor|none|"
    r"might|may|could)\b",
    re.IGNORECASE,
)
_TURN = re.compile(
    r"(?:^|[.!?;,] |- )(?:but|however|wait|actually|hmm+|on second thou?ghts?|then again|no|although|though|or|"
    r"or maybe|maybe|perhaps|alternatively|sorry|correction|scratch that|let me re\w+|on reflection|"
    r"rather|instead|unless)\b",
    re.IGNORECASE,
)
_GIVES_UP = re.compile(
    r"\b(?:but|however|though|although)\b[^.!?]*\b(?:neither|none|hard to|difficult to|unclear|not sure|cannot|uncertain)\b",  # noqa: E501
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    r"\b(?:so|therefore|thus|hence|final|finally|overall|conclusion|consequently|correct(?:ion|ed)?)\b", re.IGNORECASE
)


# Every match of ``_ANSWER_IS`` or ``_ANSWER_ELSEWHERE`` contains one of these: most lines contain none.
_NOUNS = (  # noqa: SIM905
    "answer|response|solution|ans|option|choice|conclusion|pick|selection|one|guess|final|verdict|result|statement|description|match|答案|选|選"
).split("|")
_NOUNS_ELSEWHERE = (  # noqa: SIM905
    "respuesta|opción|opção|opzione|réponse|resposta|risposta|antwort|antwoord|ответ|відповідь|odpowiedź|odpověď|cevap|svar"
    "|vastaus|jawaban|đáp án|उत्तर|الإجابة|الجواب|は|은|是"
).split("|")


class _Statement(NamedTuple):
    line: int
    start: int  # of the cue, in the line
    words: str  # the stated text, up to the end of the line
    explicit: bool  # names the word "answer" (or is boxed)
    whole: bool  # the words must name a choice to their end
    stop: int  # in the line, where the words begin


def _statements(lines: Sequence[str], *, implied: bool = True) -> list[_Statement]:
    """Return the answer statements in order, without negated, conditional and interrogative ones."""
    statements: list[_Statement] = []
    for number, line in enumerate(lines):
        if number + 1 < len(lines) and _HEADING.fullmatch(line):
            statements.append(_Statement(number + 1, 0, lines[number + 1][:_OBJECT_CHARS], True, False, 0))
            continue
        statements += _stated(number, line)
        if implied:
            statements += _implied(number, line)
    return sorted(statements, key=lambda statement: (statement.line, statement.stop))[-_MAX_STATEMENTS:]


def _stated(number: int, line: str) -> Iterator[_Statement]:
    """Yield boxed answers and statements of "the answer is"."""
    for match in _BOXED.finditer(line):
        words = match[1] or match[2]
        yield _Statement(number, match.start(), words, True, False, match.start())
    low = line.lower()
    for match in _ANSWER_ELSEWHERE.finditer(line) if any(noun in low for noun in _NOUNS_ELSEWHERE) else ():
        words = line[match.end() : match.end() + _OBJECT_CHARS]
        if words.strip() and not _is_question(line, match.start() + 1):
            yield _Statement(number, match.start(), words, True, False, match.end())
    if not any(noun in low for noun in _NOUNS):
        return
    for match in _ANSWER_IS.finditer(line):
        cue = line[match.start() : match.end()]
        if match["rejected"] or not _COPULA_AT_END.search(cue.rstrip() if cue.rstrip()[-1:] in ":=>-" else cue):
            continue
        words = line[match.end() : match.end() + _OBJECT_CHARS]
        context = _sentence_before(line, match.start())
        if not words.strip() or _CONDITION.search(context) or _is_question(line, match.start()) or _BOXED.match(words):
            continue
        yield _Statement(number, match.start(), words, match["noun"] is not None, False, match.end())


def _implied(number: int, line: str) -> Iterator[_Statement]:
    """Yield statements without the word "answer": "I choose B", "so B", "B is correct"."""
    for pattern in (_LEAVES, _POINTS_TO, _CORRECTED):
        for match in pattern.finditer(line):
            words = line[match.end() : match.end() + _OBJECT_CHARS]
            if words.strip() and not _is_question(line, match.start() + 1):
                yield _Statement(number, match.start(), words, False, True, match.end())
    for pattern in (_I_CHOOSE, _CONCLUDE):
        for match in pattern.finditer(line):
            context = "" if pattern is _CONCLUDE else _sentence_before(line, match.start())
            if not _CONDITION.search(context) and not _is_question(line, match.start() + 2):
                words = line[match.end() : match.end() + _OBJECT_CHARS]
                yield _Statement(number, match.start(), words, False, True, match.end())
    for match in _IS_CORRECT.finditer(line):
        words = _LEAD_IN.sub("", _sentence_before(line, match.start()))
        if words and not _is_question(line, match.start()) and not _CONDITION.search(words):
            for part in dict.fromkeys((words, words.rsplit(", ", 1)[-1])):  # "of the options, B is correct"
                yield _Statement(number, match.start(), part, False, True, match.end())


_LEAD_IN = re.compile(
    r"^(?:(?:so|therefore|thus|hence|then|and|but|only|because of this|i (?:think|believe)(?: that)?|clearly)\b,? ?)+",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)")


def _sentence_before(line: str, position: int) -> str:
    start = max((match.end() for match in _SENTENCE_END.finditer(line, 0, position)), default=0)
    return line[start:position].strip()


def _is_question(line: str, position: int) -> bool:
    match = _SENTENCE_END.search(line, position)
    return match is not None and match[0] == "?"


def _is_retracted(lines: Sequence[str], statement: _Statement) -> bool:
    """Return whether the text after a statement contradicts it."""
    return any(_TURN.search(text) for text in _texts_after(lines, statement))


def _texts_after(lines: Sequence[str], statement: _Statement) -> list[str]:
    """Return the rest of a statement's line after its sentence, and the lines after it, stripped."""
    rest = lines[statement.line][statement.stop :]
    end = _SENTENCE_END.search(rest)
    return [text.strip() for text in (rest[end.end() :] if end else "", *lines[statement.line + 1 :])]


def _first_clause(words: str) -> str:
    """Cut the statement at the end of its sentence or before its reason."""
    if match := re.match(r"(?:\([A-Z]\)|\[[A-Z]\]|[A-Z])(?=[.!?]?(?:\s|$))(?![.):]? [^\s(]*\s*$)", words):
        rest = words[match.end() :]
        if re.match(r"[.!?]\s+[A-Z]\w* \w", rest):  # "B. Note that ..": the letter, then another sentence
            return match[0]
    return re.split(r"(?<=[^\s.]{3})[.!?](?=\s|$)|,? (?:because|since|as)\b", words.strip(), maxsplit=1)[0]


def _clean(words: str) -> str | None:
    """Return the statement without surrounding quotes and full stop; None if empty."""
    return words.strip().strip("\"'").rstrip(".!;,").strip("\"'").strip() or None


# Names: fragments that begin with a choice.

_ARTICLE = re.compile(r"(?:an?|the) ", re.IGNORECASE)
_DETERMINER = re.compile(r"(?:an?|the|both) ", re.IGNORECASE)
_NAMING = re.compile(
    r"[\s\"':,]*(?:(?:option|choice|answer|letter|number|likely|most likely|probably|clearly|definitely|a|an|the)"
    r"(?= (?:option|choice|answer|letter|\(?[A-Z]\b)) )*(?:(?:option|choice|answer|letter)s? ?[:#]? ?)?[\"']*",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\(([A-Za-z])\)|\[([A-Za-z])\]|\{([A-Za-z])\}|([A-Za-z])(?![\w'&])")
_CONNECTOR = re.compile(
    r"\s*(?:$|[.;:!)\]\"'(}]|- |(?:です|だ|である|입니다|이다|예요|है)(?!\w)|,? ?(?:because|since|as|due|given|based|not|rather|instead|which|who|considering|for|to me|"  # noqa: E501
    r"and not|so|with)\b|,(?! ?(?:and|or)\b))",
    re.IGNORECASE,
)
_JOIN = re.compile(
    r"\s*(?:\)|\")?\s*(?:,? ?(?:or|and|and/or|nor|&|as well as|plus|versus|vs\.?)\b ?"
    r"|[,/&+|] ?(?!because|since|as\b|not\b))",
    re.IGNORECASE,
)


_NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_OTHER_NUMERAL = {str(n): word for n, word in enumerate(_NUMERALS)} | {word: str(n) for n, word in enumerate(_NUMERALS)}
_NONE_OF = ("none of the above", "none of these", "none of them", "none of the options", "none of the choices")


class _Names:
    """The choices of a question in the forms that prose uses for them."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = choices
        self.forms: list[tuple[str, str]] = []  # folded text, choice; longest first
        for choice in dict.fromkeys(choices):
            folded = _fold_text(choice)
            if folded:
                self.forms.append((folded, choice))
                if article := _ARTICLE.match(folded):
                    self.forms.append((folded[article.end() :], choice))
                if folded in _OTHER_NUMERAL:
                    self.forms.append((_OTHER_NUMERAL[folded], choice))
                if folded in _NONE_OF:
                    self.forms += [(form, choice) for form in _NONE_OF if form != folded]
        self.forms.sort(key=lambda form: -len(form[0]))

    def at_start(self, words: str) -> tuple[str, str] | None:
        """Return the choice at the start of ``words`` (after an optional article) and the remaining text."""
        for candidate in (words, _DETERMINER.sub("", words, count=1)):
            low = candidate.casefold()
            for form, choice in self.forms:
                if low.startswith(form) and not re.match(r"\w", low[len(form) : len(form) + 1]):
                    if any(other_form == form and other_choice != choice for other_form, other_choice in self.forms):
                        return None  # two choices that differ in case alone
                    return choice, candidate[len(form) :]
        return None

    def exactly(self, words: str) -> str | None:
        """Return the choice that the words are, by letter, text, or both."""
        choice = match_choice(words, self.choices)
        named = None if choice is not None else self.at_start(words)
        return named[0] if named is not None and not named[1].strip(" .!") else choice

    def of_letter(self, letter: str) -> str | None:
        index = ord(letter.upper()) - ord("A")
        return self.choices[index] if 0 <= index < len(self.choices) else None

    def mentioned(self, words: str, *, letters: bool = True) -> set[str]:
        """Return the choices that occur anywhere in ``words``, by text or by capital letter."""
        low = words.casefold()
        choices: set[str] = set()
        for form, choice in self.forms:
            low, n = re.subn(rf"(?<!\w){re.escape(form)}(?!\w)", " ", low)  # "dog barking" is no "dog"
            if n:
                choices.add(choice)
        if letters:
            for letter in re.findall(r"(?<![\w'])([B-HJ-Z])(?![\w'])|[(\[]([A-Z])[)\]]", words):
                if (choice := self.of_letter(letter[0] or letter[1])) is not None:
                    choices.add(choice)
        return choices

    def read(self, words: str, *, whole: bool) -> str | None:
        """Return the choice at the start of ``words``; None if several are named or, if ``whole``, more follows."""
        words = words.strip()
        direct = match_choice(words, self.choices)
        if direct is not None:
            return direct
        if _HEDGE.match(words.strip("\"' ")) and self.at_start(words) is None:
            return None
        words = words[_NAMING.match(words).end() :]  # type: ignore[union-attr]
        by_text = self.at_start(words)
        letter = _LETTER.match(words)
        if by_text is not None and not (letter and (letter[1] or letter[2] or letter[3])):
            choice, rest = by_text
            other = re.match(r"\s*[(\[]([A-Z])[)\]]", rest)
            if other and self.of_letter(other[1]) not in (choice, None):
                return None  # the text of one choice, the letter of another
        elif letter is not None:
            named = self._of_letter_form(letter, words)
            if named is None:
                return None
            choice, rest = named
        else:
            return None
        # more than punctuation, a reason or another sentence may follow only if it names no other choice
        more = whole and not _WHOLE.match(rest)
        if more and (not re.match(r", ?\w", rest) or self.mentioned(_UNIT.split(rest)[0]) - {choice}):
            return None
        return choice if _CONNECTOR.match(rest) and not self._is_joined(choice, rest) else None

    def _of_letter_form(self, letter: re.Match[str], words: str) -> tuple[str, str] | None:
        """Parse "(B)", "B." or "B", followed by the choice's text if present."""
        decorated = letter[1] or letter[2] or letter[3]
        bare = letter[4]
        choice = self.of_letter(decorated or bare)
        rest = words[letter.end() :]
        if choice is None or (bare and bare.islower() and not re.match(r"[.):]?\s*$", rest)):
            return None
        if bare and bare in "AI" and re.match(r" \w", rest) and not _CONNECTOR.match(rest):
            return None  # "A man speaks": an article
        separator = re.match(r"\s*[.):,/-]*\s*(?:\(|\")?\s*", rest)
        assert separator is not None
        text = self.at_start(rest[separator.end() :]) if separator.end() else None
        if text is not None:
            if text[0] == choice:
                return choice, text[1]
            exact = not _ARTICLE.match(rest[separator.end() :])
            if exact and (not re.match(r"\s*\w", text[1]) or self._is_joined(choice, rest)):
                return None  # the letter of one choice, the text of another
        return choice, rest

    def _is_joined(self, choice: str, rest: str) -> bool:
        """Return whether another choice is coordinated with this one: "A or B", "Man, Woman", "A/B"."""
        match = _JOIN.match(rest)
        if match is None:
            return False
        joined_text = rest[match.end() :]
        named = self.at_start(joined_text)
        if named is not None and named[0] != choice:
            return True
        letter = _LETTER.match(_NAMING.sub("", joined_text, count=1))
        return bool(
            letter
            and ((letter[4] or "A").isupper())
            and self.of_letter("".join(filter(None, letter.groups()))) not in (None, choice)
        )


def _fold_text(text: str) -> str:
    folded = " ".join(_fold_units(unicodedata.normalize("NFKC", text).translate(_FOLD)).casefold().split())
    return folded.strip("\"'").rstrip(".!?,;:").strip("\"'").strip()


_WHOLE = re.compile(
    r"\s*[)\]\"'}]*\s*(?:$|[.!;](?:\s|$)|,? ?(?:because|since|as|due|given|based|considering|not|"
    r"rather|instead|to me)\b|[(:-])",
    re.IGNORECASE,
)


# A whole passage.


def _from_statements(lines: Sequence[str], names: _Names) -> str | bool:
    """Return the choice that the statements name; True if they contradict or retract each other, False if none."""
    # Each statement with its choice; None if it names several choices or declares that there is none.
    readings: list[tuple[_Statement, str | None]] = []
    for statement in _statements(lines):
        choice = names.read(statement.words, whole=statement.whole)
        if choice is not None:
            readings.append((statement, choice))
        elif statement.explicit:
            clause = _first_clause(statement.words)
            declined = _DECLINED.match(statement.words.strip()) and match_choice(clause, names.choices) is None
            if declined or len(names.mentioned(clause)) > 1:
                readings.append((statement, None))  # "the answer is unclear", "the answer is A or B"
    if not readings:
        return False
    # The last statement counts.
    last, choice = readings[-1]
    if choice is None:
        return True
    # An earlier one names another choice: only a turn ("wait", "so") between the two resolves it.
    earlier = [(statement, other) for statement, other in readings[:-1] if other != choice]
    if earlier:
        previous = earlier[-1][0]
        text_between = lines[last.line][previous.stop : last.stop]
        if previous.line != last.line:
            whole_lines = lines[previous.line + 1 : last.line]
            text_between = " ".join(
                (lines[previous.line][previous.stop :], *whole_lines, lines[last.line][: last.stop])
            )
        concluded = _TURN.search(text_between) or _CONCLUSION.search(text_between)
        if not concluded and (previous.line == last.line or last.line < len(lines) - 1):
            return True
    # The text after the last statement may retract it.
    if _GIVES_UP.search(lines[last.line][last.stop :]):
        return True
    for text in _texts_after(lines, last):
        turn = _TURN.search(text)
        if turn and names.mentioned(text[turn.start() :]) - {choice}:
            return True
    return choice


_ITEM = re.compile(r"\(?(?:[A-Za-z]|\d{1,2})[.):] ")
_MARK = re.compile(
    r"[ :()-]*(?:(?P<yes>(?:yes|correct|true|likely|fits|matches)(?! not\b)|✓|✔|✅|☑)|(?P<no>no|not|incorrect|wrong|false|unlikely|✗|✘|❌|×))"  # noqa: E501
    r"(?!\w)",
    re.IGNORECASE,
)


def _from_marks(lines: Sequence[str], names: _Names) -> str | None:
    """Return the only choice marked as right in a list with a mark after each choice: "A. Man: no", "B. Woman: yes"."""
    marks: dict[str, bool] = {}
    for line in lines:
        entry = names.at_start(_ITEM.sub("", line, count=1))
        mark = entry and _MARK.match(entry[1])
        if entry and mark:
            if entry[0] in marks:
                return None
            marks[entry[0]] = mark["yes"] is not None
    right = [choice for choice, is_right in marks.items() if is_right]
    return right[0] if len(right) == 1 and len(marks) == len(names.choices) > 2 else None


_PAIR = re.compile(r"[(\[]([A-Z])[)\]][.:]?\s+|\b(?:option|choice) (\d{1,2})\s?[.:)-]\s*", re.IGNORECASE)

_EXCLUDED = re.compile(
    r"\b(?:eliminat|exclud|rul(?:e|ed|ing) |reject|discard|dismiss|except|unlike|without|instead|than|besides|remov|"
    r"drop|doubt|unsure|guess|question|consider|compar|contrast|versus|vs)",
    re.IGNORECASE,
)


def _from_pair(lines: Sequence[str], names: _Names) -> str | None:
    """Return the choice that the last sentence names by letter (or number) and text, "it belongs to (B) Woman"."""
    choices: set[str] = set()
    for line in lines:
        for match in _PAIR.finditer(line):
            choice = names.of_letter(match[1] or chr(ord("A") + int(match[2]) - 1))
            text = names.at_start(line[match.end() :])
            choices.add(choice if choice is not None and text is not None and text[0] == choice else "")
    last = _UNIT.split(lines[-1])[-1]
    if len(choices) != 1 or not _PAIR.search(last) or _UNSURE.search(last) or _EXCLUDED.search(last):
        return None
    return choices.pop() or None


_UNIT = re.compile(r"(?<=[.!?;])\s+(?=\S)")
_COPULAR = re.compile(
    r"(?P<subject>[^.!?;:]{1,80}?)(?: (?:is|was|are|were|sounds like|must be|would be|seems to be|appears to be)|'s) "
    r"(?P<object>.{1,400})$",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:not|never|no|nor|neither|either|one of|thought|assumed|believed|guessed|could|might|may|if|whether|or|unless|but|wrong|incorrect|false|possible|"  # noqa: E501
    r"potential|tempting|alternative|other|another|previous)\b|n't\b",
    re.IGNORECASE,
)


_TRAILING = re.compile(r"[,:] (?:(?:so|hence|thus|therefore|that is|i\.e\.,?|option|choice|answer) )*\(?([A-Z])\)?\.?$")
_CONCLUDED = re.compile(
    r"(?:^|[,;] )(?:so|therefore|thus|hence|consequently|in conclusion|overall|this means that),? (?=\S)", re.IGNORECASE
)
_OF_ORDER = re.compile(
    r"\b(?:after|before|between|following|preceding|follows|precedes|preceded by|followed by)\b.*", re.IGNORECASE
)


def _from_end(lines: Sequence[str], names: _Names) -> str | None:
    """Return the choice of the last sentence: "it barks, B", "a dog rather than a cat", "so the first is a dog"."""
    last = _UNIT.split(lines[-1])[-1]
    if last.endswith("?"):
        return None
    if match := _TRAILING.search(last):
        choice = names.of_letter(match[1])
        rest = last[: match.start()]
        listed = re.search(r"(?:^|\W)[A-Z]\W?$|^\s*\w+$", rest) is not None  # "A, B", "Options: A"
        unsure = listed or names.mentioned(rest) - {choice} or _UNSURE.search(rest)
        return choice if choice and not unsure else None
    before, _, right = last.partition(" rather than ")
    if right and not _UNSURE.search(before):
        chosen, other = names.mentioned(before, letters=False), names.mentioned(right, letters=False)
        if len(chosen) == 1 and other - chosen:
            return chosen.pop()
    for match in _CONCLUDED.finditer(last):
        clause = _COPULAR.match(last[match.end() :])
        if clause is None or _UNSURE.search(last[: match.start()] + clause["subject"]):
            continue
        if not names.mentioned(_OF_ORDER.sub("", clause["subject"])):
            return names.read(clause["object"], whole=True)
    return None


def _from_position(lines: Sequence[str], names: _Names, text: str) -> str | None:
    """Return the choice that forms a line or sentence of its own, at the beginning or at the end of the passage."""
    units = [unit for line in lines for unit in _UNIT.split(line)]
    exact: dict[int, str] = {}
    for place, unit in enumerate(units):
        if unit.endswith("?") and len(units) > 1:
            continue
        choice = names.exactly(unit)
        if choice is not None and (len(units) == 1 or len(unit.strip(" .)(:")) > 1 or unit.strip(" .)(:").isupper()):
            exact[place] = choice
    for line in lines:  # "(B) Woman", "B. Woman" in a line of its own
        choice = names.exactly(line)
        if choice is not None:
            exact.setdefault(len(units) - 1 if line == lines[-1] else 0, choice)
    ends = {choice for place, choice in exact.items() if place in (0, len(units) - 1)}
    first = names.read(lines[0], whole=True) if len(text) <= _MAX_CHARS and not units[0].endswith("?") else None
    entry = names.at_start(lines[0])
    if entry and (mark := _MARK.match(entry[1])) and mark["no"]:
        first = None  # "Man: not likely"
    if first is not None:
        ends.add(first)
    if len(ends) == 1 and not set(exact.values()) - ends:
        (choice,) = ends
        for place, unit in enumerate(units):
            turn = _TURN.search(unit)
            if turn and place and names.mentioned(unit[turn.start() :]) - {choice}:
                return None
        return choice
    if ends or len(units) > 1:
        return None
    match = _COPULAR.match(units[0])
    if match is None or _UNSURE.search(match["subject"]) or names.mentioned(match["subject"]):
        return None
    return names.read(match["object"], whole=True)
