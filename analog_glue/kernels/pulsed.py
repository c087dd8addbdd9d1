"""The rank-1 update of arrays of pulsed devices, compiled: w_oi moves by as many pulses as two random trains coincide.

    trains   every input x_i and every gradient d_o becomes a train of at most 31 random bits, a bit 1 with probability
             proportional to its size (Gokmen & Vlasov 2016); bit 31 of its word holds the sign
    counts   n = popcount(x & d): pulses that device (o, i) sees, all in the direction of the signs
    devices  n pulses at once, in closed form, with one normal number

A pulse moves a device towards the target b of its direction, by a share that does not depend on where it stands
(soft bounds, and every other device whose step is linear in w), with additive noise:

    w ← b − (b − w) q + σ d ξ,   q = 1 − d / |b|
    after n pulses:   w ← b − (b − w) qⁿ + ξ σ d √((1 − q²ⁿ) / (1 − q²)),   clipped to the bounds

which is exact, since sums of normal numbers are normal, up to clips between the pulses of one update. Noise proportional
to the step (`multiplicative`) has the same mean and variance ((b − w) qⁿ)² ((1 + σ² (d/(b q))²)ⁿ − 1); its law is normal
to first order in σ.

Arrays are [outputs, inputs], inputs padded to a multiple of `LANES`; a row of devices is independent of every other row, so
rows can be given to different cores, and a row meets all updates of a sequence while it lies in the fastest memory.
"""

import math

import numpy as np
from numba import float32, types, uint32
from numba.extending import intrinsic

from analog_glue.kernels.jit import compiled
from analog_glue.kernels.lanes import LANES, Lanes, Vector
from analog_glue.kernels.threefry import PARITY, ROTATIONS, ROUNDS

LONGEST = 31  # [bits] of a pulse train
TRAIN, SIGN = 0x7FFFFFFF, 0x80000000
DIGITS = 7  # binary digits of a probability; what lies between two of them is dithered
GROUP = 16  # rows that share a stream of normal numbers; part of what a key means
DRAWN = 256  # normal numbers made at a time; part of what a key means
TARGET_UP, RATE_UP, TARGET_DOWN, RATE_DOWN, HIGHEST, LOWEST = range(6)  # planes of the device parameters
TRAINS_X, TRAINS_D, NOISE = 0, 2, 4  # what random words are for (the third counter, beside the array's number)
PURPOSES = 8

# Fits with equalised errors below 10⁻⁵, the step of 16-bit lengths and directions.
LOG = (  # ln(1 + m) / m, −1/3 ≤ m ≤ 1/3
    0.999999821, -0.500022411, 0.333379894, -0.248416334, 0.197950363, -0.194078654, 0.171111807,
)
SINE = (3.141590357, -5.167406559, 2.544010401, -0.559462428)  # sin(πy) / y in y², |y| ≤ 1/2
COSINE = (0.99999994, -4.934792995, 4.058411121, -1.331876516, 0.219689608)  # cos(πy) in y², |y| ≤ 1/2
MOVED = (  # (1 − 2^−f) / f, −1/2 ≤ f ≤ 1
    0.693147149, -0.240225934, 0.055505074, -0.009625366, 0.001332931, -0.000133925,
)


# --- random numbers, sixteen counters at a time ------------------------------------------------------------


def _threefry(counters: list[Lanes], keys: list[Lanes]) -> list[Lanes]:
    """The cipher of `kernels.threefry`, on vectors."""
    words = [keys[0], keys[1], keys[0].vector.integer(0), keys[0].vector.integer(0)]
    schedule = [*words, words[0] ^ words[1] ^ PARITY]
    a, b, c, d = (counter + key for counter, key in zip(counters, words, strict=True))
    for done in range(ROUNDS):
        first, second = ROTATIONS[done % 8]
        if done % 2 == 0:
            a, c = a + b, c + d
            b, d = b.rotated(first) ^ a, d.rotated(second) ^ c
        else:
            a, c = a + d, c + b
            d, b = d.rotated(first) ^ a, b.rotated(second) ^ c
        if done % 4 == 3:
            part = done // 4 + 1
            a, b, c, d = (word + schedule[(part + i) % 5] for i, word in enumerate((a, b, c, d)))
            d = d + part
    return [a, b, c, d]


