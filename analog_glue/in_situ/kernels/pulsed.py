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
from llvmlite import ir
from numba import float32, types, uint32
from numba.extending import intrinsic

from analog_glue.in_situ.kernels.lanes import LANES, Lanes, Vector
from analog_glue.kernels.jit import compiled
from analog_glue.kernels.threefry import PARITY, ROTATIONS, ROUNDS

LONGEST = 31  # [bits] of a pulse train
TRAIN, SIGN = 0x7FFFFFFF, 0x80000000
DIGITS = 7  # binary digits of a probability; what lies between two of them is dithered
GROUP = 16  # rows that share a stream of normal numbers; part of what a key means
DRAWN = 256  # normal numbers made at a time; part of what a key means
NUMBERS = 3 * LANES  # about the coincidences of a group of devices: n, σ √n, (n² − 1) ln(2)² / 24
SLOTS = 4  # trains of outputs whose coincidences are remembered
TARGET_UP, RATE_UP, TARGET_DOWN, RATE_DOWN, HIGHEST, LOWEST = range(6)  # planes of the device parameters
TRAINS_X, TRAINS_D, NOISE = 0, 2, 4  # what random words are for (the third counter, beside the array's number)
PURPOSES = 8

# Fits with equalised errors: of the length 3·10⁻⁵, of sine and cosine 10⁻⁴, of what a pulse moves 10⁻⁵ and better.
LOG = (-2.000012008, 0.998548401, -0.664551825, 0.550730681, -0.451419052)  # −2 ln(1 + m) / m, −1/3 ≤ m ≤ 1/3
SINE = (3.141252817, -5.145805533, 2.326638795)  # sin(πy) / y in y², |y| ≤ 1/2
COSINE = (0.999993296, -4.933938026, 4.041283911, -1.222127249)  # cos(πy) in y², |y| ≤ 1/2
MOVED = (  # (1 − 2^−f) / f, −1/2 ≤ f ≤ 1
    0.693147149,
    -0.240225934,
    0.055505074,
    -0.009625366,
    0.001332931,
    -0.000133925,
)
MOVED_GENTLY = (0.693137955, -0.239944075, 0.054102674, -0.007303208)  # the same to 1.3·10⁻⁵, 0 ≤ f ≤ 1


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
    length = (vector.polynomial(LOG, m) * m + exponent.float() * (-2 * math.log(2))).sqrt()
    y = (word << 17).float() * 2.0**-32 + 2.0**-16  # in (−1/2, 1/2); the angle is πy or π − πy
    sine, cosine = vector.polynomial(SINE, y * y) * y, vector.polynomial(COSINE, y * y)
    signed = (cosine.as_int() | (word << 16 & SIGN)).as_float()
    return length * sine, length * signed


def _make_draw(ciphers: int):
    @intrinsic
    def draw(typing_context, out, c0, c1, c2, c3, k0, k1):
        """128 standard normal numbers of each cipher into `out`, from counters (c0 … c0 + 15, c1, c2, c3) of key (k0, k1)."""

        def emit(context, builder, signature, arguments):
            vector = Vector(context, builder)
            pointer = vector.pointer(signature.args[0], arguments[0], context.get_constant(types.intp, 0))
            c0, c1, c2, c3, k0, k1 = (vector.all(scalar) for scalar in arguments[1:])
            words = []
            for cipher in range(ciphers):
                words += _threefry([c0 + vector.count() + cipher * LANES, c1, c2, c3], [k0, k1])
            for i, word in enumerate(words):
                for j, normal in enumerate(_two_normals(word)):
                    vector.store(normal, pointer, (2 * i + j) * LANES)
            return context.get_dummy_value()

        return types.void(out, *[types.uint32] * 6), emit

    return draw


draw_normals, draw_256_normals = _make_draw(1), _make_draw(2)  # the same numbers; two ciphers at once wait less for each other


# --- pulse trains ----------------------------------------------------------------------------------------


