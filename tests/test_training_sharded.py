"""FSDP2 on two CPU processes: the same losses, gradient norms and KL as DDP, and the same result after a resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from testing.sharded import CASES, RESUMED

ROOT = Path(__file__).resolve().parents[1]
COMPARED = ("loss", "grad_norm", "kl", "entropy")

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch.distributed has no gloo here",
)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """The folder of all trainings."""
    out = tmp_path_factory.mktemp("sharded")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*command, str(ROOT / "testing" / "sharded.py"), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return out


def steps(folder: Path) -> list[dict]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    rows = {row["step"]: row for line in lines if "loss" in (row := json.loads(line))}
    return list(rows.values())  # of a step that was done again, the last


@pytest.mark.parametrize("name", CASES)
def test_sharded_training_equals_replicated_training(name: str, out: Path) -> None:
    replicated, sharded = steps(out / "ddp" / name), steps(out / "fsdp" / name)
    assert len(replicated) == len(sharded) == 2
    for one, other in zip(replicated, sharded, strict=True):
        assert one["grad_norm"] > 0
        for key in COMPARED:
            if one.get(key) is not None:
                assert other[key] == pytest.approx(one[key], rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_sharded_training_ends_as_an_undisturbed_one(name: str, out: Path) -> None:
    undisturbed, resumed = out / "undisturbed" / name, out / "fsdp" / name
    for one, other in zip(steps(undisturbed), steps(resumed), strict=True):
        assert [other.get(key) for key in COMPARED] == [one.get(key) for key in COMPARED]
    path = "model/model.safetensors" if name == "all-weights" else "adapter/adapter_model.safetensors"
    weights, again = load_file(undisturbed / path), load_file(resumed / path)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[key], again[key]) for key in weights)
