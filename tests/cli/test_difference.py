"""`list runs --difference A B`: what determined two runs or sweeps, where it is not the same."""

import json
from dataclasses import replace

import pytest

from analog_glue.cli.main import main
from analog_glue.devices.pcm import PCM
from analog_glue.runs.identity import Identity, resolved
from analog_glue.tiles.crossbar import Crossbar
from tests.runs.test_legacy import FIXTURES

OLD = FIXTURES / "run_of_0_1_0"


def sweep(folder, **tile):
    payload = {**resolved("noise", PCM()), **resolved("tile", Crossbar(**tile))}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"command": "sweep", "identity": Identity(payload).payload}))
    return str(folder)


def difference(capsys, *folders):
    code = main(["list", "runs", "--difference", *map(str, folders)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_fields_that_differ_are_named_with_both_values(tmp_path, capsys):
    first, second = sweep(tmp_path / "a", adc_bits=8), sweep(tmp_path / "b")
    code, out, _ = difference(capsys, first, second)
    assert code == 0 and out.splitlines() == [f"A  {first}", f"B  {second}", "  `tile.adc_bits`: A has 8, B has 10"]


def test_equal_runs_have_no_difference(tmp_path, capsys):
    code, out, _ = difference(capsys, sweep(tmp_path / "a"), sweep(tmp_path / "b"))
    assert code == 0 and out.splitlines()[-1] == "no difference"


@pytest.mark.parametrize("missing", [0, 1])
def test_a_folder_without_a_run_is_one_message(tmp_path, capsys, missing):
    folders = [sweep(tmp_path / "a"), sweep(tmp_path / "b")]
    folders[missing] = tmp_path / "nothing"
    code, _, err = difference(capsys, *folders)
    assert code == 2 and err.count("\n") == 1 and str(tmp_path / "nothing") in err


def test_runs_of_version_0_1_0_say_what_they_can(capsys):
    digital, aware = next(OLD.glob("demo-tiny-digital-*")), next(OLD.glob("demo-tiny-hardware_aware-*"))
    code, out, _ = difference(capsys, digital, aware)
    assert code == 0 and "`training`: A has Digital, B has HardwareAware" in out
    code, out, _ = difference(capsys, digital, digital)
    assert code == 0 and "no difference" in out
    code, out, _ = difference(capsys, next(digital.glob("pcm-*")), next(aware.glob("pcm-*")))
    assert out.splitlines()[2:] == ["  `training_run`: A has 60e467be, B has f7125925"]


def test_an_old_and_a_new_sweep_of_the_same_hardware_differ_in_what_one_does_not_say(tmp_path, capsys):
    old = next(OLD.glob("demo-tiny-digital-*/pcm-*"))
    new = tmp_path / "new"
    new.mkdir()
    (new / "run.json").write_text(
        json.dumps({"command": "sweep", "identity": dict(resolved("noise", replace(PCM(), t_c=10.0)))})
    )
    _, out, _ = difference(capsys, old, new)
    assert "`noise.t_c`: A has 20.0, B has 10.0" in out and "noise.g_max" not in out