def _two_normals(word: Lanes) -> tuple[Lanes, Lanes]:
    """Two standard normal numbers from one word: 16 bits for the length of the pair (up to 4.9 σ), 16 for its direction."""
    vector = word.vector
    bits = ((word >> 16).float() * 2.0**-16 + 2.0**-17).as_int()
    exponent = bits - 0x3F2AAAAB  # so that the mantissa lies in [2/3, 4/3)
    exponent = exponent.shifted_signed(23)
    m = (bits - (exponent << 23)).as_float() - 1.0
    log = vector.polynomial(LOG, m) * m + exponent.float() * math.log(2)
    length = (log * -2.0).maximum(vector.constant(0.0, True)).sqrt()
    x = (word << 16).float() * 2.0**-31 + 2.0**-17  # the angle in units of π, in (−1, 1)
    y = x.abs() * -1.0 + 0.5
    cosine = vector.polynomial(SINE, y * y) * y  # of the angle
    sine = vector.polynomial(COSINE, y * y)  # of its magnitude
    signed = (sine.as_int() | (x.as_int() & SIGN)).as_float()
    return length * cosine, length * signed


@intrinsic
def draw_normals(typing_context, out, c0, c1, c2, c3, k0, k1):
    """128 standard normal numbers into `out` from counters (c0 … c0 + 15, c1, c2, c3) of key (k0, k1)."""

    def emit(context, builder, signature, arguments):
        vector = Vector(context, builder)
        pointer = vector.pointer(signature.args[0], arguments[0], context.get_constant(types.intp, 0))
        scalars = [vector.all(scalar) for scalar in arguments[1:]]
        words = _threefry([scalars[0] + vector.count(), *scalars[1:4]], scalars[4:])
        for i, word in enumerate(words):
            for j, normal in enumerate(_two_normals(word)):
                vector.store(normal, pointer, (2 * i + j) * LANES)
        return context.get_dummy_value()

    return types.void(out, *[types.uint32] * 6), emit


# --- pulse trains ----------------------------------------------------------------------------------------


@intrinsic
def draw_trains(typing_context, words, values, first, scale, used, c1, c2, c3, k0, k1):
    """Trains of `LANES` values from `first` on: bits of `used` are 1 with probability min(1, scale·|value|), bit 31 the sign.

    Binary digits of the probability, the last first, are read as "or" (1) or "and" (0) with a random word each. The
    probability has `DIGITS` digits and is rounded up or down at random, once for the word, so that it is right on average.
    """

    def emit(context, builder, signature, arguments):
        vector = Vector(context, builder)
        out = vector.pointer(signature.args[0], arguments[0], arguments[2])
        value = vector.floats(vector.pointer(signature.args[1], arguments[1], arguments[2]))
        c0 = vector.all(builder.trunc(arguments[2], vector.constant(0, False).value.type.element)) + vector.count()
        scale, used, c1, c2, c3, k0, k1 = (vector.all(scalar) for scalar in arguments[3:])
        random = _threefry([c0, c1, c2, c3], [k0, k1]) + _threefry([c0, c1, c2 + 1, c3], [k0, k1])
        dither = (random.pop() >> 8).float() * 2.0**-24
        probability = (value.abs() * scale).minimum(vector.constant(1.0, True))
        digits = (probability * float(1 << DIGITS) + dither).int()
        word = vector.integer(0)
        for digit, other in enumerate(random):
            one = vector.integer(0) - ((digits >> digit) & 1)
            word = (word & other) | (one & (word | other))
        word = word | (vector.integer(0) - (digits >> DIGITS))
        vector.store((word & used) | (value.as_int() & SIGN), out)
        return context.get_dummy_value()

    return types.void(words, values, types.intp, types.float32, *[types.uint32] * 6), emit


