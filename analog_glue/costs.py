"""What a model costs on an accelerator: the tiles that its layers take, and its multiply-adds by layer.

Counting needs no torch: a model is looked at through its configuration and the shapes of its layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analog_glue.errors import UserError

if TYPE_CHECKING:
    from analog_glue.nn.placement import Placement


@dataclass(frozen=True)
class TileCount:
    """How the layers of a model fill the tiles."""

    layers: int
    weights: int
    tiles: int
    over_layers: float  # mean utilisation, every layer counting the same [%]
    over_tiles: float  # mean utilisation, every tile counting the same [%]


def count_tiles(placement: Placement) -> TileCount:
    """Tiles and their utilisation; a module that the model uses several times counts once."""
    crossbar, grids = placement.hardware.crossbar, placement.grids.values()
    weights = [grid.outputs * grid.inputs for grid in grids]
    tiles = [grid.tiles for grid in grids]
    capacity = crossbar.rows * crossbar.columns
    shares = [100 * size / (count * capacity) for size, count in zip(weights, tiles, strict=True)]
    return TileCount(
        len(grids),
        sum(weights),
        sum(tiles),
        sum(shares) / len(shares),
        sum(share * count for share, count in zip(shares, tiles, strict=True)) / sum(tiles),
    )


@dataclass(frozen=True)
class Encoder:
    """The sizes of a transformer encoder that set its multiply-adds; the number of heads does not.

    h heads of width d/h take S²·d multiply-adds for QKᵀ and as many for PV, whatever h is.
    """

    hidden: int  # d, width of the residual stream
    intermediate: int  # width of the feed-forward layer
    layers: int  # how often a layer is gone through; ALBERT goes through one layer several times
    modules: int = 0  # different layers among them; 0: all are

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Encoder:
        """Of what a Hugging Face config.json says.

        Raises:
            UserError: An architecture whose layers are not known here.
        """
        kind = config.get("model_type")
        if kind not in ARCHITECTURES:
            raise UserError(
                f"Argument `config` must be of an architecture whose operations are known ({', '.join(ARCHITECTURES)}), "
                f"but is of {kind}. Add how it uses its layers to analog_glue/costs.py."
            )
        if kind == "distilbert":
            return cls(config["dim"], config["hidden_dim"], config["n_layers"])
        inner = config["inner_group_num"] if kind == "albert" else 1  # layers of a group, gone through one after the other
        modules = config["num_hidden_groups"] * inner if kind == "albert" else 0
        return cls(config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"] * inner, modules)

    def linear(self, sequence: int) -> int:
        """Multiply-adds of Q, K, V, output and the two feed-forward layers for a sequence of so many tokens."""
        return sequence * self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)

    def scores(self, sequence: int) -> int:
        """Multiply-adds of QKᵀ: S × S products of vectors, the heads together d long, in every layer."""
        return self.layers * sequence**2 * self.hidden

    def values(self, sequence: int) -> int:
        """Multiply-adds of PV, as many as of QKᵀ."""
        return self.scores(sequence)

    def attention_share(self, sequence: int) -> float:
        """QKᵀ and PV among all multiply-adds of the encoder [%]; pooler and classifier, once a sequence, are left out."""
        products = self.scores(sequence) + self.values(sequence)
        return 100 * products / (products + self.linear(sequence))


ARCHITECTURES = ("bert", "roberta", "mpnet", "albert", "distilbert")
# Of the options of `model` that are downloaded, as their config.json says.
ENCODERS = {
    "bert_base": Encoder(768, 3072, 12),
    "bert_large": Encoder(1024, 4096, 24),
    "roberta_base": Encoder(768, 3072, 12),
    "distilbert": Encoder(768, 3072, 6),
    "albert_base": Encoder(768, 3072, 12, modules=1),
    "minilm": Encoder(384, 1536, 6),
    "mpnet_base": Encoder(768, 3072, 12),
}
ONCE = {"pooler", "classifier", "pre_classifier"}  # modules that see one vector of a sequence, that of its first token


@dataclass(frozen=True)
class Operation:
    """What one layer multiplies for one sequence.

    Args:
        layer: Name of the linear layer, or of the product with the number of the layer.
        kind: `linear`, `scores` (QKᵀ) or `values` (PV).
        on_tiles: Whether it is computed by tiles.
        vectors: Inputs that a linear layer sees, every use of a shared one counting; 0 for the products of attention.
        multiply_adds: Of all uses together, without biases.
    """

    layer: str
    kind: str
    on_tiles: bool
    vectors: int
    multiply_adds: int


def count_operations(
    config: Mapping[str, Any], linears: Mapping[str, tuple[int, int]], on_tiles: Iterable[str], sequence: int
) -> list[Operation]:
    """The multiply-adds of every layer of a model for one sequence, exactly; a shared module counts as often as it is used.

    Args:
        config: Of the model, as its config.json says (`model.config.to_dict()`).
        linears: Name of every linear layer → (outputs, inputs); those on tiles alone: the `grids` of a `Placement` have both.
        on_tiles: Names of those that lie on tiles.
        sequence: Tokens, padding included, for which a machine computes all of them.

    Raises:
        UserError: An architecture whose layers are not known here.
    """
    encoder, placed = Encoder.of(config), set(on_tiles)
    uses = encoder.layers // (encoder.modules or encoder.layers)  # of a layer of the encoder
    found = []
    for name, (outputs, inputs) in linears.items():
        parts = set(name.split("."))
        vectors = 1 if parts & ONCE else sequence * (uses if parts & {"layer", "albert_layer_groups"} else 1)
        found.append(Operation(name, "linear", name in placed, vectors, vectors * outputs * inputs))
    for number in range(encoder.layers):
        each = {"scores": encoder.scores(sequence), "values": encoder.values(sequence)}
        found += [Operation(f"layer {number}", kind, False, 0, total // encoder.layers) for kind, total in each.items()]
    return found


# Spoon et al. (2021), Sec. 3.2.1, Fig. 7B: bfloat16 → INT6 multiply-add, adders wide enough for 64 terms, 14 nm.
INT6_ENERGY_GAIN, INT6_AREA_GAIN = 11.3, 4.7


def integer_energy(bits: int) -> float:
    """Energy of one multiply-add of integers in a 45 nm process [pJ]: 0.0031 n² + 0.0033 (2n + 6).

    A product grows with the square of the digits, an addition with the digits of the accumulator, which holds 64 products of 2n
    digits. The factors are fitted to INT8 and INT32 of Horowitz, ISSCC (2014): products of 0.2 and 3.1 pJ, sums of 0.03 and
    0.1 pJ.
    """
    return 0.0031 * bits**2 + 0.0033 * (2 * bits + 6)


def integer_energy_gain(bits: int) -> float:
    """How many times less energy than a bfloat16 multiply-add takes one of `bits`-bit integers.

    Published for 6 bits (11.3); for others derived: that number times the ratio of `integer_energy`. The law alone gives 11.7
    for INT6 against Horowitz's float16 product and float32 sum (2.0 pJ), which is within 4 % of the published one.
    """
    return INT6_ENERGY_GAIN * integer_energy(6) / integer_energy(bits)
