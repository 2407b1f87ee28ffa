"""One reader of answers: every usual form of a reply is read, and nothing is guessed."""

from __future__ import annotations

import json
import re

import pytest
import soundfile
from asking import arm, ask
from conftest import make_clip
from hypothesis import given
from hypothesis import strategies as st

from mpar2.accuracy import answer_of, score, summarise
from mpar2.answers import named_choice, read_answer, stated_answer
from mpar2.items import ItemsError, read_items
from mpar2.predictions import prediction_keys
from mpar2.question import Item, Question, resolve_answer
from mpar2.trace import parse_trace
from testing.wire import openai_reply, serve
from training.rewards.functions import accuracy_reward

PEOPLE = ("Man", "Woman", "Child", "Robot")

MAN = [
    "Man",
    "The correct option isn't B, it's A.",
    "It isn't B, it isn't C, it isn't D, it's A.",
    "I can rule out Woman, Child and Robot, leaving Man.",
    "The voice belongs to **(A) Man**.",
    "My answer is B... no, A.",
    "The answer is Woman. Sorry, I meant Man.",
    "Choice 1: Man",
    "La respuesta es A.",
    "Réponse : A",
    "Die Antwort lautet A.",
    "man.",
    "The speaker is a Man.",
    '{"reasoning": "low pitch, not a woman", "answer": "Man"}',
    "{'choice': 'A'}",
    "A. Man - yes\nB. Woman - no\nC. Child - no\nD. Robot - no",
    "Man ✅\nWoman ❌\nChild ❌\nRobot ❌",
    "答えはAです。",
    "정답은 A입니다.",
    "Odpowiedź: A",
    "La opción correcta es A.",
    "Answer ➜ A",
    "A it is.",
    "Man seems to be the best option.",
    "The low pitch points to a man.",
    "Initially I thought it was a woman, but it's a man.",
    "It isn't a woman at all; he's a man.",
    "I'd call it Man, not Robot.",
    "If I had to guess, A.",
    "Eliminating B, C and D, we get A.",
    "[[A]]",
    "Option A: Man",
    "Choice: Man",
    "So the answer would be Man",
    "<think>x</think>Man",
    "Sure! The best choice is **Man**.",
    "I would choose Man.",
    "Option A",
    "A)",
    "(A)",
    "**A**",
    "The correct option is A.",
    "A. Man",
    "(A) Man because of the pitch.",
    "<answer>(A) Man because of the pitch</answer>",
    "<answer>\\boxed{A}</answer>",
    "$\\boxed{\\text{A}}$",
    "\\boxed{\\textbf{(A) Man}}",
    "Final Answer: A",
    "**Final answer:** (A) Man",
    "### Answer\nA",
    "Answer:\nMan",
    '{"answer": "A"}',
    '{"answer": "Man", "confidence": 0.9}',
    "Answer: A\n\nExplanation: a woman would be higher.",
    "Option A is correct.",
    "A is the correct answer.",
    "(A) is right.",
    "B is not correct. A is the correct answer.",
    "The answer is not B; the answer is A.",
    "The answer is B. Wait, actually the answer is A.",
    "If the pitch were high, the answer would be B. It is low, so the answer is A.",
    "It's a man.",
    "I think it's a man.",
    "I'd say Man.",
    "Therefore, A.",
    "Thus the correct answer is: A",
    "The pitch is low.\nMan",
    "The pitch is low.\n\n**A**",
    "Man. The pitch is low.",
    "Man, because the pitch is low.",
    "Ａ",
    "（A）",
    "答案是A",
    "答案：A",
    "The answer to this question is A.",
    "The correct answer is option A.",
    'The answer is "Man".',
    "the answer is: a",
    "The answer is A, not B.",
    "Among the options, the most likely answer is A (Man).",
    "My answer: A",
    "A: Man",
    "The answer is A) Man.",
    "<thinking>it may be a woman</thinking>Man",
    "<final_answer>A</final_answer>",
    "The pitch is low</think>A",
    "<answer>A</answer>",
    "<answer>Answer: A</answer>",
    "<answer> A. Man </answer>",
    "<answer>option a</answer>",
    "<ANSWER>Man.</ANSWER>",
    "The answer should be A.",
    "I choose A.",
    "I'm going with A.",
    "A is the best choice.",
    "The voice in the recording is that of a Man? The answer is A.",
    "Certainly! A",
    "The correct choice is Man",
    "The answer is a man.",
    "The answer is the man.",
    "Based on the audio, the answer is A: Man.",
    "The right answer is (A).",
    "The answer must be A.",
    "The answer has to be A!",
    "The answer is definitely A.",
    "<think>B? no.</think>\n\nThe answer is A.",
    "<perception>a voice</perception><answer>A</answer>",
    "Answer - A",
    "Answer = A",
    "ANSWER: A",
    "answer is A",
]