@compiled
def trains(words_x, words_d, x, d, rate, dw_min, longest, managed, step, array, k0, k1):
    """Trains of the updates w ← w + rate · d ⊗ x of all samples.

    The expected change is kept: rate · d x = bits · p_x · p_d · dw_min. Update management balances the two sides so that
    their largest probabilities are equal; management of the length (`managed`) sends just the bits that are needed.

    Args:
        words_x, words_d: uint32 [samples, inputs], [samples, outputs], filled.
        x, d: float32 of the same shapes, padded with zeros to multiples of `LANES`. `d` points along the change.
        rate: Learning rate [change of w per d·x].
        dw_min: Mean step of the devices.
        longest: Bits of a train at most, 1 … 31.
        managed: Whether the length follows the size of the update.
        step: Number of the first sample's update; with `array` it names the random words.

    Returns:
        Bits of the longest train that was sent.
    """
    sent = 0
    samples, inputs, outputs = x.shape[0], x.shape[1], d.shape[1]
    flat_x, flat_d, trains_x, trains_d = x.reshape(-1), d.reshape(-1), words_x.reshape(-1), words_d.reshape(-1)
    for t in range(samples):
        largest_x, largest_d = float32(0), float32(0)
        for i in range(inputs):
            largest_x = max(largest_x, abs(x[t, i]))
        for o in range(outputs):
            largest_d = max(largest_d, abs(d[t, o]))
        wanted = rate * largest_x * largest_d / dw_min  # pulses of the largest product
        if not wanted > 0:
            words_x[t] = uint32(0)
            words_d[t] = uint32(0)
            continue
        bits = min(math.ceil(wanted), float(longest)) if managed else float(longest)
        highest = math.sqrt(wanted / bits)
        used = uint32(uint32(0xFFFFFFFF) >> uint32(32 - int(bits)))
        now = uint32(step + t)
        for i in range(0, inputs, LANES):
            draw_trains(trains_x[t * inputs : (t + 1) * inputs], flat_x[t * inputs : (t + 1) * inputs], i,
                        float32(highest / largest_x), used, now, uint32(TRAINS_X), uint32(array), k0, k1)  # fmt: skip
        for o in range(0, outputs, LANES):
            draw_trains(trains_d[t * outputs : (t + 1) * outputs], flat_d[t * outputs : (t + 1) * outputs], o,
                        float32(highest / largest_d), used, now, uint32(TRAINS_D), uint32(array), k0, k1)  # fmt: skip
        sent = max(sent, int(bits))
    return sent


# --- devices ---------------------------------------------------------------------------------------------


@intrinsic
def coincide(typing_context, words_x, x, word_d):
    """How many of `LANES` input trains coincide with the train `word_d`."""

    def emit(context, builder, signature, arguments):
        vector = Vector(context, builder)
        trains = vector.integers(vector.pointer(signature.args[0], arguments[0], arguments[1]))
        return ((trains & vector.all(arguments[2]) & TRAIN) > 0).count()

    return types.intp(words_x, types.intp, types.uint32), emit


def _share_moved(pulses: Lanes, rate: Lanes, gentle: bool) -> Lanes:
    """1 − qⁿ = 1 − 2^(−n·rate): the share of the way to the target that n pulses go. Precise for shares near 0, too."""
    vector = pulses.vector
    y = pulses * rate
    if gentle:
        return y * vector.polynomial(MOVED, y)
    whole = (y + 0.5).int()
    f = y - whole.float()
    scale = ((vector.integer(127) - whole) << 23).as_float()  # 2^−whole
    return (scale * -1.0 + 1.0) + scale * f * vector.polynomial(MOVED, f)


