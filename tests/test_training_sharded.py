"""FSDP2 on two CPU processes: the same losses, gradient norms and KL as DDP, for every kind of training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from testing.sharded import CASES

ROOT = Path(__file__).resolve().parents[1]
COMPARED = ("loss", "grad_norm", "kl", "entropy")

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="torch.distributed has no gloo here",
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[str, dict[str, list[dict]]]:
    """The steps of each case, by DDP and by FSDP2."""
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

    def steps(how: str, name: str) -> list[dict]:
        lines = (out / how / name / "log.jsonl").read_text().splitlines()
        return [row for line in lines if "loss" in (row := json.loads(line))]

    return {how: {name: steps(how, name) for name in CASES} for how in ("ddp", "fsdp")}


@pytest.mark.parametrize("name", CASES)
def test_sharded_training_equals_replicated_training(name, logs):
    replicated, sharded = logs["ddp"][name], logs["fsdp"][name]
    assert len(replicated) == len(sharded) == 2
    for one, other in zip(replicated, sharded, strict=True):
        assert one["grad_norm"] > 0
        for key in COMPARED:
            if one.get(key) is not None:
                assert other[key] == pytest.approx(one[key], rel=1e-4, abs=1e-6), key