WOMAN = [
    "Woman (B)",
    "Woman - B",
    "B - Woman",
    "B: Woman",
    "b) woman",
    "[B]",
    "B).",
    "Option (B): Woman",
    "Answer:B",
    "**Answer:** B",
    "__B__",
    "`B`",
    "> B",
    "- B",
    "• Woman",
    "👉 B",
    "✅ B. Woman",
    "Correct answer: B",
    "Selected option: B",
    "My choice is B",
    "I believe the answer is B",
    "I'm confident that the answer is B.",
    "Looking at the options, B is most likely.",
    "The most likely answer is B",
    "It is B.",
    "It's B",
    "That would be B.",
    "正确答案是B",
    "正确答案是B。因为音调高。",
    "选B",
    "答案应该是B",
    "<answer>I think it is the woman, because the pitch is high.</answer>",
    "<answer>Woman",
    "Answer: The woman.",
    "The answer is B) Woman, as the pitch is high",
    "Let's think step by step. The pitch is high. So the answer is B.",
    "Step 1: A man would sound low.\nStep 2: The pitch is high.\n\nThe answer is: **B. Woman**",
    "The speaker is not a man. The answer is Woman.",
    "\\[ \\boxed{B} \\]",
    "The final answer is $\\boxed{B}$.",
    "Therefore, the correct answer is:\n\n**(B) Woman**",
    'Answer: "B"',
    '"B"',
    "'B.'",
    "B!",
    "B,",
    "The answer, therefore, is B.",
    "Thus, B is the answer.",
    "The audio features a high voice. Answer: B",
    "I hear a woman so the answer is B",
    "Answer: B.\nReason: A man would sound lower.",
    "The answer is Woman. Not Man.",
    "I pick (B).",
    "My final answer is option B: Woman.",
    "The best answer would be B.",
    "B",
    " B ",
    "Answer: Woman.",
]

NOBODY = [
    "I would eliminate (A) Man.",
    "Excluding (A) Man we are left with three options.",
    "Eliminating Man and Woman leaves Child or Robot.",
    "Is it A? Actually, B is tempting, but I am not sure.",
    "The answer could be (B) Woman.",
    "It is not clear, it is noisy.",
    "Man or Woman",
    "A or B",
    "A and B",
    "A, B",
    "A/B",
    "The answer is A or B.",
    "The answer is either A or B.",
    "Either a man or a woman.",
    "It could be a man.",
    "It is not a man.",
    "It isn't a man.",
    "The answer is not A.",
    "Not Man",
    "Not A.",
    "Neither A nor B is correct.",
    "The answer is unclear.",
    "I cannot tell.",
    "The answer is in the audio.",
    "Is the answer A?",
    "Is it a man?",
    "Man? Woman?",
    "A man speaks, then a woman.",
    "A man is talking.",
    "A. Man\nB. Woman\nC. Child\nD. Robot",
    "A) Man B) Woman C) Child D) Robot",
    "The options are Man, Woman, Child and Robot.",
    "<think>Man</think>",
    "<think>The answer is A",
    "If it were low, the answer would be A.",
    "The wrong answer is A.",
    "A common wrong answer is A.",
    "The answer is A. The answer is B.",
    "The answer might be A, or it might be B.",
    "I would not choose A.",
    "Man\nWoman",
    "(A) Woman",
    "The answer is (A) Woman.",
    "A. Woman",
    "The answer is A. But it could also be B.",
    "The man sounds like a robot.",
    "The man is a robot.",
    "A is wrong.",
    "A is incorrect, B is incorrect.",
    "I don't know.",
    "E",
    "The answer is E.",
    "A man and a woman",
    "One possible answer is A.",
]