def _make_move(planes: int, multiplicative: bool, gentle: bool):
    high, low = (HIGHEST, LOWEST) if planes == 6 else (TARGET_UP, TARGET_DOWN)

    @intrinsic
    def move(typing_context, weights, w, devices, p, words_x, x, word_d, variance, normals, z):
        """`LANES` devices after the coincidences of their input trains with the train `word_d`.

        Those that see a pulse take one normal number each, from element `z` on. `variance` is σ² ln(2) / 2.
        """

        def emit(context, builder, signature, arguments):
            vector = Vector(context, builder)
            at = [vector.pointer(signature.args[i], arguments[i], arguments[i + 1]) for i in (0, 2, 4)]
            drawn = vector.pointer(signature.args[8], arguments[8], arguments[9])
            weight, word_d, variance = vector.floats(at[0]), vector.all(arguments[6]), vector.all(arguments[7])
            words = vector.integers(at[2])
            plane = [vector.floats(at[1], i * LANES) for i in range(planes)]
            common = words & word_d & TRAIN
            pulsed, pulses = common > 0, common.bits().float()
            down = (words ^ word_d) > TRAIN
            target = down.choose(plane[TARGET_DOWN], plane[TARGET_UP])
            rate = down.choose(plane[RATE_DOWN], plane[RATE_UP])
            share = _share_moved(pulses, rate, gentle)
            left = target - weight
            if multiplicative:
                kept = left - left * share
                step = kept * rate * (rate * (0.5 * math.log(2)) + 1.0)  # the last step in units of ln 2, to second order
                spread = step * step * pulses * variance * (2 * math.log(2))
            else:  # (1 − q²ⁿ) / (1 − q²) · d², where (1 − q) / (1 + q) = tanh(−ln(q) / 2) to second order
                spread = (target * share) * (target * 2.0 - target * share) * (rate * variance)
            moved = weight + left * share + spread.sqrt() * vector.spread(pulsed, drawn)
            moved = moved.maximum(plane[low]).minimum(plane[high])
            vector.store(pulsed.choose(moved, weight), at[0])
            return context.get_dummy_value()

        index = types.intp
        kinds = (weights, index, devices, index, words_x, index, types.uint32, types.float32, normals, index)
        return types.void(*kinds), emit

    return move


_soft_gentle, _soft = _make_move(4, False, True), _make_move(4, False, False)
_bounded, _soft_multiplicative = _make_move(6, False, False), _make_move(4, True, False)
_bounded_multiplicative = _make_move(6, True, False)


