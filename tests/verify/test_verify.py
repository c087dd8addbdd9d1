"""`analog-glue verify` holds on the code as it is, and finds what is wrong with code that is broken."""

from dataclasses import replace

import pytest
import torch

from analog_glue.devices import pcm
from analog_glue.devices.pcm import PCM
from analog_glue.kernels.backend import choose_kernel
from analog_glue.kernels.gaussian import fill_normal
from analog_glue.tiles import mvm
from analog_glue.tiles.converters import ADC, DAC
from analog_glue.verify import command as verify
from analog_glue.verify import exactness, wires

FULL, HALF, RAW, *_ = verify.TILE_SETUPS


def failures(monkeypatch, setups=(FULL,), labels=("1 s", "1 h"), product="float32", kernel="reference", laws=False):
    """Names of the checks that do not hold, of the tiles in `setups` and their periphery, or of the device laws."""
    chosen = [index for index, label in enumerate(verify.TIMES) if label in labels]
    setups = [replace(setup, expected=tuple(setup.expected[i] for i in chosen)) for setup in setups]
    monkeypatch.setattr(verify, "TILE_SETUPS", setups)
    monkeypatch.setattr(verify, "TIMES", {label: verify.TIMES[label] for label in labels})
    checks = verify.device_law_checks(devices=20_000, kernel=kernel) if laws else verify.tile_checks(product, kernel)
    return {check.name for check in checks if not check.holds}


@pytest.mark.slow
def test_everything_holds_and_the_command_says_so():
    said = []
    assert verify.run(quick=True, log=said.append)
    laws, tiles = 5 * 6, len(verify.TILE_SETUPS) * len(verify.TIMES) + len(verify.PERIPHERY_SETUPS)
    exact = 2 * len(exactness.ROWS)  # of 15 and of 8 bits
    every = laws + 2 * tiles + 6 + exact  # tiles by the plain reference, and as runs compute them; six checks of wires
    assert said[-1].strip() == f"{every} of {every} checks hold."
    text = "\n".join(said)
    assert "OFF" not in text
    assert text.count(" ok") == every
    assert f"as runs compute them: {choose_kernel('auto', 'cpu')} kernel, auto product" in text
    for name, *_ in verify.PERIPHERY_SETUPS:
        assert text.count(f"ideal devices, {name}") == 2


def test_the_acceptance_table_is_the_one_agreed_on():
    assert FULL.expected == (13.5, 15.3, 17.3, 18.6, 19.8)
    assert len(verify.TILE_SETUPS) == 7
    assert dict((name, expected) for name, _, expected in verify.PERIPHERY_SETUPS) == {
        "periphery alone": 3.77,
        "DAC alone": 0.39,
        "ADC alone": 1.01,
        "output noise alone": 1.76,
        "short-term read noise alone": 3.15,
        "periphery of Spoon et al. alone": 3.22,
    }
    assert (verify.TILE_TOLERANCE, verify.PERIPHERY_TOLERANCE) == (0.3, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("product", ["int8", "int8_single"])
def test_integer_products_meet_the_table_too(monkeypatch, product, kernel):
    periphery = () if product == "int8_single" else verify.PERIPHERY_SETUPS  # 8 bits are for noisy devices alone
    monkeypatch.setattr(verify, "PERIPHERY_SETUPS", periphery)
    assert not failures(monkeypatch, product=product, kernel=kernel)


@pytest.mark.slow
def test_noise_of_four_times_the_strength_is_found(monkeypatch):
    monkeypatch.setattr(mvm, "fill_normal", lambda out, *stream: fill_normal(out, *stream).mul_(4))
    off = failures(monkeypatch, ())
    assert {"ideal devices, output noise alone", "ideal devices, periphery alone"} <= off
    assert "ideal devices, DAC alone" not in off


@pytest.mark.slow
def test_a_missing_adc_is_found(monkeypatch):
    monkeypatch.setattr(ADC, "convert_", lambda self, current: current)
    assert "ideal devices, ADC alone" in failures(monkeypatch, ())


@pytest.mark.slow
def test_a_dac_of_one_bit_less_is_found(monkeypatch):
    monkeypatch.setattr(DAC, "full_scale", property(lambda self: 1.0 if self.bits is None else 2.0 ** (self.bits - 2) - 1))
    assert "ideal devices, DAC alone" in failures(monkeypatch, ())


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0.9, 1.1])
def test_programming_noise_of_the_wrong_strength_is_found(monkeypatch, wrong):
    right = pcm.PROGRAMMING_ERROR_FIT
    monkeypatch.setattr(pcm, "PROGRAMMING_ERROR_FIT", tuple(wrong * c for c in right))
    assert f"tile error, {FULL.name}, 1 s" in failures(monkeypatch)


