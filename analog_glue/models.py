"""Encoders with a classification head: from the hub, from a local folder, made on the spot, or from a
checkpoint.

All come out as plain Hugging Face `*ForSequenceClassification` models: float32 master weights, attention fused by torch where
the architecture has that and written out elsewhere, eval mode. Whatever is newly drawn (a head, a whole tiny encoder) depends
on the seed alone and leaves torch's global random state as it was.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analog_glue import seeding
from analog_glue.classes import fit_head, name_classes, output_layer
from analog_glue.errors import UserError, require_argument
from analog_glue.runs.files import named_in_errors, read_json
from analog_glue.runs.model_files import (
    CONFIG_FILE,
    DROPOUT_FIELDS,
    INDEX_FILE,
    WEIGHTS_FILE,
    architecture_of,
    set_dropout,
    weight_files,
)
from analog_glue.runs.own_files import require_own
from analog_glue.settings import without_tilde

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")  # any one of them
# Architectures that initialise a new head as BERT does. Others (ModernBERT) have a law for each of its layers.
HEADS_OF_ONE_LAW = frozenset({
    "albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "gpt2", "mobilebert", "mpnet",
    "roberta", "roformer", "squeezebert", "xlm-roberta", "xlnet",
})  # fmt: skip
PICKLED_FILE = "pytorch_model.bin"
POSITION_EMBEDDINGS = ("position_embeddings", "embed_positions", "wpe")  # modules of BERT and the like, RoFormer, GPT-2
HUB_FILES = (
    CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, "model-*-of-*.safetensors", *TOKENIZER_FILES,
    "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to train, its tokenizer and their source: a path as the user wrote it or id@revision."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    remark: str = ""  # what became of a head that the files hold, where there is anything to say
    has_new_head: bool = True  # its last layer is drawn, not read


@dataclass(frozen=True)
class PretrainedModel:
    """A pretrained encoder of the hub, or of a local folder (`path`) in the same form; safetensors only."""

    name: str  # hub id
    revision: str  # commit, branch or tag of the hub
    short: str  # name in tables
    path: str | None = None  # local folder; the hub is then never asked
    dropout: float | None = None  # probability of every dropout of the network; None keeps the checkpoint's own

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", without_tilde(self.path))
        _check_dropout(self.dropout)

    def check(self) -> None:
        """Raises UserError within two seconds where `load` would not find its files. Imports no torch."""
        if self.path is not None:
            _check_folder(Path(self.path), "model.path")
            return
        from analog_glue.hub import in_cache, require_answer

        if in_cache(self.name, "model", self.revision, _is_complete) is None:
            require_answer(self.name, "model", _ADVICE)

    def kind(self) -> str | None:
        """The architecture, as its `model_type` says; None where only a download could tell."""
        folder: Path | None
        if self.path is not None:
            folder = Path(self.path)
        else:
            from analog_glue.hub import in_cache

            folder = in_cache(self.name, "model", self.revision, _is_complete)
        return None if folder is None else json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")).get("model_type")

    def folder(self) -> Path:
        """The folder of the model's files, which are downloaded unless they are there.

        Raises:
            UserError: Files are missing or incomplete, or the hub does not answer.
        """
        if self.path is not None:
            _check_folder(Path(self.path), "model.path")
            return Path(self.path)
        from analog_glue.hub import fetch

        return fetch(self.name, "model", self.revision, HUB_FILES, _is_complete, _ADVICE)

    def load(
        self, num_labels: int, seed: int, texts: Sequence[tuple[str, ...]] | None = None, classes: Sequence[str] = ()
    ) -> LoadedModel:
        """The encoder with a head of `num_labels` outputs (1: regression).

        A head that the folder holds is kept where it has these classes, in whatever order; otherwise a new one is drawn from
        the seed.

        Args:
            texts: Not used; a model made on the spot takes its vocabulary from them.
            classes: Names of the outputs. None: those of a head in the folder are not looked at.

        Raises:
            UserError: Files are missing or incomplete, or the hub does not answer.
        """
        folder = self.folder()
        source = self.path or f"{self.name}@{self.revision}"
        model, remark, new = _with_head(folder, num_labels, self.dropout, "model.path", seed, classes)
        return LoadedModel(model, _tokenizer(folder, model), source, remark, new)


@dataclass(frozen=True)
class TinyModel:
    """A small BERT with random weights and a vocabulary of whole words, both made on the spot."""

    hidden: int  # width of the residual stream
    layers: int
    heads: int
    intermediate: int  # width of the feed-forward layer
    vocabulary_size: int  # most words kept, the most frequent ones; special tokens included
    dropout: float  # probability
    short: str = "tiny"

    def __post_init__(self) -> None:
        for key in ("hidden", "layers", "heads", "intermediate"):
            require_argument(getattr(self, key) >= 1, key, "be at least 1", getattr(self, key))
        whole = self.hidden % self.heads == 0
        require_argument(whole, "hidden", f"be a multiple of `heads` = {self.heads}", self.hidden)
        special = len(SPECIAL_TOKENS)
        exceeds = self.vocabulary_size > special
        require_argument(exceeds, "vocabulary_size", f"exceed the {special} special tokens", self.vocabulary_size)
        _check_dropout(self.dropout)

    def check(self) -> None:
        """Nothing to find: the model is made here."""

    def kind(self) -> str:
        """See `PretrainedModel.kind`."""
        return "bert"

    def folder(self) -> None:
        """There are no files."""

    def load(
        self, num_labels: int, seed: int, texts: Sequence[tuple[str, ...]] | None = None, classes: Sequence[str] = ()
    ) -> LoadedModel:
        """A new model of `num_labels` outputs (1: regression).

        Args:
            texts: Training sentences; their words are the vocabulary.
            classes: Names of the outputs.
        """
        if not texts:
            raise ValueError("Argument `texts` must hold the training sentences, but is empty.")
        from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

        vocabulary = _vocabulary(texts, self.vocabulary_size)
        tokenizer = BertTokenizer(vocab=vocabulary)
        head: dict[str, Any] = {"num_labels": num_labels, "problem_type": _problem_type(num_labels)}  # of any model
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            pad_token_id=vocabulary["[PAD]"],
            **head,
        )
        name_classes(config, classes)
        with _seeded(seed, "tiny model"):
            model = BertForSequenceClassification._from_config(config, attn_implementation=attention_of(config))
        return LoadedModel(model.float().eval(), tokenizer, "made on the spot")


def attention_of(config: PreTrainedConfig) -> Literal["sdpa", "eager"]:
    """How an architecture computes attention: fused in torch, or written out where its class knows no other way.

    Only these two names are safe everywhere: architectures that write attention out (MPNet, RoFormer, ConvBERT,
    SqueezeBERT, …) take any other name without a word and then lose their padding mask.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    kind: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    return "sdpa" if kind._supports_sdpa else "eager"


