"""What a transformer encoder is made of, read off its config.json: sizes, linear layers by name, parameters.

Nothing is loaded or built, and no torch is needed: names and shapes are those of the `*ForSequenceClassification` classes of
transformers, to which the tests hold them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analog_glue.errors import UserError

KINDS = ("bert", "roberta", "mpnet", "albert", "distilbert")  # values of `model_type`
# What config.json may leave out, as transformers fills it in.
LEFT_OUT: dict[str, dict[str, int]] = {
    "bert": {"type_vocab_size": 2, "max_position_embeddings": 512},
    "roberta": {"type_vocab_size": 2, "max_position_embeddings": 512},
    "mpnet": {"max_position_embeddings": 512, "relative_attention_num_buckets": 32},
    "albert": {"type_vocab_size": 2, "max_position_embeddings": 512, "num_hidden_groups": 1, "inner_group_num": 1},
    "distilbert": {"max_position_embeddings": 512},
}
PADDED = ("roberta", "mpnet")  # their positions are counted from behind the number of the padding token
SEGMENTED = ("bert", "roberta", "albert")  # have an embedding of the segment, too
_BASE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": 12}
# Of the options of `model` that are downloaded, as their config.json says.
PUBLISHED: dict[str, dict[str, Any]] = {
    "bert_base": {"model_type": "bert", "vocab_size": 30522, **_BASE},
    "bert_large": {
        "model_type": "bert", "vocab_size": 30522, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096,
        "num_hidden_layers": 24,
    },
    "roberta_base": {
        "model_type": "roberta", "vocab_size": 50265, **_BASE, "max_position_embeddings": 514, "type_vocab_size": 1,
    },
    "distilbert": {
        "model_type": "distilbert", "vocab_size": 30522, "dim": 768, "n_heads": 12, "hidden_dim": 3072, "n_layers": 6,
    },
    "albert_base": {"model_type": "albert", "vocab_size": 30000, "embedding_size": 128, **_BASE},
    "minilm": {
        "model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536,
        "num_hidden_layers": 6,
    },
    "mpnet_base": {"model_type": "mpnet", "vocab_size": 30527, **_BASE, "max_position_embeddings": 514},
}  # fmt: skip


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
        return Architecture(config).encoder

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


@dataclass(frozen=True)
class Linear:
    """One linear layer: its shape, where it stands, and how often a sequence of S tokens goes through it."""

    outputs: int
    inputs: int
    part: str  # encoder | embedding (ALBERT's mapping) | head
    uses: int = 1  # of a layer that the encoder goes through several times

    def vectors(self, sequence: int) -> int:
        """Inputs that it sees of one sequence: all tokens in each use; in the head the first token's alone."""
        return 1 if self.part == "head" else sequence * self.uses


