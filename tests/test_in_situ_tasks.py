"""LeNet5 and heads on frozen encoders: trained, resumed, extracted and put back into plain models from the command line."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from analog_glue.cli import main
from analog_glue.devices.pulsed.soft_bounds import SoftBounds
from analog_glue.tasks.images import MnistLeNet5
from analog_glue.training.in_situ_loop import fit_in_situ
from analog_glue.training.sgd_pulsed import SGDPulsed
from analog_glue.training.ttv2 import TTv2


def write_idx(path, array):
    path.write_bytes(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Squares in one of ten places, as the four idx files of MNIST."""
    root, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, number in (("train", 200), ("t10k", 60)):
        classes = random.integers(0, 10, number).astype(np.uint8)
        images = random.integers(0, 60, (number, 28, 28)).astype(np.uint8)
        for image, place in zip(images, classes, strict=True):
            image[5 * (place // 3) : 5 * (place // 3) + 8, 9 * (place % 3) : 9 * (place % 3) + 8] = 250
        write_idx(root / f"{name}-images-idx3-ubyte", images)
        write_idx(root / f"{name}-labels-idx1-ubyte", classes)
    return root


# --- LeNet5 ------------------------------------------------------------------------------------------------


def test_the_arrays_of_lenet5_are_those_of_the_paper_and_reads_count_pictures(pictures):
    trainable, _ = MnistLeNet5().load(str(pictures), TTv2(transfer_every=1), SoftBounds(), 0)
    learners = trainable.network.learners
    assert [(each.outputs, each.inputs) for each in learners] == [(16, 26), (32, 401), (128, 513), (10, 129)]
    assert [each.transfer_every for each in learners] == [576, 64, 1, 1]
    trainable.train(0, 0, 0.01)
    assert [array.counts.tolist() for array in trainable.network.arrays] == [[576] * 2, [64] * 2, [1] * 2, [1] * 2]


def test_lenet5_resumes_bit_for_bit(pictures, tmp_path):
    mode = TTv2(epochs=2, learning_rate=0.05, output_scale=1.0, transfer_every=1)
    task, runs = MnistLeNet5(train_images=8, test_images=5), {}
    for name, stops in (("whole", [None]), ("parts", [3, None])):
        (tmp_path / name).mkdir()
        for stop in stops:
            runs[name], _ = task.load(str(pictures), mode, SoftBounds(dw_min=0.01), 0)
            curve = fit_in_situ(runs[name], mode, tmp_path / name, lambda _: None, stop_after=stop)
        runs[name] = (runs[name].state(), [(row.train_loss, row.scores) for row in curve])
    assert runs["whole"][1] == runs["parts"][1]
    assert all(np.array_equal(array, runs["parts"][0][name]) for name, array in runs["whole"][0].items())


def test_lenet5_learns_and_its_extracted_weights_make_a_plain_network_of_the_same_scores(pictures, tmp_path):
    words = ["task=mnist_lenet5", "device=symmetric_linear", "training=sgd_pulsed", "training.output_scale=1",
             "training.epochs=5", f"data.root={pictures}", f"output_root={tmp_path}"]  # fmt: skip
    assert main(["train", *words]) == 0
    (run,) = tmp_path.iterdir()
    assert main(["extract", f"checkpoint={run}", "extract.products=1500"]) == 0
    (folder,) = run.glob("extraction-*")
    scores = json.loads((folder / "extraction.json").read_text())["scores"]
    assert scores["analog arrays"]["accuracy"] > 60  # 10 by chance
    trainable, _ = MnistLeNet5().load(str(pictures), SGDPulsed(), SoftBounds(), 0)
    weights = load_file(folder / "extracted.safetensors")
    plain = trainable.deployable([weights[str(number)].numpy() for number in range(4)])
    images, classes = trainable.tests["test"]
    with torch.no_grad():
        loss = nn.functional.cross_entropy(plain(images), classes).item()
    assert not any("analog" in type(module).__module__ for module in plain.modules())
    assert scores["extracted, digital"]["cross_entropy"] == pytest.approx(loss, rel=1e-4)