OTHERS = [
    ("The answer is none of the above.", ("A dog", "None of the above"), "None of the above"),
    ("The answer is None of the above because nothing fits.", ("A dog", "None of the above"), "None of the above"),
    ("It happens in the morning.", ("In the morning", "At night"), None),
    ("The answer is in the morning.", ("In the morning", "At night"), "In the morning"),
    ("Yes, a dog barks.", ("Yes", "No"), "Yes"),
    ("No, there is no dog.", ("Yes", "No"), "No"),
    ("Yes or no", ("Yes", "No"), None),
    ("3.", ("2", "3"), "3"),
    ("The answer is 3.", ("2", "3"), "3"),
    ("2 or 3", ("2", "3"), None),
    ("There are 3 beeps", ("2", "3"), None),
    ("Two", ("2", "3"), "2"),
    ("The answer is 0.5 seconds.", ("5 s", "0.5 s", "500 ms"), "0.5 s"),
    ("500ms", ("5 s", "0.5 s", "500 ms"), "500 ms"),
    ("Both cat and dog", ("Cat", "Dog", "Cat and dog"), "Cat and dog"),
    ("None of these.", ("Rain", "None of the above"), "None of the above"),
    ("There is no dog, so no.", ("Yes", "No"), "No"),
    ('{"wrong_answer": "A"}', ("Yes", "No"), None),
    ('{"answer": ["A", "B"]}', ("Yes", "No"), None),
    ("A. Dog: yes\nB. Cat: yes\nC. Cow: no", ("Dog", "Cat", "Cow"), None),
    ("Dog: not likely", ("Dog", "Cat", "Cow"), None),
    ("I believe it is a dog, but it is hard to say.", ("Dog", "Cat"), None),
    ("The answer is 3.5 seconds.", ("3 seconds", "3.5 seconds"), "3.5 seconds"),
    ("The answer is dog barking", ("dog", "dog barking"), "dog barking"),
    ("A dog", ("A dog", "A cat"), "A dog"),
    ("A", ("A dog", "A cat"), "A dog"),
    ("a dog and a cat", ("A dog", "A cat"), None),
    ("The answer is dog.\nBut then again I hear a cat.", ("dog", "cat"), None),
    ("The answer is I.", ("B", "C"), None),
    ("The answer is a cat.", ("A dog", "A cat"), "A cat"),
    ("The answer is A cat.", ("A dog", "A cat"), "A cat"),
    ("The answer is A.", ("A dog", "A cat"), "A dog"),
    ("The first sound is a bell. So the answer is (B).", ("bell", "dog"), "dog"),
    (
        "first: a bell, second: a dog",
        ("first: a bell, second: a dog", "first: a dog, second: a bell"),
        "first: a bell, second: a dog",
    ),
    ("The answer is E major.", ("E major", "C major"), "E major"),
    ("The key is C major", ("E major", "C major"), "C major"),
    ("C", ("E major", "C major"), None),
    ("The answer is C.", ("A", "B", "C"), "C"),
    ("<answer>Answer: The bell.</answer>", ("bell", "dog"), "bell"),
    ("Dr. Smith", ("Dr. Smith", "Mr. Jones"), "Dr. Smith"),
    ("The answer is Dr. Smith.", ("Dr. Smith", "Mr. Jones"), "Dr. Smith"),
    ("First there is a siren, then a bell. So the second sound is the bell.", ("siren", "bell"), "bell"),
    ("Therefore the sound that comes after the dog is the bell.", ("siren", "bell", "dog"), "bell"),
    ("So the first speaker is a man. The second is a woman.", ("Man", "Woman"), None),
    ("So the second sound could be a bell.", ("siren", "bell"), None),
    ("The voice is deep. It is a man rather than a woman.", ("Man", "Woman"), "Man"),
    ("It may be a man rather than a woman.", ("Man", "Woman"), None),
    ("The animal that is heard barks, B.", ("cat", "dog"), "dog"),
    ("It is a dog barking, so B", ("cat", "dog"), "dog"),
    ("It is probably a dog, A", ("cat", "dog"), None),
]


def choice_of(text, choices=PEOPLE):
    return read_answer(parse_trace(text), choices).choice


@pytest.mark.parametrize(("replies", "choice"), [(MAN, "Man"), (WOMAN, "Woman"), (NOBODY, None)], ids=str)
def test_usual_forms_are_read_and_nothing_is_guessed(replies, choice):
    wrong = {reply: named for reply in replies if (named := choice_of(reply)) != choice}
    assert not wrong


@pytest.mark.parametrize(("text", "choices", "choice"), OTHERS)
def test_choices_of_other_kinds(text, choices, choice):
    assert choice_of(text, choices) == choice