def positions_of(model: PreTrainedModel) -> int | None:
    """The longest text that the model has position embeddings for [tokens]; None where positions are relative only."""
    from torch.nn import Embedding

    for name, module in model.named_modules():
        if isinstance(module, Embedding) and name.rpartition(".")[2] in POSITION_EMBEDDINGS:
            # RoBERTa and MPNet count from behind the number of the padding token.
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return None


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes configuration, tokenizer and weights (safetensors) into `folder`, each file atomically, weights
    last.

    A process killed in between leaves the old files or the new ones, never half of one. Plain Hugging Face
    names: `AutoModelForSequenceClassification.from_pretrained(folder)` reads it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for remains in folder.glob(".saving-*"):  # of a process killed while saving
        shutil.rmtree(remains)
    # Beside the target, on the same file system, so that each rename is atomic.
    scratch_folder = tempfile.TemporaryDirectory(dir=folder, prefix=".saving-")
    with named_in_errors(folder), scratch_folder as scratch, _quiet():
        model.save_pretrained(scratch, max_shard_size="1000GB")  # one file, whatever the size
        tokenizer.save_pretrained(scratch)
        for file in sorted(Path(scratch).iterdir(), key=lambda file: (file.name == WEIGHTS_FILE, file.name)):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
            os.replace(file, folder / file.name)