def _make_trains(most: int):
    @intrinsic
    def draw(typing_context, words, values, first, scale, used, c1, c2, c3, k0, k1):
        """Trains of `LANES` values from `first` on: bits of `used` are 1 with probability min(1, scale·|value|), bit 31: sign.

        Binary digits of the probability, the last first, are read as "or" (1) or "and" (0) with random bits each. The
        probability has `DIGITS` digits and is rounded up or down at random, once for the train, so that it is right on average.
        """

        def emit(context, builder, signature, arguments):
            vector = Vector(context, builder)
            out = vector.pointer(signature.args[0], arguments[0], arguments[2])
            value = vector.floats(vector.pointer(signature.args[1], arguments[1], arguments[2]))
            c0 = vector.all(builder.trunc(arguments[2], ir.IntType(32))) + vector.count()
            scale, used, c1, c2, c3, k0, k1 = (vector.all(scalar) for scalar in arguments[3:])
            random = _threefry([c0, c1, c2, c3], [k0, k1])
            random += [word >> 16 for word in random] if most == 16 else _threefry([c0, c1, c2 + 1, c3], [k0, k1])
            dither = (random.pop() & 0xFFFF).float() * 2.0**-16
            probability = (value.abs() * scale).minimum(vector.constant(1.0, True))
            digits = (probability * float(1 << DIGITS) + dither).int()
            word = vector.integer(0)
            for digit, other in enumerate(random):
                one = vector.integer(0) - ((digits >> digit) & 1)
                word = (word & other) | (one & (word | other))
            word = word | (vector.integer(0) - (digits >> DIGITS))
            vector.store((word & used) | (value.as_int() & SIGN), out)
            return context.get_dummy_value()

        return types.void(words, values, types.intp, types.float32, *[types.uint32] * 7), emit

    return draw


draw_trains, draw_short_trains = _make_trains(32), _make_trains(16)  # of up to 31 bits; of up to 16, with half the random words


@compiled
def _trains_of(words, values, scale, bits, now, purpose, array, k0, k1):
    used = uint32(uint32(0xFFFFFFFF) >> uint32(32 - bits))
    for i in range(0, values.size, LANES):
        if bits <= 16:
            draw_short_trains(words, values, i, scale, used, now, purpose, array, k0, k1)
        else:
            draw_trains(words, values, i, scale, used, now, purpose, array, k0, k1)


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
        bits_sent, now = int(bits), uint32(step + t)
        _trains_of(words_x[t], x[t], float32(highest / largest_x), bits_sent, now, uint32(TRAINS_X), uint32(array), k0, k1)
        _trains_of(words_d[t], d[t], float32(highest / largest_d), bits_sent, now, uint32(TRAINS_D), uint32(array), k0, k1)
        sent = max(sent, bits_sent)
    return sent


# --- devices ---------------------------------------------------------------------------------------------


@intrinsic
def any_pulse(typing_context, words, first):
    """Whether any of `LANES` trains from `first` on has a pulse."""

    def emit(context, builder, signature, arguments):
        vector = Vector(context, builder)
        trains = vector.integers(vector.pointer(signature.args[0], arguments[0], arguments[1]))
        return ((trains & TRAIN) > 0).as_bits()

    return types.intp(words, types.intp), emit


@intrinsic
def coincide(typing_context, numbers, at, words_x, x, word_d, noise):
    """Compare `LANES` input trains from `x` on with the train `word_d`; `NUMBERS` numbers about it into `numbers`.

    Returns:
        Bits 0 … 15: which devices see a pulse; bits 16 … 31: which inputs are negative.
    """

    def emit(context, builder, signature, arguments):
        vector = Vector(context, builder)
        out = vector.pointer(signature.args[0], arguments[0], arguments[1])
        words = vector.integers(vector.pointer(signature.args[2], arguments[2], arguments[3]))
        word_d, noise = vector.all(arguments[4]), vector.all(arguments[5])
        common = words & word_d & TRAIN
        n = common.bits().float()
        vector.store(n, out)
        vector.store(n.sqrt() * noise, out, LANES)
        vector.store((n * n - 1.0) * (math.log(2) ** 2 / 24), out, 2 * LANES)
        pulsed, negative = (common > 0).as_bits(), (words > TRAIN).as_bits()
        return builder.or_(pulsed, builder.shl(negative, ir.IntType(64)(LANES)))

    return types.intp(numbers, types.intp, words_x, types.intp, types.uint32, types.float32), emit


@intrinsic
def count_bits(typing_context, number):
    """How many of bits 0 … 15 are set."""

    def emit(context, builder, signature, arguments):
        return builder.ctpop(builder.and_(arguments[0], ir.IntType(64)(0xFFFF)))

    return types.intp(types.intp), emit


def _share_moved(pulses: Lanes, rate: Lanes) -> Lanes:
    """1 − qⁿ = 1 − 2^(−n·rate): the share of the way to the target that n pulses go. Precise for shares near 0, too."""
    vector = pulses.vector
    y = pulses * rate
    whole = (y + 0.5).int()
    f = y - whole.float()
    scale = ((vector.integer(127) - whole) << 23).as_float()  # 2^−whole
    return (scale * -1.0 + 1.0) + scale * f * vector.polynomial(MOVED, f)


