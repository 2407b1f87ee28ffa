"""Hundreds of hostile files through the two loaders that strangers reach: no crash, no hang, no flood, clear words."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from mpar2.audio import AudioError, load_clip
from testing.hostile import write_files
from testing.hostile.sounds import NAMES, good_wav, hostile_sounds
from testing.hostile.uploads import hostile_uploads
from testing.hostile.worker import Report, examine

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads peak memory in the units of Linux")

EXTRA_MB, MOST_S = 300, 10
ADVICE = re.compile(  # what to do; or, in the lines of a run, what is wrong and where
    r"again|cut it|choose|accepted are|export|upload|zip|limit|needed|must|remove|give|let|line \d+|allowed|lacks"
)


def held(reports: list[Report], *, refused: int) -> None:
    """The promise of the app about any file: used or refused in words, and never at a price."""
    bad = [report for report in reports if report.outcome not in ("used", "refused")]
    assert not bad, "\n".join(f"{report.name}: {report.outcome}, {report.message}" for report in bad[:10])
    assert Counter(report.outcome for report in reports)["refused"] >= refused
    for report in reports:
        assert report.extra_mb <= EXTRA_MB and report.seconds <= MOST_S, report
        if report.outcome == "refused":
            said = report.message.replace(report.name, "").replace(Path(report.name).stem, "")
            assert ADVICE.search(said) and "Traceback" not in said, report
            assert len(report.message) < 700 and "\n" not in report.message, report


def test_hostile_sounds(tmp_path: Path) -> None:
    sounds = hostile_sounds()
    assert len(sounds) >= 200 and len({sound.name for sound in sounds}) == len(sounds)
    held(list(examine("sounds", write_files(sounds, tmp_path))), refused=100)


def test_hostile_runs(tmp_path: Path) -> None:
    held(list(examine("uploads", write_files(hostile_uploads(odd_values=0), tmp_path))), refused=40)


def test_odd_values_in_a_run_that_is_drawn(tmp_path: Path) -> None:
    uploads = hostile_uploads(seed=1, odd_values=12)[-12:]
    held(list(examine("figures", write_files(uploads, tmp_path))), refused=3)


def test_a_seed_makes_the_same_files() -> None:
    first, second = hostile_sounds(3), hostile_sounds(3)
    assert [sound.make() for sound in first[::17]] == [sound.make() for sound in second[::17]]
    assert hostile_sounds(4)[4].make() != first[4].make()


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_is_shown_on_one_line_and_never_opened(name: str) -> None:
    assert load_clip(good_wav(), name=name).seconds == 1.0
    with pytest.raises(AudioError) as caught:
        load_clip(b"", name=name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


def test_an_upload_leaves_nothing_beside_itself(tmp_path: Path) -> None:
    uploads = [upload for upload in hostile_uploads(odd_values=0) if upload.name.startswith(("names", "links"))]
    paths = write_files(uploads, tmp_path)
    reports = list(examine("uploads", paths))
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
    (links,) = (report for report in reports if "links" in report.name)
    assert links.outcome == "refused" and "root:" not in links.message