def start_from(loaded: LoadedModel, folder: Path, seed: int, classes: Sequence[str]) -> LoadedModel:
    """`loaded` with the weights of the training run in `folder`, in place; its head as `PretrainedModel.load` says.

    Raises:
        UserError: the run is one of another encoder, or of another vocabulary, or its files are not those it wrote.
    """
    _check_folder(folder, "training.start_from")
    require_own(folder, "training.start_from")
    model, remark, new = _with_head(folder, len(classes) or 1, None, "training.start_from", seed, classes)
    theirs, ours = (_encoder_entries(one.config.to_dict()) for one in (model, loaded.model))
    if other := sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)):
        key = "model_type" if "model_type" in other else other[0]
        raise UserError(
            f"Setting `training.start_from` must be a run of the encoder that `model` names, "
            f"but {key} is {theirs.get(key)} in {folder} and {ours.get(key)} in {loaded.source}."
        )
    if _tokenizer(folder, model).get_vocab() != loaded.tokenizer.get_vocab():
        raise UserError(
            f"Setting `training.start_from` must be a run with the vocabulary of `model`, but that of {folder} has other words "
            f"than that of {loaded.source}. Models made on the spot take the words of their task: start from a run of it."
        )
    loaded.model.load_state_dict(model.state_dict())
    return replace(loaded, remark=remark, has_new_head=new)


def load_checkpoint_model(folder: Path) -> LoadedModel:
    """What `save_model` wrote, head included. Other tensors in the file (say, of analog layers) are left
    alone.

    Raises:
        UserError: A file is missing or not the one that the run wrote, or the weights of a layer are missing.
    """
    _check_folder(folder, "checkpoint")
    require_own(folder, "checkpoint")
    model, new = _from_folder(folder, None, None, "checkpoint", 0)
    if new:
        raise UserError(f"Setting `checkpoint` must lead to a complete model, but {folder} lacks {sorted(new)[:5]}.")
    return LoadedModel(model, _tokenizer(folder, model), str(folder))


_ADVICE = f"Set `model.path=FOLDER` to a local copy, where FOLDER holds {CONFIG_FILE}, {WEIGHTS_FILE} and tokenizer.json."
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def _check_dropout(dropout: float | None) -> None:
    known = dropout is None or 0.0 <= dropout < 1.0
    require_argument(known, "dropout", "lie in [0, 1) or be null", dropout)


def _missing_files(folder: Path) -> list[str]:
    missing = [file.name for file in (folder / CONFIG_FILE, *weight_files(folder)) if not file.is_file()]
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        missing.append(TOKENIZER_FILES[0])
    return missing


def _is_complete(folder: Path) -> bool:
    return not _missing_files(folder)


def _check_folder(folder: Path, setting: str) -> None:
    if not folder.is_dir():
        raise UserError(f"Setting `{setting}` must be a folder that holds a model, but {folder} does not exist.")
    if missing := _missing_files(folder):
        raise UserError(
            f"Setting `{setting}` must be a folder with {CONFIG_FILE}, {WEIGHTS_FILE} and a tokenizer, "
            f"but {folder} lacks {' and '.join(missing)}.{_conversion(folder) if WEIGHTS_FILE in missing else ''}"
        )
    if code := _code_of_its_own(folder):
        raise UserError(
            f"Setting `{setting}` must be a folder whose model transformers knows, but {folder} names code of its own: {code}. "
            "Code that comes with a model is never run here. Choose another model."
        )


