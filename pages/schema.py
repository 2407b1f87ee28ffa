"""Schema of the comparison document, for writing and reading in ``pages.document``.

A document may come from an untrusted file, so every value has a type, numbers are finite, lists and texts are bounded,
and unknown fields are refused. ``pages.document`` describes the fields and checks the relations between them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int, Field(ge=0, le=10_000_000)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]
Name = Annotated[str, Field(max_length=20_000)]
Text = Annotated[str, Field(max_length=1_000_000)]
Packed = Annotated[str, Field(max_length=8_000_000)]  # bytes as base64
Span = Annotated[list[Count], Field(min_length=2, max_length=2)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Triple = Annotated[list[Number], Field(min_length=3, max_length=3)]
Names = Annotated[list[Name], Field(max_length=400)]
Mode = Literal["raw", "length"]
PictureMode = Literal["raw", "length", "raw_clean", "length_clean"]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Mel(_Strict):
    shape: Span
    start_s: Number
    column_s: Annotated[Number, Field(gt=0)]
    data: Packed


class _Clip(_Strict):
    name: Name
    seconds: Annotated[Number, Field(gt=0)]
    digest: Name
    warnings: Names
    mel: _Mel | None
    audio: (
        Annotated[str, Field(max_length=8_000_000, pattern=r"^data:audio/(flac|mpeg|wav);base64,[A-Za-z0-9+/=]*$")]
        | None
    )
    shareable: bool


class _Question(_Strict):
    text: Name
    choices: Names
    answer: Name | None
    domain: Name | None
    difficulty: Name | None


class _Event(_Strict):
    label: Name
    onset_s: Number | None
    offset_s: Number | None


class _Truth(_Strict):
    origin: Name | None
    events: Annotated[list[_Event], Field(max_length=400)]


class _TaggedEvent(_Event):
    onset_s: Number
    offset_s: Number
    confidence: Number
    errors: Name | None


class _Opinion(_Strict):
    origin: Name
    events: Annotated[list[_TaggedEvent], Field(max_length=400)]
    unsure: Annotated[list[_TaggedEvent], Field(max_length=400)]
    note: Name


class _Decoding(_Strict):
    max_new_tokens: Count | Name
    temperature: Number
    top_p: Number
    seed: Number | None


class _Part(_Strict):
    kind: Name
    number: Count | None
    parent: Count | None
    text: Text
    chars: Span
    outer: Span
    tokens: Span | None


class _Picture(_Strict):
    shape: Span
    scale: Packed
    data: Packed | None
    as_: PictureMode | None = Field(None, alias="as")


_Pictures = dict[PictureMode, _Picture]


class _Passage(_Strict):
    name: Name
    short: Name
    kind: Name
    chars: Span
    tokens: Span


class _View(_Strict):
    label: Name
    shares: dict[Mode, list[Number]]
    pictures: _Pictures


class _Peaks(_Strict):
    passages: list[list[Triple]]
    words: list[list[Triple]]


class _Attention(_Strict):
    layers: Count
    heads: Count
    audio_positions: Count
    tokens: Count
    columns: Count
    column_s: Annotated[Number, Field(gt=0)]
    ratio: Number
    corrected: Number
    even: Number
    course: dict[Mode, list[Number]]
    thirds: dict[Mode, Pair] | None
    summary: dict[Mode, Name]
    passages: list[_Passage]
    views: Annotated[list[_View], Field(max_length=64)]
    whole: _Pictures | None
    words: _Pictures | None
    peaks: _Peaks
    lights: list[Triple]
    sinks: list[Number]


class _Confidence(_Strict):
    course: list[Annotated[Number, Field(ge=0, le=1)]]
    summary: Name


class _Occlusion(_Strict):
    measure: Name
    edges_s: list[Number]
    drops: list[Number | None]
    summary: Name


class _Mention(_Strict):
    id: Name
    quote: Text
    start: Count
    stop: Count
    label: Name
    kind: Literal["matched", "hallucinated", "misused", "neutral"]
    events: list[Count]
    reason: Name
    error: Name | None
    claims: Names
    part: Name
    why: Name


class _Claim(_Strict):
    label: Name
    fate: Literal["matched", "hallucinated", "misused", "missed"]
    event: Count | None
    mentions: list[Count]
    said: Count
    right: Count
    why: Name


class _Cafe(_Strict):
    mentions: list[_Mention]
    missed: list[Count]
    targets: Names
    judge: Name
    model: Name | None
    model_version: Name | None
    prompt_hash: Name | None
    truth_origin: Name
    package_version: Name
    counts: dict[Literal["matched", "hallucinated", "misused", "missed", "neutral", "predicted", "targets"], Count]
    metrics: dict[Literal["acc_per", "err_per", "err_use", "err_omit"], Number | None]
    source: Name
    claims: list[_Claim]


class _Unscored(_Strict):
    unscored: Name


class _Against(_Strict):
    base: Count
    right_claims: int | None
    acc_per: Number | None
    last_third: Number | None
    tokens: int


class _Arm(_Strict):
    name: Name
    model: Name | None
    adapter: Name | None
    mode: Name
    stage: Name
    text: Text
    parts: Annotated[list[_Part], Field(max_length=2_000)]
    problems: Names
    words: list[Annotated[list[Count], Field(min_length=4, max_length=4)]]
    token_count: Count
    answer: Text | None
    choice: Name | None
    correct: bool | None
    unscored: Text | None
    finish: Name | None
    seconds: Number | None
    first_token_s: Number | None = None
    prompt_tokens: Count | None = None
    audio_seconds: Number | None = None
    attention_ratio: Number | None
    attention_corrected: Number | None
    warnings: Names
    error: Text | None
    attention: _Attention | None
    confidence: _Confidence | None = None
    cafe: _Cafe | _Unscored | None
    occlusion: _Occlusion | None = None
    against: _Against | None


class _Scales(_Strict):
    passages: dict[PictureMode, Number]
    words: dict[PictureMode, Number]
    line: dict[Mode, Number]


class _Document(_Strict):
    format: Name
    version: int
    id: Name
    created: Name
    package: Name
    status: Literal["running", "done", "stopped", "error"]
    stored: bool = False
    opened: bool = False
    clip: _Clip
    question: _Question
    truth: _Truth | None
    opinion: _Opinion | None = None
    decoding: _Decoding
    prompts: dict[Name, Name]
    credits: Text | None
    example: Name | None
    link: Text | None
    scales: _Scales | None
    arms: list[_Arm]


def problem_of(data: Any) -> str | None:
    """Return the location and message of the first violation of the schema, or None for a valid document."""
    try:
        _Document.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:300]
    return None