def test_inside_tags_and_outside_the_same_words_are_read_alike():
    for reply in (*MAN, *WOMAN, *NOBODY):
        if "<" not in reply and "think" not in reply.lower():
            assert choice_of(f"<think>x</think><answer>{reply}</answer>") == choice_of(reply), reply
            assert choice_of(f"<think>A robot?</think>\n{reply}") == choice_of(reply), reply


@given(st.text(max_size=80), st.lists(st.text(min_size=1, max_size=12), max_size=6))
def test_the_reader_is_total_and_names_only_choices(text, choices):
    answer = read_answer(parse_trace(text), choices)
    assert answer.choice in {None, *choices}
    assert bool(answer.prediction) == bool(text.strip())
    assert named_choice(text, choices) in {None, *choices} and stated_answer(text) != ""


_SAFE = st.sampled_from(["a bell", "two dogs", "rain on a roof", "C major", "3.5 seconds", "Dr. Smith", "yes", "no"])


@given(st.lists(_SAFE, min_size=2, max_size=5, unique=True), st.integers(0, 4), st.data())
def test_any_choice_in_any_frame_is_read(choices, place, data):
    right = choices[place % len(choices)]
    letter = "ABCDE"[choices.index(right)]
    frames = [right, f"({letter}) {right}", letter, f"The answer is {letter}.", f"The answer is {right}."]
    frames += [f"Answer: {letter}\n\nThat is what sounds.", rf"So \boxed{{{letter}}}", f"The best option is {letter}."]
    assert choice_of(data.draw(st.sampled_from(frames)), choices) == right


@given(st.lists(_SAFE, min_size=2, max_size=5, unique=True))
def test_two_choices_at_once_name_none(choices):
    first, second = choices[:2]
    for joined in (f"{first} or {second}", "A or B", f"The answer is {first} or {second}.", f"{first}\n{second}"):
        assert choice_of(joined, choices) is None


# The official rule, from the scripts' description: words of the answer in the prediction, none of the others' words.


def official(answer, prediction, choices):
    def words(text):
        return set(re.findall(r"\b\w+\b", text.lower()))

    right, said = words(answer), words(prediction)
    if not said:
        return False
    others = set().union(*(words(choice) - right for choice in choices))
    return right.issubset(said) and said.isdisjoint(others)


STYLES = [
    "{text}", "{low}.", "({letter}) {text}", "{letter}", "({letter})", "{letter}.",
    "Option {letter}: {text}", "Choice: {text}",
    "The speaker is a {text}.", "So the answer would be {text}", "<think>x</think>{text}",
    "Sure! The best choice is **{text}**.",
    "I would choose {text}.", "The answer is {letter}.", "<answer>{text}</answer>", "<answer>{letter}</answer>",
    "Answer: {letter}\n\nExplanation: the pitch.", "It might be anyone, perhaps a {text}, who knows",
    "\\boxed{{{letter}}}",
    "<think>It is a {text}", "I hear a {text} talking to somebody.", "<answer>Who knows</answer>",
]  # fmt: skip


def reply_records():
    for style in STYLES:
        for index, text in enumerate(PEOPLE):
            reply = style.format(text=text, low=text.lower(), letter="ABCD"[index])
            for answer in PEOPLE:
                yield {
                    "item": {"choices": list(PEOPLE), "answer": answer},
                    "text": reply,
                    "choice": None,
                    "prediction": "",
                }


def test_official_scripts_agree_item_by_item_in_all_styles():
    for record in reply_records():
        answer, reply = record["item"]["answer"], record["text"]
        written = prediction_keys(answer_of(record).prediction, reply)
        ours = score(record)
        assert written["model_output"], reply
        for key in ("model_output", "model_prediction", "answer_prediction"):
            assert official(answer, written[key], PEOPLE) == ours.official, reply
        # What the scripts accept in the bare reply is right here as well.
        bare = re.sub(r"(?s)<think>.*</think>|</?answer>", "", reply)
        assert ours.official >= official(answer, bare, PEOPLE), reply
        assert ours.official >= ours.strict, reply