@pytest.mark.slow
def test_a_gamma_that_does_nothing_is_found(monkeypatch):
    program = PCM.program

    def with_full_noise(self, g_target, noise):
        return program(PCM(idle_noise=self.idle_noise), g_target, noise)

    monkeypatch.setattr(PCM, "program", with_full_noise)
    assert f"tile error, {HALF.name}, 1 s" in failures(monkeypatch, (FULL, HALF))


@pytest.mark.slow
def test_drift_that_starts_at_another_time_is_found(monkeypatch):
    conductance = PCM.conductance
    monkeypatch.setattr(PCM, "conductance", lambda self, array, t, noise: conductance(self, array, t / 2, noise))
    assert f"tile error, {RAW.name}, 30 d" in failures(monkeypatch, (RAW,), labels=("1 s", "30 d"))


@pytest.mark.slow
def test_compensation_that_does_nothing_is_found(monkeypatch):
    monkeypatch.setattr(verify, "compensation_factor", lambda reference, now: torch.ones_like(now))
    assert f"tile error, {FULL.name}, 1 h" in failures(monkeypatch)


def test_one_over_f_noise_of_the_wrong_strength_is_found(monkeypatch, kernel):
    scale, exponent, limit = pcm.READ_NOISE_FIT
    monkeypatch.setattr(pcm, "READ_NOISE_FIT", (1.1 * scale, exponent, limit))
    assert "Q_s at ĝ = 0.5" in failures(monkeypatch, laws=True, kernel=kernel)


def test_a_failed_check_is_an_exit_status_of_one(monkeypatch):
    wrong = verify.Check("never right", measured=1.0, expected=2.0, tolerance=0.5, unit="µS")
    monkeypatch.setattr(verify, "device_law_checks", lambda *arguments: iter([wrong]))
    for group in ("tile_checks", "wire_checks", "exactness_checks"):
        monkeypatch.setattr(verify, group, lambda *arguments: iter([]))
    said = []
    assert not verify.run(quick=True, log=said.append)
    (line,) = [line for line in said if "never right" in line]
    assert line.endswith("OFF")
    assert said[-1].strip() == "0 of 1 checks hold."
    assert verify.main(quick=True) == 1


@pytest.mark.parametrize(("measured", "holds"), [(1.5, True), (2.5, True), (1.49, False), (2.51, False), (float("nan"), False)])
def test_a_check_holds_within_its_tolerance(measured, holds):
    assert verify.Check("x", measured, 2.0, 0.5, "").holds == holds


def test_the_law_of_wires_holds_and_one_that_forgets_the_columns_is_found(monkeypatch, kernel):
    assert not [check for check in wires.wire_checks(kernel) if not check.holds]
    law = wires.behind_wires

    def rows_alone(pair, grid, resistance, **how):
        halved, _ = law(pair, grid, resistance, **how)
        return (halved * pair[0]).clamp(min=0).sqrt(), pair[1]  # about half of the loss

    monkeypatch.setattr(wires, "behind_wires", rows_alone)
    assert sum(not check.holds for check in wires.wire_checks(kernel)) == 4
