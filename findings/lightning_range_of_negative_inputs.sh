#!/usr/bin/env bash
# aihwkit-lightning 2.1.0: calibrating input ranges by CACHE_QUANTILE takes the quantile of the signed inputs, not of their sizes.
# A layer whose inputs are mostly positive keeps them; the mirror image of the same inputs gets a range of 0, or below 0, and the
# layer loses nearly all of its output, without a word. MAX, which takes sizes, is right for both.
#   bash findings/lightning_range_of_negative_inputs.sh      (needs Python >= 3.11 and a package index)
#
# Seen (torch 2.13.0, CPU), rms error of the layer's output over its standard deviation, everything but the range ideal:
#   inputs        largest |x|    CACHE_QUANTILE: range, error      MAX: range, error
#   relu(x)              3.96              3.748, 0.00                3.960, 0.00
#   -relu(x)             3.96             -0.000, 0.97                3.960, 0.00
#   x - 3                7.45              0.748, 0.77                7.452, 0.00
#   -exp(x)             52.45             -0.019, 0.99               52.448, 0.00
#
# Matters where inputs are not symmetric: a quantile of 0.99995 of signed values also leaves out half as much of a symmetric
# tail as it says. Exits with 1 where this is no longer so.
set -euo pipefail
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip --disable-pip-version-check install --quiet torch==2.13.0 numpy==2.4.6 aihwkit-lightning==2.1.0

cat > ranges.py <<'PY'
import sys

import torch
from aihwkit_lightning.inference.calibration.calibration import InputRangeCalibrationType, calibrate_input_ranges
from aihwkit_lightning.nn.conversion import convert_to_analog
from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig


def calibrated(x, kind):
    torch.manual_seed(0)
    exact = torch.nn.Sequential(torch.nn.Linear(64, 32))
    config = TorchInferenceRPUConfig()
    config.forward.inp_res = config.forward.out_res = config.forward.out_bound = -1
    config.forward.out_noise = 0.0
    config.pre_post.input_range.enable = False
    config.mapping.max_input_size = 64
    analog = convert_to_analog(exact, config).eval()
    calibrate_input_ranges(analog, kind, iter([((x,), {})]), quantile=0.99995, verbose=False)
    with torch.no_grad():
        error = (analog(x) - exact(x)).square().mean().sqrt() / exact(x).std()
    return next(analog.analog_layers()).input_range.item(), error.item()


torch.manual_seed(1)
x = torch.randn(1000, 64)
found = {}
for name, inputs in {"relu(x)": x.relu(), "-relu(x)": -x.relu(), "x - 3": x - 3, "-exp(x)": -x.exp()}.items():
    quantile = calibrated(inputs, InputRangeCalibrationType.CACHE_QUANTILE)
    largest = calibrated(inputs, InputRangeCalibrationType.MAX)
    found[name] = quantile, largest, inputs.abs().max().item()
    print(f"{name:10} {found[name][2]:8.2f}   {quantile[0]:8.3f}, {quantile[1]:.2f}   {largest[0]:8.3f}, {largest[1]:.2f}")

as_seen = (
    found["relu(x)"][0][1] < 0.01
    and all(found[name][0][0] < 1 and found[name][0][1] > 0.7 for name in ("-relu(x)", "x - 3", "-exp(x)"))
    and all(abs(largest[0] - size) < 0.01 and largest[1] < 0.01 for _, largest, size in found.values())
)
sys.exit(0 if as_seen else 1)
PY
venv/bin/python ranges.py 2> /dev/null && echo "as seen" || { echo "no longer as seen"; exit 1; }