@compiled
def update(weights, devices, words_x, words_d, noise, multiplicative, gentle, step, array, k0, k1, first, last):
    """Apply the updates of all samples, one after another, to the rows `first` … `last` − 1; `first` a multiple of `GROUP`.

    Args:
        weights: float32 [outputs, inputs], changed in place; inputs a multiple of `LANES`.
        devices: float32 [outputs, inputs / LANES, 4 or 6, LANES]: target and rate = log2(1/q) upwards, the same downwards,
            and (6) the bounds, where they differ from the targets.
        words_x, words_d: Pulse trains of `trains`.
        noise: σ, standard deviation of one step in units of the step.
        multiplicative: Whether the noise is relative to the step at w rather than at 0.
        gentle: Promises 4 planes, additive noise and n · rate ≤ 1 in every update: a shorter way to the same numbers.
        step, array: Name the normal numbers.
    """
    samples, inputs = words_x.shape
    planes = devices.shape[2]
    flat_weights, flat_devices, flat_x = weights.reshape(-1), devices.reshape(-1), words_x.reshape(-1)
    variance = float32(noise * noise * (0.5 * math.log(2)))
    active = np.empty((samples, inputs // LANES), np.int32)  # first device of groups with any pulse on their inputs
    actives = np.zeros(samples, np.int32)
    for t in range(samples):
        for i in range(0, inputs, LANES):
            if coincide(flat_x, t * inputs + i, uint32(TRAIN)) > 0:
                active[t, actives[t]] = i
                actives[t] += 1
    normals = np.empty(DRAWN + LANES, np.float32)
    for start in range(first, last, GROUP):
        drawn, used = uint32(0), DRAWN
        for o in range(start, min(start + GROUP, last)):
            for t in range(samples):
                word_d = words_d[t, o]
                if uint32(word_d & uint32(TRAIN)) == uint32(0):
                    continue
                for a in range(actives[t]):
                    i = active[t, a]
                    x = t * inputs + i
                    pulsed = coincide(flat_x, x, word_d)
                    if pulsed > 0:
                        if used + pulsed > DRAWN:
                            for z in range(0, DRAWN, 128):
                                draw_normals(normals[z : z + 128], drawn, uint32(step), uint32(NOISE + PURPOSES * start),
                                             uint32(array), k0, k1)  # fmt: skip
                                drawn = uint32(drawn + uint32(LANES))
                            used = 0
                        w = o * inputs + i
                        p = w * planes
                        if gentle:
                            _soft_gentle(flat_weights, w, flat_devices, p, flat_x, x, word_d, variance, normals, used)
                        elif planes == 4 and not multiplicative:
                            _soft(flat_weights, w, flat_devices, p, flat_x, x, word_d, variance, normals, used)
                        elif planes == 4:
                            _soft_multiplicative(flat_weights, w, flat_devices, p, flat_x, x, word_d, variance, normals,
                                                 used)  # fmt: skip
                        elif not multiplicative:
                            _bounded(flat_weights, w, flat_devices, p, flat_x, x, word_d, variance, normals, used)
                        else:
                            _bounded_multiplicative(flat_weights, w, flat_devices, p, flat_x, x, word_d, variance, normals,
                                                    used)  # fmt: skip
                        used += pulsed


@compiled
def send_and_update(weights, devices, x, d, rate, dw_min, longest, managed, noise, multiplicative, gentle_to, step, array, k0,
                    k1):  # fmt: skip
    """`trains` and `update` of all rows in one call, for few samples at a time. `gentle_to`: pulses that are gentle."""
    words_x, words_d = np.empty(x.shape, np.uint32), np.empty(d.shape, np.uint32)
    sent = trains(words_x, words_d, x, d, rate, dw_min, longest, managed, step, array, k0, k1)
    update(
        weights, devices, words_x, words_d, noise, multiplicative, sent <= gentle_to, step, array, k0, k1, 0, weights.shape[0]
    )


@compiled
def update_power(weights, devices, words_x, words_d, noise, multiplicative, gentle, step, array, k0, k1, first, last):
    """`update` for devices whose step is d ((b⁺ − w) / (b⁺ − b⁻))^γ, pulse by pulse.

    Planes of `devices`: d⁺, γ⁺, d⁻, γ⁻, b⁺, b⁻. Random numbers as in `update`; `gentle` has no meaning here.
    """
    samples, inputs = words_x.shape
    normals = np.empty(DRAWN, np.float32)
    for start in range(first, last, GROUP):
        drawn, used = uint32(0), DRAWN
        for o in range(start, min(start + GROUP, last)):
            for t in range(samples):
                for i in range(inputs):
                    common = uint32(words_x[t, i] & words_d[t, o])
                    common = uint32(common & uint32(TRAIN))
                    if common == uint32(0):
                        continue
                    block, lane = i // LANES, i % LANES
                    high, low = devices[o, block, HIGHEST, lane], devices[o, block, LOWEST, lane]
                    is_down = uint32(words_x[t, i] ^ words_d[t, o]) > uint32(TRAIN)
                    plane = 2 if is_down else 0
                    size, gamma = devices[o, block, plane, lane], devices[o, block, plane + 1, lane]
                    w = weights[o, i]
                    while common != uint32(0):
                        common = uint32(common & uint32(common - uint32(1)))
                        if used == DRAWN:
                            for z in range(0, DRAWN, 128):
                                draw_normals(normals[z : z + 128], drawn, uint32(step), uint32(NOISE + PURPOSES * start),
                                             uint32(array), k0, k1)  # fmt: skip
                                drawn = uint32(drawn + uint32(LANES))
                            used = 0
                        left = (w - low if is_down else high - w) / (high - low)
                        moved = size * left**gamma if left > float32(0) else float32(0)
                        error = float32(noise) * (moved if multiplicative else size) * normals[used]
                        used += 1
                        w = min(max(w + (error - moved if is_down else error + moved), low), high)
                    weights[o, i] = w


@compiled
def one_pulse(w, devices, o, i, up, noise, multiplicative, power, normal):
    """The weight of device (o, i) after one pulse, exactly as the module says (`power`: as `update_power` says)."""
    block, lane = i // LANES, i % LANES
    planes = devices.shape[2]
    high = devices[o, block, HIGHEST if planes == 6 else TARGET_UP, lane]
    low = devices[o, block, LOWEST if planes == 6 else TARGET_DOWN, lane]
    plane = TARGET_UP if up else TARGET_DOWN
    first, second = devices[o, block, plane, lane], devices[o, block, plane + 1, lane]
    if power:
        size = first
        left = max((high - w if up else w - low) / (high - low), float32(0))
        moved = size * left**second
    else:
        share = float32(1) - float32(2) ** -second
        size = abs(first) * share
        moved = abs(first - w) * share
    error = float32(noise) * (moved if multiplicative else size) * normal
    return float32(min(max(w + (moved if up else -moved) + error, low), high))