def _code_of_its_own(folder: Path) -> str:
    """What a folder wants to be run for its architecture or its tokenizer, where the library has no class for it; else ""."""
    for name, kinds in ((CONFIG_FILE, ("AutoConfig", "AutoModel")), ("tokenizer_config.json", ("AutoTokenizer",))):
        said = read_json(folder / name)
        named = said.get("auto_map")
        if not isinstance(named, dict) or not any(str(kind).startswith(kinds) for kind in named):
            continue
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        kind = read_json(folder / CONFIG_FILE).get("model_type")
        if kind not in CONFIG_MAPPING_NAMES:
            return f"`auto_map` in {name}, model_type {kind}"
    return ""


def _conversion(folder: Path) -> str:
    """How weights that lie there as a pickle, which may run any code when it is read, become safetensors."""
    if not (folder / PICKLED_FILE).is_file():
        return ""
    return (
        f" {PICKLED_FILE} is a pickle, which is not read here. In that folder, this converts it without running its code: "
        'python -c "import torch, safetensors.torch as s; '
        f"w = torch.load('{PICKLED_FILE}', map_location='cpu', weights_only=True); "
        f"s.save_file({{k: v.clone().contiguous() for k, v in w.items()}}, '{WEIGHTS_FILE}', metadata={{'format': 'pt'}})\""
    )


def _problem_type(num_labels: int) -> str:
    return "regression" if num_labels == 1 else "single_label_classification"


