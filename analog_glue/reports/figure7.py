"""Figure 7 of Spoon et al. (2021): the share of attention in all multiply-adds, and what a multiply-add of integers saves.

Both are arithmetic, no measurement: the same for every folder of runs on phase-change memory. The models are BERT-base and
those of the rows that are downloaded, with the sizes that their names stand for; one from a user's folder counts
as its namesake.
"""

from __future__ import annotations

from collections.abc import Sequence

from analog_glue.costs.architectures import ENCODERS
from analog_glue.costs.integers import INT6_AREA_GAIN, INT6_ENERGY_GAIN, integer_energy, integer_energy_gain
from analog_glue.reports.figures import Chart
from analog_glue.reports.figures import Line as Drawing
from analog_glue.reports.grids import GLUE, Chapter, Grid, Picture, Record
from analog_glue.reports.sections import LETTERS
from analog_glue.runs.rows import Measurement

LENGTHS = (8, 16, 32, 64, 128, 256, 512)  # [tokens]
PUBLISHED_SHARE = {128: 5.0}  # tokens → share of attention [%], "about"
SOURCE = "Spoon et al., Front. Comput. Neurosci. 15, 675741 (2021), Sec. 3.2 and Fig. 7"
TITLE = "Figure 7: share of attention in the multiply-adds of a sequence"


def figure7(rows: Sequence[Measurement]) -> Chapter:
    """Table, picture and records where networks trained for PCM were scored on it with a GLUE task; nothing elsewhere."""
    made = Chapter()
    trained = {name for name, _ in LETTERS}
    on_pcm = [row for row in rows if row.stage == "chip" and row.noise.startswith("pcm") and row.training in trained]
    models = {row.model for row in on_pcm if row.task in GLUE}
    if not models:
        return made
    chosen = ["bert_base", *sorted(model for model in models if model in ENCODERS and model != "bert_base")]
    made.parts = [
        ("spoon2021_figure7", _shares(chosen)),
        ("spoon2021_figure7", Picture(TITLE, [_chart(chosen)], "Multiply-adds of the encoder, counted, not measured")),
        ("spoon2021_figure7-energy", _energy()),
    ]
    made.records["spoon2021_figure7.csv"] = [_record(model, length) for model in chosen for length in LENGTHS]
    made.records["spoon2021_figure7_energy.csv"] = _energy_records()
    return made


def _shares(models: Sequence[str]) -> Grid:
    rows = []
    for length in LENGTHS:
        bert = ENCODERS["bert_base"]
        counts = [bert.linear(length), bert.scores(length) + bert.values(length)]
        shares = [f"{ENCODERS[model].attention_share(length):.2f} %" for model in models]
        published = f"about {PUBLISHED_SHARE[length]:g} %" if length in PUBLISHED_SHARE else ""
        rows.append([f"{length} tokens", *(f"{count / 1e6:,.2f}" for count in counts), *shares, published])
    header = ["", "bert_base: linear layers [10⁶]", "bert_base: QKᵀ and PV [10⁶]", *models, "Spoon 2021"]
    note = (
        "Exact multiply-adds of the encoder for one sequence: S (4 d² + 2 d f) L of its linear layers on tiles, 2 S² d L of "
        "QKᵀ and PV (S tokens, width d, feed-forward width f, L layers; a shared layer counts as often as it is used; pooler "
        "and classifier, once a sequence, are left out). Our count at 128 tokens is 2.70 % where the paper's text says about "
        f"5 %; what it counts could not be recovered, and it says less than 1 % for short sequences. Source: {SOURCE}."
    )
    return Grid(TITLE, note, header, rows)


def _energy() -> Grid:
    rows = [
        [
            str(cells["attention"]).upper(),
            *(f"{value:.1f}×" if isinstance(value, float) else "" for value in gains),
            str(origin),
        ]
        for cells in _energy_records()
        for gains, origin in [((cells["energy_gain"], cells["area_gain"]), cells["origin"])]
    ]
    note = (
        "Multiply-add of bfloat16 over one of integers, 14 nm, adders wide enough for 64 terms. Published: INT6. Derived: the "
        f"published ratio times e(6) / e(n), where e(n) = 0.0031 n² + 0.0033 (2n + 6) pJ ({integer_energy(6):.3f}, "
        f"{integer_energy(8):.3f} and {integer_energy(10):.3f} pJ for 6, 8 and 10 bits) is a product and an "
        f"addition fitted to the 45 nm numbers of Horowitz, ISSCC (2014). Areas of INT8 and INT10 are not derived. "
        f"Source: {SOURCE}."
    )
    return Grid(
        "Figure 7: energy and area of a multiply-add of attention", note, ["", "less energy", "less area", "origin"], rows
    )


def _energy_records() -> list[Record]:
    derived: list[Record] = [
        {
            "attention": f"int{bits}",
            "energy_gain": integer_energy_gain(bits),
            "area_gain": None,
            "origin": "derived",
            "source": "",
        }
        for bits in (10, 8)
    ]
    published: Record = {"attention": "int6", "energy_gain": INT6_ENERGY_GAIN, "area_gain": INT6_AREA_GAIN}
    return [*derived, {**published, "origin": "published", "source": SOURCE}]


def _record(model: str, length: int) -> Record:
    encoder = ENCODERS[model]
    return {
        "model": model,
        "tokens": length,
        "linear": encoder.linear(length),
        "scores": encoder.scores(length),
        "values": encoder.values(length),
        "attention_percent": encoder.attention_share(length),
        "published_percent": PUBLISHED_SHARE.get(length) if model == "bert_base" else None,
    }


def _chart(models: Sequence[str]) -> Chart:
    shares = {model: [ENCODERS[model].attention_share(length) for length in LENGTHS] for model in models}
    lines = [Drawing(model, LENGTHS, share, [None] * len(LENGTHS)) for model, share in shares.items()]
    told = [
        Drawing("Spoon 2021: BERT-base, about", list(PUBLISHED_SHARE), list(PUBLISHED_SHARE.values()), [None], joined=False)
    ]
    return Chart("", "sequence length [tokens]", "share of QKᵀ and PV [%]", [*lines, *told], log_x=True, ticks=LENGTHS)