@dataclass(frozen=True)
class Architecture:
    """An encoder with a classification head.

    Args:
        config: Of the encoder, as config.json says; what it may leave out is filled in as transformers does.
        classes: Outputs of the head; 1 for regression.

    Raises:
        UserError: `model_type` is none of `KINDS`, or a size is missing.
    """

    config: Mapping[str, Any]
    classes: int = 2

    def __post_init__(self) -> None:
        kind = self.config.get("model_type")
        if kind not in KINDS:
            raise UserError(
                f"Argument `config` must be of an architecture whose layers are known ({', '.join(KINDS)}), "
                f"but is of {kind}. Add how it uses its layers to analog_glue/costs/architectures.py."
            )
        object.__setattr__(self, "config", LEFT_OUT[kind] | {k: v for k, v in self.config.items() if v is not None})

    @property
    def kind(self) -> str:
        return str(self.config["model_type"])

    def _size(self, name: str, of_distilbert: str = "") -> int:
        key = of_distilbert if of_distilbert and self.kind == "distilbert" else name
        size = self.config.get(key)
        if not isinstance(size, int) or size < 1:
            raise UserError(
                f"File `config.json` must say `{key}`, a whole number of at least 1, but says {size!r}. "
                "Name the folder of a model."
            )
        return size

    @cached_property
    def encoder(self) -> Encoder:
        inner = self._size("inner_group_num") if self.kind == "albert" else 1  # layers of a group, one after the other
        modules = self._size("num_hidden_groups") * inner if self.kind == "albert" else 0
        return Encoder(
            self._size("hidden_size", "dim"),
            self._size("intermediate_size", "hidden_dim"),
            self._size("num_hidden_layers", "n_layers") * inner,
            modules,
        )

    @cached_property
    def heads(self) -> int:
        """Of attention, in each layer."""
        return self._size("num_attention_heads", "n_heads")

    @cached_property
    def embedding(self) -> int:
        """Width of the embeddings."""
        return self._size("embedding_size") if self.kind == "albert" else self.encoder.hidden

    @cached_property
    def longest(self) -> int:
        """The longest sequence that there are position embeddings for [tokens]."""
        unused = int(self.config.get("pad_token_id", 1)) + 1 if self.kind in PADDED else 0
        return self._size("max_position_embeddings") - unused

    @cached_property
    def summed_embeddings(self) -> int:
        """Looked-up vectors that are added up for a token: word, position and, where there is one, segment."""
        return 3 if self.kind in SEGMENTED else 2

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Every linear layer by the name that it has in transformers, in the model's order."""
        return dict(self._linears())

    def _linears(self) -> Iterator[tuple[str, Linear]]:
        d, f, kind = self.encoder.hidden, self.encoder.intermediate, self.kind
        if kind == "albert":
            yield "albert.encoder.embedding_hidden_mapping_in", Linear(d, self.embedding, "embedding")
        attention, forward = NAMES[kind]
        modules = self.encoder.modules or self.encoder.layers
        shapes = [*((name, d, d) for name in attention), (forward[0], f, d), (forward[1], d, f)]
        for number in range(modules):
            for name, outputs, inputs in shapes:
                uses = self.encoder.layers // modules
                yield f"{self._layer(number)}.{name}", Linear(outputs, inputs, "encoder", uses)
        before, last = HEAD[kind]
        yield before, Linear(d, d, "head")
        yield last, Linear(self.classes, d, "head")

    def _layer(self, number: int) -> str:
        if self.kind == "albert":
            group, inner = divmod(number, self._size("inner_group_num"))
            return f"albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
        return f"{self.kind}.{'transformer' if self.kind == 'distilbert' else 'encoder'}.layer.{number}"

    @property
    def parameters(self) -> int | None:
        """All of them, the head included; None where config.json says nothing of a vocabulary."""
        if not isinstance(self.config.get("vocab_size"), int):
            return None
        e, d = self.embedding, self.encoder.hidden
        looked_up = self._size("vocab_size") + self._size("max_position_embeddings")
        looked_up += self._size("type_vocab_size") if self.kind in SEGMENTED else 0
        linear = sum(one.outputs * (one.inputs + 1) for one in self.linears.values())
        norms = 2 * e + 4 * d * (self.encoder.modules or self.encoder.layers)  # scales and shifts, two norms a layer
        relative = self._size("relative_attention_num_buckets") * self.heads if self.kind == "mpnet" else 0
        return looked_up * e + linear + norms + relative


# Attention and feed-forward of a layer, and the two layers of the head, by the names of transformers.
_BERT = (
    ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    ("intermediate.dense", "output.dense"),
)
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, str]]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "mpnet": (tuple(f"attention.attn.{name}" for name in "qkvo"), _BERT[1]),
    "albert": (tuple(f"attention.{name}" for name in ("query", "key", "value", "dense")), ("ffn", "ffn_output")),
    "distilbert": (tuple(f"attention.{name}_lin" for name in ("q", "k", "v", "out")), ("ffn.lin1", "ffn.lin2")),
}
HEAD = {
    "bert": ("bert.pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "mpnet": ("classifier.dense", "classifier.out_proj"),
    "albert": ("albert.pooler", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
}
ENCODERS = {name: Encoder.of(config) for name, config in PUBLISHED.items()}