def _from_folder(
    folder: Path, num_labels: int | None, dropout: float | None, setting: str, seed: int
) -> tuple[PreTrainedModel, set[str]]:
    """The model of a folder, and the parameters that the folder does not hold in the right shape.

    Those are as the architecture itself initialises them, drawn from (seed, "new parameters").
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if num_labels is not None:
        # Set before the weights are read; the setter also drops the class names of another task.
        config.num_labels = num_labels
        config.problem_type = _problem_type(num_labels)
    if dropout is not None:
        set_dropout(config, dropout)
    with _quiet(), _seeded(seed, "new parameters"):  # what is missing is initialised from the global generator
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,  # not the checkpoint's own: these are master weights
            attn_implementation=attention_of(config),
            local_files_only=True,
            trust_remote_code=False,  # None would ask on a terminal
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    new = set(report["missing_keys"]) | {name for name, *_ in report["mismatched_keys"]}
    _check_every_dropout(model, dropout)
    encoder = model.base_model_prefix + "."
    if lost := sorted(name for name in new if name.startswith(encoder) and ".pooler" not in name):
        files = weight_files(folder)
        raise UserError(
            f"Setting `{setting}` must lead to a complete {config.model_type} encoder, "
            f"but {files[0] if len(files) == 1 else folder} lacks {len(lost)} of its tensors, {lost[0]} for one."
        )
    return model.eval(), new


def _with_head(
    folder: Path, num_labels: int, dropout: float | None, setting: str, seed: int, classes: Sequence[str]
) -> tuple[PreTrainedModel, str, bool]:
    """The model of a folder with the head of a task, what to say of a head that the folder holds, whether it is a new one."""
    from transformers import AutoConfig

    theirs: dict[int, str] = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).id2label or {}
    model, new = _from_folder(folder, num_labels, dropout, setting, seed)
    head = output_layer(model)
    of_head = {f"{head[0]}.{name}" for name, _ in head[1].named_parameters()} if head else set()
    remark, fits = "", True
    if not of_head & new:
        remark, fits = fit_head(model, theirs, classes)
    elif len(theirs) != num_labels and not of_head & _absent(folder, of_head):
        remark = f"its head is drawn anew: it has {len(theirs)} outputs, but the task {num_labels}"
    if head and not fits:
        _initialise(model, head[0], seed)
    _draw_head(model, new if fits else new | of_head, seed)
    name_classes(model.config, classes)
    return model, f"{folder}: {remark}" if remark else "", not fits or bool(of_head & new)


def _initialise(model: PreTrainedModel, layer: str, seed: int) -> None:
    """Draw a layer again as the architecture initialises it."""
    from transformers import AutoModelForSequenceClassification

    with _quiet(), _seeded(seed, "new parameters"):
        new = AutoModelForSequenceClassification.from_config(model.config, attn_implementation=attention_of(model.config))
    model.get_submodule(layer).load_state_dict(new.get_submodule(layer).state_dict())


def _absent(folder: Path, names: set[str]) -> set[str]:
    """Those tensors that the files of a folder do not hold."""
    from safetensors import safe_open

    held: set[str] = set()
    for file in weight_files(folder):
        with safe_open(file, "pt") as opened:
            held |= set(opened.keys())
    return names - held


def _encoder_entries(config: dict[str, Any]) -> dict[str, Any]:
    """What two models must have in common for the weights of one to be those of the other."""
    entries = architecture_of(config)
    return {key: value for key, value in entries.items() if not any(part in key for part in DROPOUT_FIELDS)}


def _check_every_dropout(model: PreTrainedModel, dropout: float | None) -> None:
    """Raises UserError where a dropout of the network has not the probability that was asked for."""
    from torch.nn import Dropout

    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, Dropout)}
    other = sorted(name for name, rate in rates.items() if dropout is not None and rate != dropout)
    if other:
        raise UserError(
            f"Setting `model.dropout` must reach every dropout of the network, but {other[0]} of {model.config.model_type} "
            f"stays at {rates[other[0]]:g}. Leave it null and set the probabilities in {CONFIG_FILE}."
        )


def _draw_head(model: PreTrainedModel, names: set[str], seed: int) -> None:
    """Draws the linear layers among the parameters `names` again, where they are to be N(0, `initializer_range`)
    with zero biases.

    One stream per parameter, so the draw depends neither on order nor on how the library draws.
    """
    import torch

    if model.config.model_type not in HEADS_OF_ONE_LAW:
        return
    with torch.no_grad():
        for name in names:
            if not isinstance(model.get_submodule(name.rpartition(".")[0]), torch.nn.Linear):
                continue
            parameter = model.get_parameter(name)
            if parameter.dim() == 1:
                parameter.zero_()
            else:
                parameter.normal_(0.0, model.config.initializer_range, generator=seeding.generator(seed, "head", name))


def _tokenizer(folder: Path, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, told whether this encoder has segment embeddings and where it is padded.

    The library's list is by tokenizer class, and wrong for ALBERT, which has two segments.
    """
    from transformers import AutoTokenizer

    with _quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    accepted = inspect.signature(model.forward).parameters
    segments = "token_type_ids" in accepted and getattr(model.config, "type_vocab_size", 0) > 1
    tokenizer.model_input_names = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    # XLNet's head reads the last position, where a text must therefore end.
    reads_last = hasattr(model, "sequence_summary") and model.config.summary_type == "last"
    tokenizer.padding_side = "left" if reads_last else "right"
    return tokenizer


def _vocabulary(texts: Sequence[tuple[str, ...]], size: int) -> dict[str, int]:
    """The `size` most frequent words, as BERT's own tokenizer separates them; ties in alphabetical order."""
    from transformers import BertTokenizer

    compiled = BertTokenizer(vocab={token: i for i, token in enumerate(SPECIAL_TOKENS)}).backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        for sentence in text:
            normal = compiled.normalizer.normalize_str(sentence)
            counts.update(word for word, _ in compiled.pre_tokenizer.pre_tokenize_str(normal))
    words = sorted(counts, key=lambda word: (-counts[word], word))[: size - len(SPECIAL_TOKENS)]
    return {token: i for i, token in enumerate((*SPECIAL_TOKENS, *words))}


@contextlib.contextmanager
def _seeded(*parts: str | int) -> Iterator[None]:
    """Torch's global generator seeded with the stream `parts` inside, and as it was before outside."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seeding.key(*parts))
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's progress bars and table of missing weights: a new head is meant to be missing."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
