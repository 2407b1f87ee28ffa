"""Questions are checked in plain words; answers match by the official rule and by the strict one."""

from __future__ import annotations

import json

import pytest
from conftest import BENCHMARK_FILES
from hypothesis import given
from hypothesis import strategies as st

from mpar2.question import (
    Event,
    Item,
    Question,
    QuestionError,
    item_from_json,
    item_to_json,
    make_question,
    match_choice,
    strict_match,
    string_match,
)

PEOPLE = ("Man", "Woman", "A child", "Robot")


def test_a_visitors_question_is_trimmed():
    question = make_question("  What barks? ", ["dog ", "", " cat"], answer="(A)", difficulty="easy")
    assert question == Question("What barks?", ("dog", "cat"), answer="dog", difficulty="easy")
    assert make_question("Why?").choices == ()


@pytest.mark.parametrize(
    ("text", "choices", "words"),
    [
        ("  \n", (), "empty"),
        ("x" * 1001, (), "1001 characters; the limit is 1000"),
        ("Who?", ("me",), "only one choice"),
        ("Who?", [f"person {i}" for i in range(27)], "27 choices; the limit is 26"),
        ("Who?", ("me", "y" * 301), "301 characters"),
        ("Who?", ("Dog", "cat", "dog."), "'Dog' and 'dog.' are the same"),
        ("Who?", "dog, cat", "give a list"),
    ],
)
def test_bad_questions_are_told_apart(text, choices, words):
    with pytest.raises(QuestionError, match="^.") as caught:
        make_question(text, choices)
    assert words in str(caught.value)


def test_an_answer_that_is_no_choice():
    with pytest.raises(QuestionError, match="not one of the choices"):
        make_question("Who?", ["dog", "cat"], answer="cow")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Man", "Man"),
        ("man.", "Man"),
        ('  "A  Child" ', "A child"),
        ("**Woman**", "Woman"),
        ("B", "Woman"),
        ("b.", "Woman"),
        ("(B)", "Woman"),
        ("[c]", "A child"),
        ("Option D", "Robot"),
        ("Answer: (D)", "Robot"),
        ("(A) Man", "Man"),
        ("A. man", "Man"),
        ("c) a child.", "A child"),
        ("(A) Woman", None),  # letter and text contradict each other
        ("(A) Man or woman", None),
        ("Man or woman", None),
        ("E", None),
        ("a", "Man"),
        ("", None),
        (None, None),
        ("Mann", None),
        ("The man", None),
        ("..", None),
    ],
)
def test_match_choice(text, choice):
    assert match_choice(text, PEOPLE) == choice


def test_text_goes_before_letter():
    notes = ("B", "A", "C")
    assert match_choice("A", notes) == "A" and match_choice("(A)", notes) == "B"


def test_choices_that_differ_in_case_alone_need_the_exact_text():
    assert match_choice("it", ("IT", "it")) == "it" and match_choice("It", ("IT", "it")) is None
    assert match_choice("dog", ("dog", "dog", "cat")) == "dog"  # MMAU repeats choices
    assert match_choice("?", ("?", "!")) == "?"


def test_choices_with_their_own_letters():
    own = ("A. a dog", "B. a cat")
    for said in ("A. a dog", "a dog", "A", "(A) A. a dog", "(A) a dog"):
        assert match_choice(said, own) == "A. a dog"


@given(st.text(max_size=40), st.lists(st.text(max_size=12), max_size=6))
def test_match_choice_is_total_and_only_names_choices(text, choices):
    assert match_choice(text, choices) in {None, *choices}
    for choice in choices:
        if choice.strip():
            named = match_choice(choice, choices)
            assert named is not None and named.strip() == choice.strip()


@pytest.mark.parametrize(
    ("prediction", "right"),
    [("man.", True), ("(A) Man", False), ("Man or woman", False), ("", False), ("B", False), (None, False)],
)
def test_string_match_vectors(prediction, right):
    assert string_match("Man", prediction, PEOPLE) is right


def test_string_match_ignores_order_and_strict_match_does_not():
    answer = "first: neutral, second: frustration"
    swapped = "first: frustration, second: neutral"
    assert string_match(answer, swapped, (answer, swapped))
    assert not strict_match(answer, swapped, (answer, swapped))
    assert strict_match(answer, answer.upper(), (answer, swapped))


def test_string_match_words():
    assert string_match("it's", "s it", ("it's", "other"))
    assert not string_match("light_switch", "light switch", ("light_switch", "bell"))
    assert string_match("Café", "the café", ("Café", "bar")) and not string_match("Café", "cafe", ("Café", "bar"))


@pytest.mark.parametrize(
    ("prediction", "right"), [("(A) Man", True), ("A", True), ("man", True), ("Man or woman", False), (None, False)]
)
def test_strict_match(prediction, right):
    assert strict_match("Man", prediction, PEOPLE) is right


def test_strict_match_of_an_open_question():
    assert strict_match("Two dogs", "two dogs.") and not strict_match("Two dogs", "dogs two")


@pytest.mark.parametrize(
    ("name", "gold", "lettered", "sentence", "letter", "swapped"),
    [("mmau-test-mini.json", 1000, 967, 907, 2, 9), ("MMAR-meta.jsonl", 1000, 985, 910, 0, 20)],
)
def test_counts_on_the_real_benchmarks(name, gold, lettered, sentence, letter, swapped):
    path = BENCHMARK_FILES / name
    if not path.exists():
        pytest.skip(f"{name} is not here: put the official files into a folder and name it in MPAR2_BENCHMARK_FILES")
    text = path.read_text(encoding="utf-8")
    items = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]
    items = [(item["answer"], item["choices"]) for item in items]
    letters = ["ABCDEFGHIJ"[choices.index(answer)] for answer, choices in items]

    def right(predictions):
        return sum(string_match(a, p, c) for p, (a, c) in zip(predictions, items, strict=True))

    assert right(a for a, _ in items) == gold
    assert right(f"({x}) {a}" for x, (a, _) in zip(letters, items, strict=True)) == lettered
    assert right(f"The answer is {a}." for a, _ in items) == sentence
    assert right(letters) == letter
    assert sum(any(c != a and string_match(a, c, choices) for c in choices) for a, choices in items) == swapped
    # After match_choice the letter and the lettered form lose nothing but what repeated choices make ambiguous.
    assert right(match_choice(f"({x}) {a}", c) for x, (a, c) in zip(letters, items, strict=True)) == 1000
    assert all(strict_match(a, a, c) for a, c in items)


@pytest.mark.parametrize(
    "item",
    [
        Item("1", "a.wav", Question("What?")),
        Item(
            "x/2",
            "b.flac",
            Question("What?", ("dog", "cat"), "dog", "sound", "what", "one", "easy"),
            (Event("dog", 0.5, 1.0), Event("rain")),
            "a dog in the rain",
            "scene",
            {"seed": 3},
        ),
        Item("3", "c.wav", Question("What?"), events=()),
    ],
)
def test_items_survive_json(item):
    data = json.loads(json.dumps(item_to_json(item)))
    assert item_from_json(data) == item
    del data["id"]
    assert item_from_json(data, item.id) == item


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"audio": "a", "question": "b"}, "no id"),
        ({"id": "1", "question": "b"}, "'audio'"),
        ({"id": "1", "audio": "a", "question": "b", "events": [1]}, "'events'"),
        ({"id": "1", "audio": "a", "question": "b", "events": [{}]}, "'label'"),
    ],
)
def test_bad_items_are_told_apart(data, words):
    with pytest.raises(QuestionError) as caught:
        item_from_json(data)
    assert words in str(caught.value)
