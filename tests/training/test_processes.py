"""Several processes train one network: what they learn is what one learns from their batches together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Trains as the command does, and writes down the loss of every step and which noise the weights had. 20 steps in all.
WORKER = """
import json, os, sys, zlib
from dataclasses import replace
from pathlib import Path

from tests.training import test_training as tests
from analog_glue.nn.linear import AnalogLinear
from analog_glue.nn.noise_clock import NoiseClock
from analog_glue.tasks.demo import DemoTask
from analog_glue.training import loop

root, mode, batch_size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rank = int(os.environ.get("RANK", "0"))
tests.TASK = DemoTask(train_size=160, validation_size=40)
tests.RAW = tests.TASK.load(None)
model = replace(tests.MODEL, dropout=0.0)
mode = replace({"digital": tests.DIGITAL, "hardware_aware": tests.HWA}[mode], batch_size=batch_size)

seen = {"losses": [], "weight noise": [], "product noise": []}
weights_on_tiles, key, backward = AnalogLinear.weights_on_tiles, NoiseClock.key, loop.Accelerator.backward

def watched(layer, scale, noise_key):
    weights = weights_on_tiles(layer, scale, noise_key)
    if noise_key is not None:
        seen["weight noise"].append(zlib.crc32((weights - weights_on_tiles(layer, scale, None)).numpy().tobytes()))
    return weights

def noted(clock, layer, purpose, use=0):
    if clock._stream[1] == "training":
        seen[purpose].append(key(clock, layer, purpose, use))
    return key(clock, layer, purpose, use)

def told(accelerator, loss):
    seen["losses"].append(loss.item())
    backward(accelerator, loss)

AnalogLinear.weights_on_tiles, NoiseClock.key, loop.Accelerator.backward = watched, noted, told
_, history, _ = tests.run(mode, root / "run", model=model)
seen["epochs"], seen["steps"] = history.epochs, history.steps
(root / f"rank{rank}.json").write_text(json.dumps(seen))
"""


def trained(folder: Path, processes: int, mode: str, batch_size: int) -> list[dict]:
    """What every process saw; together they take 16 examples a step."""
    folder.mkdir()
    (folder / "worker.py").write_text(WORKER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # On CPUs, too: --cpu --num_processes 2 starts a single process, without a word.
    launch = [*("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"),
              *("--main_process_port", port, "--mixed_precision", "no", "--dynamo_backend", "no")]  # fmt: skip
    words = [*(launch if processes > 1 else []), str(folder / "worker.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words, str(folder), mode, str(batch_size)],
                          env=environment, capture_output=True, text=True, cwd=ROOT, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


def mean_losses(seen: list[dict]) -> list[float]:
    return [sum(losses) / len(seen) for losses in zip(*(one["losses"] for one in seen), strict=True)]


@pytest.mark.slow
def test_two_processes_learn_digitally_what_one_learns_from_their_batches_together(tmp_path):
    one = trained(tmp_path / "one", 1, "digital", 16)
    two = trained(tmp_path / "two", 2, "digital", 8)
    assert len(one[0]["losses"]) == len(two[0]["losses"]) == 20
    assert mean_losses(two) == pytest.approx(one[0]["losses"], abs=1e-5)
    assert max(one[0]["losses"]) - min(one[0]["losses"]) > 0.01  # something was learnt
    assert two[0]["losses"] != two[1]["losses"]  # from examples of their own
    # The loss that is written down is that of all examples, not of the first process.
    for mine, theirs in zip(one[0]["epochs"], two[0]["epochs"], strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-5)


@pytest.mark.slow
def test_every_process_sees_the_same_weight_noise_and_product_noise_of_its_own(tmp_path):
    one = trained(tmp_path / "one", 1, "hardware_aware", 16)
    first, second = trained(tmp_path / "two", 2, "hardware_aware", 8)
    assert len(first["weight noise"]) == len(one[0]["weight noise"]) > 20
    assert first["weight noise"] == second["weight noise"]
    # Anew for each layer and step; backward draws that of its forward again.
    assert len(set(first["weight noise"])) == len(first["weight noise"]) / 2
    assert first["weight noise"][:4] == one[0]["weight noise"][:4]  # of the first step, whose weights are the same
    assert not set(first["product noise"]) & set(second["product noise"])