def test_a_reply_without_an_answer_is_counted_apart_from_a_wrong_form():
    item = Item("i", "a.wav", Question("Who?", PEOPLE, "Man"))
    texts = ["Man", "I hear a man talking to somebody.", "<answer>somebody</answer>", "", "<think>Man"]
    records = [
        {
            "key": f"i|a|{n}", "id": "i", "arm": "a", "sample": n, "status": "ok", "error": None, "text": text,
            "item": {"choices": list(PEOPLE), "answer": "Man"}, "choice": None, "prediction": "", "tokens": 1,
            "finish": "stop",
        }
        for n, text in enumerate(texts)
    ]  # fmt: skip
    found = summarise(records, [item], {"a": len(texts)})["arms"]["a"]
    assert (found["no_answer"], found["wrong_form"], found["unparsable"]) == (3, 1, 4)
    assert found["official"]["estimate"] == 3 / 5 and found["strict"]["estimate"] == 1 / 5


@pytest.mark.parametrize("reply", ["Woman", "Woman.", "B", "The correct option is B."])
def test_bare_replies_of_a_server_are_right_by_every_rule(tmp_path, reply):
    soundfile.write(tmp_path / "a.wav", make_clip(0.3).samples, 16_000)
    line = {"audio": "a.wav", "question": "Who?", "choices": list(PEOPLE), "answer": "B"}
    (tmp_path / "items.jsonl").write_text(json.dumps(line) + "\n")
    items = read_items("jsonl", tmp_path)
    with serve(lambda call: openai_reply(reply)) as server:
        metrics = ask(server.url, items, [arm("an arm")], tmp_path / "run")["arms"]["an arm"]
    assert metrics["official"]["estimate"] == metrics["strict"]["estimate"] == 1.0 and metrics["no_answer"] == 0
    (path,) = (tmp_path / "run" / "predictions").iterdir()
    assert json.loads(path.read_text())["model_output"] == "Woman"


# Answers by letter in data


def test_letters_in_data_are_resolved_when_items_are_read(tmp_path):
    lines = [
        {"id": "letter", "audio": "a.wav", "question": "Who?", "choices": list(PEOPLE), "answer": "B"},
        {"id": "words", "audio": "a.wav", "question": "Who?", "choices": list(PEOPLE), "answer": "Woman"},
        {"id": "open", "audio": "a.wav", "question": "Which letter?", "answer": "B"},
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_items("jsonl", tmp_path)
    assert [item.question.answer for item in found.items] == ["Woman", "Woman", "B"]
    assert any("1 items give their answer by letter" in problem for problem in found.problems)
    mmau = [{"id": "1", "audio_id": "a.wav", "question": "Who?", "choices": list(PEOPLE), "answer": "(B) Woman"}]
    (tmp_path / "mmau.json").write_text(json.dumps(mmau))
    assert read_items("mmau", tmp_path / "mmau.json").items[0].question.answer == "Woman"


def test_a_letter_as_answer_rewards_the_same_completions_as_its_words():
    replies = ["<answer>Woman</answer>", "<answer>B</answer>", "<answer>(B) Woman</answer>", "<answer>Man</answer>"]
    columns = {"choices": [list(PEOPLE)] * 4}
    by_letter = accuracy_reward()(replies, **columns, answer=["B"] * 4)
    assert by_letter == accuracy_reward()(replies, **columns, answer=["Woman"] * 4) == [1.0, 1.0, 1.0, 0.0]


def test_texts_go_before_letters_where_choices_are_letters():
    assert resolve_answer("A", ("B", "A", "C")) == "A" and resolve_answer("X", PEOPLE) == "X"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("choices", "['Man', 'Woman']"),
        ("choices", {"A": "Man", "B": "Woman"}),
        ("choices", ["Man", 3]),
        ("answer", 1),
        ("difficulty", float("nan")),
        ("category", ["Reasoning"]),
        ("caption", 3),
        ("events", {"label": "dog"}),
        ("onset_s", float("nan")),
        ("offset_s", "2.0"),
        ("id", True),
        ("extra", []),
    ],
)
def test_a_field_of_a_wrong_type_is_named_with_its_line_before_anything_is_asked(tmp_path, field, value):
    good = {"id": "ok", "audio": "a.wav", "question": "Who?"}
    bad = {"id": "bad", "audio": "a.wav", "question": "Who?"}
    if field in ("onset_s", "offset_s"):
        bad["events"] = [{"label": "dog", field: value}]
    else:
        bad[field] = value
    (tmp_path / "items.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    with pytest.raises(ItemsError, match=rf"line 2.*'{field}'"):
        read_items("jsonl", tmp_path)
