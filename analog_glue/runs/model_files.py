"""What the files of a model determine: its weights, its architecture and its tokenizer, as entries of a payload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from analog_glue.runs.fingerprint import LENGTH, canonical, fingerprint_of_file, fingerprint_of_parts

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"  # of weights in several files
OF_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "bpe.codes",
)  # fmt: skip
# Keys of config.json that say who made a model and what it is called, and those that a task or this package sets.
NAMES = frozenset({
    "_name_or_path", "name_or_path", "transformers_version", "torch_dtype", "dtype", "architectures", "_commit_hash",
    "id2label", "label2id", "num_labels", "_num_labels", "problem_type", "finetuning_task", "task_specific_params",
    "gradient_checkpointing", "use_cache", "output_attentions", "output_hidden_states", "return_dict",
    "_attn_implementation_autoset",
})  # fmt: skip
# Of tokenizer.json and tokenizer_config.json: names, and a length that every task sets itself.
NAMES_OF_TOKENIZER = frozenset({"name_or_path", "tokenizer_file", "transformers_version", "truncation", "padding"})
DROPOUT_FIELDS = ("dropout", "pdrop")  # how probabilities of dropout are called, in part: hidden_dropout_prob, attn_pdrop


def model_entries(folder: Path) -> dict[str, Any]:
    """ "model.weights", "model.tokenizer" and one "model.architecture.…" per key of config.json.

    Args:
        folder: Holds a complete model.
    """
    architecture = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return {
        "model.weights": fingerprint_of_weights(folder)[:LENGTH],
        "model.tokenizer": fingerprint_of_tokenizer(folder),
        **architecture_entries(architecture),
    }


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights, there or not: one, or those that the index of several names."""
    if (folder / WEIGHTS_FILE).is_file() or not (folder / INDEX_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    named = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"]
    return [folder / name for name in sorted(set(named.values()))]


def fingerprint_of_weights(folder: Path) -> str:
    """Of the one file that holds a model's weights, or of its parts in the order of their names."""
    prints = [fingerprint_of_file(file) for file in weight_files(folder)]
    return prints[0] if len(prints) == 1 else fingerprint_of_parts(prints)


def architecture_entries(config: dict[str, Any]) -> dict[str, Any]:
    """A model's configuration as entries of a payload."""
    return {f"model.architecture.{key}": value for key, value in sorted(architecture_of(config).items())}


def architecture_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a model's configuration says about the computation."""
    return {key: value for key, value in config.items() if key not in NAMES}


def fingerprint_of_tokenizer(folder: Path) -> str:
    """Of the files that a tokenizer is read from; of JSON, what it says."""
    parts: list[str | bytes] = []
    for name in OF_TOKENIZER:
        file = folder / name
        if not file.is_file():
            continue
        if file.suffix == ".json":
            said = json.loads(file.read_text(encoding="utf-8"))
            parts += [name, canonical({key: value for key, value in said.items() if key not in NAMES_OF_TOKENIZER})]
        else:
            parts += [name, file.read_bytes()]
    return fingerprint_of_parts(parts)


def same_network(made: Path, source: Path, dropout: float | None) -> bool:
    """Whether a checkpoint that version 0.1.0 saved can come from a model's files: architecture and tokenizer fit.

    Both are compared as the library reads them, since it rewrites either when it saves.

    Args:
        made: Folder of the checkpoint.
        source: Folder of the model that is asked for.
        dropout: The setting `model.dropout`.
    """
    from transformers import AutoConfig, AutoTokenizer

    def architecture(folder: Path) -> dict[str, Any]:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if dropout is not None:
            set_dropout(config, dropout)
        return architecture_of(config.to_dict())

    def tokenizer(folder: Path) -> str:
        read = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not read.is_fast:  # version 0.1.0 could not use it
            return ""
        compiled = read.backend_tokenizer
        compiled.no_padding()
        compiled.no_truncation()
        return str(compiled.to_str())

    return architecture(made) == architecture(source) and tokenizer(made) == tokenizer(source)


def set_dropout(config: Any, dropout: float) -> None:
    """Give every dropout of the network this probability, whatever its architecture calls them."""
    for name, value in config.to_dict().items():
        probability = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        if probability and any(part in name for part in DROPOUT_FIELDS):
            setattr(config, name, dropout)