def _make_rows(planes: int, multiplicative: bool, gentle: bool):
    """`update` for one kind of device, given the groups of `LANES` inputs that are active in each sample."""
    high, low = (HIGHEST, LOWEST) if planes == 6 else (TARGET_UP, TARGET_DOWN)

    def emit(context, builder, signature, arguments):
        weights, devices, numbers, normals, variance, *of_registers = arguments
        registers = len(of_registers) // 4
        w, at, masks, z = (of_registers[i * registers : (i + 1) * registers] for i in range(4))
        vector = Vector(context, builder, registers)
        parameters = [builder.mul(one, one.type(planes)) for one in w]
        place = vector.pointer(signature.args[0], weights, *w)
        parameters = vector.pointer(signature.args[1], devices, *parameters)
        about = vector.pointer(signature.args[2], numbers, *at)
        drawn = vector.pointer(signature.args[3], normals, *z)
        pulsed, down = vector.mask(*masks), vector.mask(*[builder.lshr(bits, bits.type(LANES)) for bits in masks])
        weight, pulses, normal = vector.floats(place), vector.floats(about), vector.spread(pulsed, drawn)
        plane = [vector.floats(parameters, i * LANES) for i in range(planes)]
        target = down.choose(plane[TARGET_DOWN], plane[TARGET_UP])
        rate = down.choose(plane[RATE_DOWN], plane[RATE_UP])
        left = target - weight
        if gentle:
            # With y = −n ln q: √((1 − q²ⁿ) / (1 − q²)) d = |target| (1 − qⁿ) √(coth(y/2) tanh(y/2n)), and the root is
            # (1 + (n² − 1) (y/n)² / 24) / √n up to 4·10⁻⁴.
            error = normal * vector.floats(about, LANES) * (rate * rate * vector.floats(about, 2 * LANES) + 1.0)
            one = rate * vector.polynomial(MOVED_GENTLY, pulses * rate)  # (1 − qⁿ) / n
            moved = weight + one * (left * pulses + target * error)
        else:
            share = _share_moved(pulses, rate)
            if multiplicative:
                kept = left - left * share
                step = kept * rate * (rate * (0.5 * math.log(2)) + 1.0)  # the last step / ln 2, to second order
                spread = step * step * pulses * vector.all(variance) * (2 * math.log(2))
            else:  # (1 − q²ⁿ) / (1 − q²) · d², where (1 − q) / (1 + q) = tanh(−ln(q) / 2) to second order
                spread = (target * share) * (target * 2.0 - target * share) * (rate * vector.all(variance))
            moved = weight + left * share + spread.sqrt() * normal
        moved = moved.maximum(plane[low]).minimum(plane[high])
        vector.store(pulsed.choose(moved, weight), place)
        return context.get_dummy_value()

    @intrinsic
    def move(typing_context, weights, devices, numbers, normals, variance, w, at, masks, z):
        """`LANES` devices from `w` on after the coincidences that `coincide` found.

        Those that see a pulse take one normal number each, from element `z` on. `variance` is σ² ln(2) / 2.
        """
        return types.void(weights, devices, numbers, normals, types.float32, *[types.intp] * 4), emit

    @intrinsic
    def move_two(typing_context, weights, devices, numbers, normals, variance, w, w2, at, at2, masks, masks2, z, z2):
        """`move` of two groups of devices, faster than one after the other."""
        return types.void(weights, devices, numbers, normals, types.float32, *[types.intp] * 8), emit

    @compiled
    def rows(weights, devices, words_x, words_d, begin, until, work, noise, step, array, k0, k1, first, last):
        active, actives, numbers, met, normals = work
        inputs = weights.shape[1]
        flat_weights, flat_devices, flat_x = weights.reshape(-1), devices.reshape(-1), words_x.reshape(-1)
        variance = float32(noise * noise * (0.5 * math.log(2)))
        groups = active.shape[1]
        aligned = -(numbers.ctypes.data >> 2) & (LANES - 1)
        how_many, whose = groups, groups + 1
        for start in range(first, last, GROUP):
            drawn, used = uint32(0), DRAWN
            for o in range(start, min(start + GROUP, last)):
                for t in range(begin, until):
                    word_d = words_d[t, o]
                    if uint32(word_d & uint32(TRAIN)) == uint32(0):
                        continue
                    train = np.int64(word_d & uint32(TRAIN))
                    slot = (train ^ (t << 1)) & (SLOTS - 1)
                    key = (t << 32) | train
                    turned = 0xFFFF0000 if word_d > uint32(TRAIN) else 0
                    if met[slot, whose] != key:
                        count = 0
                        for a in range(actives[t]):
                            i = np.int64(active[t, a])
                            at = aligned + (slot * groups + count) * NUMBERS
                            found = coincide(numbers, at, flat_x, t * inputs + i, word_d, noise)
                            met[slot, count] = found | i << 32
                            count += 1 if found & 0xFFFF != 0 else 0
                        met[slot, how_many], met[slot, whose] = count, key
                    row, count = o * inputs, met[slot, how_many]
                    for a in range(0, count, 2):
                        found, other = met[slot, a] ^ turned, met[slot, a + 1] ^ turned if a + 1 < count else 0
                        pulsed, others = count_bits(found), count_bits(other)
                        if used + pulsed + others > DRAWN:
                            refill(normals, drawn, uint32(step), uint32(NOISE + PURPOSES * start), uint32(array), k0, k1)
                            drawn = uint32(drawn + uint32(DRAWN // 8))
                            used = 0
                        w, w2 = row + (found >> 32), row + (other >> 32)
                        at = aligned + (slot * groups + a) * NUMBERS
                        if a + 1 < count:
                            move_two(flat_weights, flat_devices, numbers, normals, variance, w, w2, at, at + NUMBERS, found,
                                     other, used, used + pulsed)  # fmt: skip
                        else:
                            move(flat_weights, flat_devices, numbers, normals, variance, w, at, found, used)
                        used += pulsed + others

    return rows


@compiled
def refill(normals, first, c1, c2, c3, k0, k1):
    """`DRAWN` standard normal numbers from counter `first` on."""
    draw_256_normals(normals, first, c1, c2, c3, k0, k1)


_soft_gentle, _soft = _make_rows(4, False, True), _make_rows(4, False, False)
_bounded, _soft_multiplicative = _make_rows(6, False, False), _make_rows(4, True, False)
_bounded_multiplicative = _make_rows(6, True, False)


@compiled
def work_space(words_x):
    """What `update_samples` needs beside its arguments, for all samples of `words_x`."""
    samples, inputs = words_x.shape
    flat_x, groups = words_x.reshape(-1), inputs // LANES
    active = np.empty((samples, groups), np.int32)  # first device of groups with any pulse on their inputs
    actives = np.zeros(samples, np.int32)
    for t in range(samples):
        for i in range(0, inputs, LANES):
            active[t, actives[t]] = i
            actives[t] += 1 if any_pulse(flat_x, t * inputs + i) != 0 else 0
    numbers = np.empty(SLOTS * groups * NUMBERS + LANES, np.float32)
    # Trains are short where their length is managed, so that many outputs send the same one and meet the same pulses.
    met = np.empty((SLOTS, groups + 2), np.int64)  # what `coincide` returned, and above it the first device; then the number
    met[:, groups + 1] = -1  # of such groups, and which sample's and train they are
    return active, actives, numbers, met, np.empty(DRAWN + LANES, np.float32)


@compiled
def update_samples(weights, devices, words_x, words_d, begin, until, work, noise, multiplicative, gentle, step, array, k0, k1,
                   first, last):  # fmt: skip
    """`update` by the samples `begin` … `until` − 1 of the trains, with a `work_space` that serves every such call."""
    sigma = float32(noise)
    soft = devices.shape[2] == 4
    if gentle:
        _soft_gentle(weights, devices, words_x, words_d, begin, until, work, sigma, step, array, k0, k1, first, last)
    elif soft and not multiplicative:
        _soft(weights, devices, words_x, words_d, begin, until, work, sigma, step, array, k0, k1, first, last)
    elif soft:
        _soft_multiplicative(weights, devices, words_x, words_d, begin, until, work, sigma, step, array, k0, k1, first, last)
    elif not multiplicative:
        _bounded(weights, devices, words_x, words_d, begin, until, work, sigma, step, array, k0, k1, first, last)
    else:
        _bounded_multiplicative(weights, devices, words_x, words_d, begin, until, work, sigma, step, array, k0, k1, first, last)


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
    update_samples(weights, devices, words_x, words_d, 0, words_x.shape[0], work_space(words_x), noise, multiplicative, gentle,
                   step, array, k0, k1, first, last)  # fmt: skip


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
                            refill(normals, drawn, uint32(step), uint32(NOISE + PURPOSES * start), uint32(array), k0, k1)
                            drawn = uint32(drawn + uint32(DRAWN // 8))
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
        y = second * float32(math.log(2))
        if y < float32(0.02):  # 1 − q = 1 − e^−y, of which little is left in float32
            share = y * (float32(1) - y * (float32(1 / 2) - y * float32(1 / 6)))
        else:
            share = float32(1) - float32(2) ** -second
        size = abs(first) * share
        moved = abs(first - w) * share
    error = float32(noise) * (moved if multiplicative else size) * normal
    return float32(min(max(w + (moved if up else -moved) + error, low), high))
