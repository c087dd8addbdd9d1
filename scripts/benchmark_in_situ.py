"""How fast in-situ training is, with all physics, on one thread or more.

    python scripts/benchmark_in_situ.py                     Markdown table, about a minute on one core
    python scripts/benchmark_in_situ.py --threads 2 --json  one line a measure: {"name": …, "value": …, "unit": …}
    python scripts/benchmark_in_situ.py --only pulsed       names that contain the word

Workloads are those of the field's own simulator: LSTM2-64 on 87 symbols, sequences of 100, batch 1, learning rate 0.01, text
drawn at random with the symbols' frequencies of a language (real text learns, which makes updates sparser and faster);
a rank-1 update with inputs uniform in ±1 (256 × 152: one-hot, 64 outputs and a bias), gradients N(0, 0.1), steps of 0.002,
trains of managed length. Every value is the best of several rounds, since other programs only ever make it slower.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from analog_glue.in_situ.devices.device import padded
from analog_glue.in_situ.devices.soft_bounds import SoftBounds
from analog_glue.in_situ.nn import lstm, perceptron
from analog_glue.in_situ.nn.learner import Pulses, Stream
from analog_glue.in_situ.training.mode import InSituMode
from analog_glue.in_situ.training.sgd_pulsed import SGDPulsed, pulse
from analog_glue.in_situ.training.tiki_taka import TikiTaka
from analog_glue.in_situ.training.ttv2 import TTv2

TARGETS = {
    "lstm_ttv2_chars_per_s": 15_000,
    "lstm_sgd_chars_per_s": 15_000,
    "lstm_tiki_taka_chars_per_s": 15_000,
    "pulsed_update_256x152_us": 10,
    "pulsed_update_512x512_us": 60,
    "fc_mnist_ttv2_samples_per_s": 8_000,
}
PEER = {  # aihwkit 1.2.0 with these workloads, two cores of a Zen 5 machine
    "lstm_ttv2_chars_per_s": 3272,
    "lstm_sgd_chars_per_s": 3591,
    "lstm_tiki_taka_chars_per_s": 3103,
    "pulsed_update_256x152_us": 62,
    "pulsed_update_512x512_us": 778,
    "fc_mnist_ttv2_samples_per_s": 1370,
}


def best(case: Callable[[int], object], calls: int, rounds: int = 5) -> float:
    """Seconds of one call in the best round; `case` gets the number of the call."""
    number = 0
    for _ in range(2):
        case(number)
        number += 1
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            case(number)
            number += 1
        seconds.append((time.perf_counter() - started) / calls)
    return min(seconds)


def symbols() -> np.ndarray:
    """600 sequences of 100 symbols, and one more."""
    frequencies = 1 / np.arange(1, 88)
    return np.random.default_rng(0).choice(87, 100 * 600 + 1, p=frequencies / frequencies.sum())


def characters_per_second(mode: InSituMode) -> float:
    text = symbols()
    device = SoftBounds(dw_min=0.002)
    network = lstm.make(
        87, 64, 2, lambda values, number: mode.learner(device, values, 0, number), mode.output_scale, 0, mode.periphery.forward,
        mode.periphery.backward,
    )  # fmt: skip

    def case(number: int) -> None:
        first = number % 600 * 100
        network.train(text[first : first + 101], mode.rate(0), number * 100)

    return 100 / best(case, 60)


def update_vectors(outputs: int, inputs: int, one_hot: bool) -> tuple[np.ndarray, np.ndarray]:
    """x (1, inputs) and d (1, outputs)."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (1, inputs)).astype(np.float32)
    if one_hot:
        x[0, 64], x[0, 65:] = 1, 0
        x[0, 65 + 20] = 1
    return x, (0.1 * random.standard_normal((1, outputs))).astype(np.float32)


def update_microseconds(outputs: int, inputs: int, one_hot: bool) -> float:
    array = SoftBounds(dw_min=0.002).draw(outputs, inputs, 0, "benchmark")
    x, d = (padded(vector) for vector in update_vectors(outputs, inputs, one_hot))
    pulses, stream = Pulses(), Stream.of(0, 0)
    return 1e6 * best(lambda number: pulse(array, x, d, 0.01, pulses, number, stream), 1000)


def samples_per_second() -> float:
    random = np.random.default_rng(0)
    images = random.uniform(0, 1, (500, 784)).astype(np.float32) * (random.random((500, 784)) < 0.19)  # MNIST's share of ink
    mode = TTv2(learning_rate=0.01, output_scale=1.0)
    device = SoftBounds(dw_min=0.002)
    network = perceptron.make(
        [784, 256, 128, 10], lambda values, number: mode.learner(device, values, 0, number), 1.0, 0, mode.periphery.forward,
        mode.periphery.backward,
    )  # fmt: skip
    return 1 / best(lambda number: network.train(images[number % 500], number % 10, mode.rate(0), number), 500)


CASES: dict[str, Callable[[], float]] = {
    "lstm_ttv2_chars_per_s": lambda: characters_per_second(TTv2(learning_rate=0.01)),
    "lstm_sgd_chars_per_s": lambda: characters_per_second(SGDPulsed(learning_rate=0.01)),
    "lstm_tiki_taka_chars_per_s": lambda: characters_per_second(TikiTaka(learning_rate=0.01)),
    "pulsed_update_256x152_us": lambda: update_microseconds(256, 152, True),
    "pulsed_update_512x512_us": lambda: update_microseconds(512, 512, False),
    "fc_mnist_ttv2_samples_per_s": samples_per_second,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="measure only names that contain this")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not given.json:
        print("| measure | value | target | aihwkit |\n|---|---|---|---|")
    for name, case in CASES.items():
        if given.only not in name:
            continue
        value = case()
        if given.json:
            unit = "us" if name.endswith("us") else name.split("_")[-3] + "/s"
            print(json.dumps({"name": name, "value": round(value, 2), "unit": unit, "threads": given.threads}))
        else:
            faster = name.endswith("per_s")
            met = value >= TARGETS[name] if faster else value <= TARGETS[name]
            target = f"{'≥' if faster else '≤'} {TARGETS[name]:,} {'met' if met else 'MISSED'}"
            print(f"| {name} | {value:,.1f} | {target} | {PEER[name]:,} |", flush=True)


if __name__ == "__main__":
    main()
