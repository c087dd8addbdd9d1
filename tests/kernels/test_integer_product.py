"""Products of integers are exact or not taken: tried on extreme numbers, on this CPU and on one that is allowed less."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from analog_glue.kernels import integer_product, products
from analog_glue.kernels.integer_product import (
    multiply,
    obstacle,
    torch_is_exact,
    torch_is_fast,
    torch_is_faster,
    trial,
    wrong_sums,
)
from analog_glue.kernels.products import Int8Product, choose_product

ROWS = (2, 3, 383, 512, 1536)


def exactly(codes, weights):
    return codes.astype(np.int32) @ weights.astype(np.int32).T


def in_pairs(codes, weights):
    """As CPUs without 8-bit dot products add: unsigned × signed pairs, saturated at 16 bits; weights are the unsigned side."""
    pairs = len(codes[0]) // 2
    unsigned = (weights.astype(np.int32) + 128).reshape(len(weights), pairs, 2)
    terms = np.einsum("vpi,cpi->vcp", codes.astype(np.int32).reshape(len(codes), pairs, 2), unsigned)
    return terms.clip(-(2**15), 2**15 - 1).sum(2) - 128 * codes.astype(np.int32).sum(1)[:, None]


@pytest.mark.parametrize("rows", [1, *ROWS])
def test_the_trial_finds_what_saturates_overflows_or_leaves_out_a_row(rows):
    assert wrong_sums(exactly, rows) == wrong_sums(exactly, rows, signed=False) == 0
    assert (wrong_sums(exactly, rows, largest_weight=16_256) > 0) == (rows > 1040)  # beyond 32 bits
    assert wrong_sums(lambda codes, weights: exactly(codes[:, :-1], weights[:, :-1]), rows) > 0
    if rows % 2 == 0:
        assert wrong_sums(in_pairs, rows) > 0
    assert abs(trial(rows)).max() == 127


def test_a_fault_that_only_few_vectors_meet_is_found():
    assert wrong_sums(lambda codes, weights: exactly(codes, weights) + (len(codes) == 1), 64) > 0


@pytest.fixture
def without_exact_products(monkeypatch):
    for name in ("compiled_is_exact", "torch_is_exact"):
        monkeypatch.setattr(integer_product, name, lambda rows: False)
    products._say_once.cache_clear()


@pytest.mark.parametrize("rows", [1, *ROWS])
def test_sums_are_exact_without_any_product_of_integers(without_exact_products, rows):
    codes, weights = (torch.from_numpy(numbers).to(torch.int8) for numbers in (trial(rows), trial(rows, count=30)))
    found = multiply(codes, weights, torch.empty(len(codes), len(weights), dtype=torch.int32))
    assert torch.equal(found.long(), codes.long() @ weights.long().t())


def test_auto_takes_float32_and_says_so_once_where_no_product_is_exact(without_exact_products, caplog):
    with caplog.at_level(logging.WARNING):
        assert [choose_product("auto", "cpu", noise) for noise in (0.0, 1.0, 1.0)] == ["float32"] * 3
    (record,) = caplog.records
    assert "wrong sums" in record.getMessage()


@pytest.mark.skipif(not (torch_is_exact(64) and integer_product.compiled_is_exact(64)), reason="needs both products")
@pytest.mark.parametrize("columns", [1, 4, 5, 70])
def test_layers_of_any_width_are_measured_where_torch_has_matrix_units(columns, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    torch_is_faster.cache_clear()
    assert torch_is_faster(64, columns) in (True, False)
    torch_is_faster.cache_clear()


def test_sums_of_15_bit_weights_may_need_more_than_32_bits():
    rows = 1536
    product = Int8Product(torch.full((1, 3, rows), 1.0))
    assert product.product(torch.full((2, rows), 127.0)).tolist() == [[[127.0 * rows] * 3] * 2]


LIMITED = """
import torch
from analog_glue.kernels.integer_product import compiled_is_exact, multiply, obstacle, torch_is_exact, trial
from analog_glue.kernels.products import choose_product
from analog_glue.verify.exactness import exactness_checks

torch.set_num_threads(1)
kernel = "{kernel}"
codes, weights = (torch.from_numpy(trial(rows)).to(torch.int8) for rows in (768, 768))
sums = multiply(codes, weights, torch.empty(len(codes), len(weights), dtype=torch.int32))
checks = list(exactness_checks(kernel))
right = torch.equal(sums.long(), codes.long() @ weights.long().t())
print(torch_is_exact(768), right, choose_product("auto", "cpu", 1.0, kernel))
print(obstacle(kernel, 512) is None, len(checks), sum(not check.holds for check in checks))
"""


@pytest.mark.skipif(not torch_is_fast(768), reason="oneDNN has no product here that could be limited")
@pytest.mark.parametrize("kernel", ["reference", "compiled"])
def test_a_limited_library_is_found_out_and_not_used(kernel):
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": os.pathsep.join(sys.path)}
    code = LIMITED.format(kernel=kernel)
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    first, second = (line.split() for line in said.splitlines())
    ours = obstacle(kernel, 512) is None and kernel == "compiled"
    assert first == ["False", "True", "int8_single" if ours else "float32"]
    assert second == (["True", "10", "0"] if ours else ["False", "0", "0"])
