"""Tasks: the eight of GLUE from every layout of their files, the official scores, and batches."""

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from analog_glue.tasks.demo import ADJECTIVES, ASPECTS, MODIFIERS, THRESHOLDS, DemoTask
from analog_glue.tasks.glue import HUB_REPOSITORY, HUB_REVISION, GlueTask
from analog_glue.tasks.task import RawData, Split, encode, evaluation_batches, training_batches

REPO = Path(__file__).parents[2]
REAL_GLUE = REPO.parent / "shared" / "data" / "glue"

# Column names and classes as the hub's files have them, and the metrics of the GLUE paper's Table 1;
# the headline is the metric that Spoon et al. (2021) report.
SENTENCES = {
    "cola": ["sentence"],
    "sst2": ["sentence"],
    "mrpc": ["sentence1", "sentence2"],
    "qqp": ["question1", "question2"],
    "stsb": ["sentence1", "sentence2"],
    "mnli": ["premise", "hypothesis"],
    "qnli": ["question", "sentence"],
    "rte": ["sentence1", "sentence2"],
}
CLASSES = {
    "cola": ["unacceptable", "acceptable"],
    "sst2": ["negative", "positive"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qqp": ["not_duplicate", "duplicate"],
    "stsb": [],
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
}
METRICS = {
    "cola": {"matthews"},
    "sst2": {"accuracy"},
    "mrpc": {"f1", "accuracy"},
    "qqp": {"f1", "accuracy"},
    "stsb": {"pearson", "spearman"},
    "mnli": {"accuracy"},
    "qnli": {"accuracy"},
    "rte": {"accuracy"},
}
HEADLINE = dict.fromkeys(METRICS, "accuracy") | {"cola": "matthews", "mrpc": "f1", "stsb": "spearman"}
TASKS = list(SENTENCES)
LAYOUTS = ["{split}.parquet", "{split}-00000-of-00001.parquet", "{split}/0000.parquet"]


def glue(task: str, **changes) -> GlueTask:
    """The task as its yaml has it."""
    fields = yaml.safe_load((REPO / "conf" / "task" / f"{task}.yaml").read_text())
    assert fields.pop("_target_") == "analog_glue.tasks.glue.GlueTask"
    return GlueTask(**(fields | changes))


def validation_splits(name: str) -> list[str]:
    return ["validation_matched", "validation_mismatched"] if name == "mnli" else ["validation"]


def table(name: str, split: str, n: int, label: int | float | None = None) -> pa.Table:
    """`n` rows with the columns, types and metadata of the hub's files."""
    classes = CLASSES[name]
    labels = [(i % len(classes) if classes else 5.0 * i / n) if label is None else label for i in range(n)]
    columns = {c: [f"{split} {c} number {i} speaks ." for i in range(n)] for c in SENTENCES[name]}
    data = pa.table(
        columns
        | {
            "label": pa.array(labels, pa.int64() if classes else pa.float32()),
            "idx": pa.array(range(n), pa.int32()),
        }
    )
    label = {"names": list(classes), "_type": "ClassLabel"} if classes else {"dtype": "float32", "_type": "Value"}
    features = {c: {"dtype": "string", "_type": "Value"} for c in columns}
    features |= {"label": label, "idx": {"dtype": "int32", "_type": "Value"}}
    return data.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


# Cells of a parquet string that are not UTF-8, as a program that copies bytes leaves them.
LATIN = pa.array([b"good", b"fine", b"caf\xe9", *[b"well"] * 9], pa.binary())


def other(data: pa.Table, number: int, column: pa.Array) -> pa.Table:
    """`data` with another column in the place of one, without the types that the hub's files tell."""
    return data.set_column(number, data.column_names[number], column).replace_schema_metadata(None)


def write(root: Path, name: str, layout: str) -> Path:
    """All splits of a task under `root`, the test split with its hidden labels too."""
    for split in ("train", *validation_splits(name), "test"):
        file = root / name / layout.format(split=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        n = 12 if split == "train" else 6
        pq.write_table(table(name, split, n, label=-1 if split == "test" else None), file)
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_every_layout_without_a_network(name, layout, tmp_path, no_network):
    task = glue(name)
    task.check(str(write(tmp_path, name, layout)))
    raw = task.load(str(tmp_path))
    assert len(raw.train) == 12 and list(raw.validation) == validation_splits(name)
    assert raw.source == f"{tmp_path}/{name}"
    for split, data in {"train": raw.train, **raw.validation}.items():
        expected = table(name, split, len(data))
        assert data.texts[2] == tuple(expected.column(c)[2].as_py() for c in SENTENCES[name])
        assert data.labels == expected.column("label").to_pylist()


def test_one_data_root_may_hold_glue_beside_the_data_of_other_tasks(tmp_path, no_network):
    write(tmp_path / "glue", "mrpc", LAYOUTS[0])
    glue("mrpc").check(str(tmp_path))
    below, above = (glue("mrpc").load(str(root)) for root in (tmp_path / "glue", tmp_path))
    assert above.fingerprint == below.fingerprint and above.source == f"{tmp_path}/glue/mrpc"
    with pytest.raises(ValueError, match=r"`data\.root` must hold a folder rte or glue/rte"):
        glue("rte").check(str(tmp_path))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_encodes_and_scores_its_own_labels_as_perfect(name, tmp_path, word_tokenizer):
    task = glue(name)
    raw = task.load(str(write(tmp_path, name, LAYOUTS[0])))
    assert task.num_labels == (len(CLASSES[name]) or 1) and task.headline == HEADLINE[name]
    scores = {}
    for split, data in raw.validation.items():
        encoded = encode(data, word_tokenizer(raw.train.texts), task.max_length, task.num_labels)
        labels = encoded.batch(range(len(encoded)))["labels"].numpy()
        assert labels.dtype == (np.int64 if CLASSES[name] else np.float32)
        logits = np.eye(task.num_labels)[labels] if CLASSES[name] else 3.0 * labels[:, None] - 1.0
        scores |= task.score(split, logits, labels)
    expected = METRICS[name] | ({"accuracy_mismatched"} if name == "mnli" else set())
    assert scores == {metric: pytest.approx(100.0) for metric in expected}


def test_the_same_data_have_one_fingerprint_in_every_layout_and_another_one_when_a_label_changes(tmp_path):
    prints = set()
    for i, layout in enumerate(LAYOUTS):
        prints.add(glue("mnli").load(str(write(tmp_path / str(i), "mnli", layout))).fingerprint)
    assert len(prints) == 1
    pq.write_table(table("mnli", "train", 12, label=1), tmp_path / "0" / "mnli" / "train.parquet")
    assert glue("mnli").load(str(tmp_path / "0")).fingerprint not in prints


def test_shards_are_read_in_order_and_a_missing_one_is_an_error(tmp_path):
    write(tmp_path, "rte", LAYOUTS[1])
    folder = tmp_path / "rte"
    (folder / "train-00000-of-00001.parquet").unlink()
    pq.write_table(table("rte", "second", 3), folder / "train-00001-of-00002.parquet")
    with pytest.raises(ValueError, match="lacks train"):
        glue("rte").load(str(tmp_path))
    pq.write_table(table("rte", "first", 4), folder / "train-00000-of-00002.parquet")
    texts = glue("rte").load(str(tmp_path)).train.texts
    assert [text[0].split()[0] for text in texts] == ["first"] * 4 + ["second"] * 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.slice(0, 0), "must hold examples"),
        (
            lambda t: t.rename_columns(["sentence1", "text", "label", "idx"]).replace_schema_metadata({}),
            r"lacks \['sentence2'\]",
        ),
        (lambda t: table("mrpc", "train", 4, label=-1), "hidden ones: a test split cannot be scored"),
        (lambda t: table("mrpc", "train", 4, label=2), r"labels 0 … 1, but has \[2\]"),
        (lambda t: t.set_column(0, "sentence1", pa.nulls(len(t), pa.string())), "empty cells"),
        (
            lambda t: t.replace_schema_metadata(
                {b"huggingface": t.schema.metadata[b"huggingface"].replace(b"not_equivalent", b"yes")}
            ),
            "must number its classes",
        ),
        (lambda t: other(t, 0, LATIN.view(pa.string())), r"UTF-8, but column sentence1, row 2 .* byte b'\\xe9' at position 3"),
        (lambda t: other(t, 0, LATIN), "UTF-8, but column sentence1, row 2"),
        (lambda t: other(t, 1, pa.array(range(12))), "text in the column sentence2, but holds int64"),
        (lambda t: other(t, 1, pa.array([["a"]] * 12)), "text in the column sentence2, but holds list"),
        (lambda t: other(t, 2, pa.array(["yes"] * 12)), "numbers in the column label, but holds string"),
    ],
)
def test_unusable_files_are_refused_with_their_name(damage, message, tmp_path):
    write(tmp_path, "mrpc", LAYOUTS[0])
    file = tmp_path / "mrpc" / "train.parquet"
    pq.write_table(damage(pq.read_table(file)), file)
    with pytest.raises(ValueError, match=message) as failure:
        glue("mrpc").load(str(tmp_path))
    assert str(file) in str(failure.value)


def test_bytes_that_are_text_are_read_as_text(tmp_path):
    write(tmp_path, "mrpc", LAYOUTS[0])
    before = glue("mrpc").load(str(tmp_path))
    for file in (tmp_path / "mrpc").glob("*.parquet"):
        columns = pq.read_table(file)
        for number in (0, 1):
            kind = pa.binary() if number else pa.large_string()
            columns = other(columns, number, columns.column(number).cast(kind))
        pq.write_table(columns, file)
    after = glue("mrpc").load(str(tmp_path))
    assert after.train == before.train and after.fingerprint == before.fingerprint


def test_a_file_that_was_replaced_is_read_anew_whatever_its_time_says(tmp_path):
    root = str(write(tmp_path, "mrpc", LAYOUTS[0]))
    file = tmp_path / "mrpc" / "train.parquet"
    before = glue("mrpc").load(root)
    time_of_file = file.stat().st_mtime_ns
    pq.write_table(table("mrpc", "train", 50), file)
    os.utime(file, ns=(time_of_file, time_of_file))
    after = glue("mrpc").load(root)
    assert (len(before.train), len(after.train)) == (12, 50)
    assert after.fingerprint != before.fingerprint


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    write(tmp_path, "mrpc", LAYOUTS[0])
    (tmp_path / "mrpc" / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="must be a parquet file"):
        glue("mrpc").load(str(tmp_path))


@pytest.mark.parametrize("action", ["check", "load"])
def test_a_missing_folder_names_the_setting_and_the_layout(action, tmp_path, no_network):
    with pytest.raises(ValueError, match=r"Setting `data.root` .*has neither.* SPLIT\.parquet"):
        getattr(glue("mrpc"), action)(str(tmp_path / "nowhere"))
    (tmp_path / "mrpc").mkdir()
    with pytest.raises(ValueError, match="lacks train and validation"):
        getattr(glue("mrpc"), action)(str(tmp_path))


@pytest.mark.parametrize("action", ["check", "load"])
def test_without_network_and_folder_a_task_fails_at_once_and_names_the_setting(action, offline):
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"cannot be reached.*Set `data\.root=FOLDER`.*SPLIT/0000\.parquet"):
        getattr(glue("mnli"), action)(None)
    assert time.monotonic() - start < 2.0  # [s]


@pytest.mark.slow
def test_a_hub_that_never_answers_costs_less_than_two_seconds(silent_hub):
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"did not answer within|timed out"):
        glue("mrpc").load(None)
    assert time.monotonic() - start < 2.0  # [s]


def test_offline_mode_is_named_as_the_reason(offline, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE forbids"):
        glue("mrpc").load(None)


def test_hub_files_are_downloaded_once_and_then_read_without_a_network(hub_server, use_hub, tmp_path):
    source = write(tmp_path / "hub", "mnli", LAYOUTS[1])
    asked = hub_server(source, "datasets", HUB_REPOSITORY, HUB_REVISION)
    task = glue("mnli")
    task.check(None)
    raw = task.load(None)
    assert raw.source == f"{HUB_REPOSITORY}@{HUB_REVISION}/mnli"
    assert raw.fingerprint == task.load(str(source)).fingerprint
    assert not any("test-" in path for path in asked)  # hidden labels are not even downloaded
    use_hub()
    task.check(None)
    assert task.load(None).fingerprint == raw.fingerprint
    with pytest.raises(ValueError, match="cannot be reached"):  # another task of the same cached revision
        glue("rte").load(None)


def test_files_that_the_hub_does_not_have_are_reported_with_the_way_out(hub_server, tmp_path):
    hub_server(write(tmp_path / "hub", "mnli", LAYOUTS[1]), "datasets", HUB_REPOSITORY, HUB_REVISION)
    with pytest.raises(ValueError, match=r"lacks files this program needs.*data\.root"):
        glue("rte").load(None)
    hub_server(tmp_path / "hub", "datasets", HUB_REPOSITORY, "0" * 40)
    with pytest.raises(ValueError, match=r"could not be downloaded: .*404.*data\.root"):
        glue("mnli").load(None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headline": "accurracy"}, r"`headline` must be one of .*, but is 'accurracy'"),
        ({"metrics": ["pearson"]}, r"`metrics` must name metrics of classes"),
        ({"name": "../mrpc"}, r"`name`"),
        ({"max_length": 2}, r"`max_length` must be at least 8 tokens, but is 2"),
        ({"sentence_columns": []}, r"`sentence_columns`"),
        ({"labels": ["one"]}, r"`labels`"),
        ({"labels": ["a", "b", "c"]}, r"f1, which needs two classes"),
        ({"validation_splits": ["test"]}, r"`validation_splits` .* hidden"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        glue("mrpc", **changes)


# ---------------------------------------------------------------------------------------------- scores


def test_f1_and_accuracy_follow_from_the_four_counts():
    # 3 true positives, 2 false positives, 1 false negative, 4 true negatives.
    predictions = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    labels = np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    scores = glue("mrpc").score("validation", np.eye(2)[predictions], labels)
    assert scores["f1"] == pytest.approx(100 * 2 * 3 / (2 * 3 + 2 + 1))
    assert scores["accuracy"] == pytest.approx(70.0)
    matthews = glue("cola").score("validation", np.eye(2)[predictions], labels)["matthews"]
    assert matthews == pytest.approx(100 * (3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5))


def test_correlations_follow_from_their_definitions_with_ties():
    grades = np.array([0.0, 1.0, 1.0, 3.0, 5.0])
    outputs = np.array([0.1, 0.4, 0.3, 0.3, 9.0])
    scores = glue("stsb").score("validation", outputs[:, None], grades)

    def correlation(a, b):
        a, b = a - a.mean(), b - b.mean()
        return 100 * (a @ b) / math.sqrt((a @ a) * (b @ b))

    ranks_of_grades = np.array([1, 2.5, 2.5, 4, 5])
    ranks_of_outputs = np.array([1, 4, 2.5, 2.5, 5])
    assert scores["pearson"] == pytest.approx(correlation(outputs, grades))
    assert scores["spearman"] == pytest.approx(correlation(ranks_of_outputs, ranks_of_grades))


def test_logits_that_are_not_finite_or_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="finite"):
        glue("mrpc").score("validation", np.array([[0.0, np.nan]]), np.array([1]))
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        glue("mrpc").score("validation", np.zeros((2, 3)), np.array([1, 0]))


def test_majority_answers_the_most_frequent_training_class_or_the_mean_grade():
    # 2 of 3 training examples are positive; 5 of 8 validation examples are.
    train = Split([("a", "b")] * 3, [1, 0, 1])
    raw = RawData(train, {"validation": Split([("a", "b")] * 8, [1, 1, 1, 1, 1, 0, 0, 0])}, "here")
    scores = glue("mrpc").majority(raw)["validation"]
    assert scores == {"accuracy": pytest.approx(62.5), "f1": pytest.approx(100 * 10 / 13)}
    graded = RawData(Split(train.texts, [0.0, 2.5, 5.0]), {"validation": Split(train.texts, [1.0, 2.0, 3.0])}, "here")
    assert all(math.isnan(score) for score in glue("stsb").majority(graded)["validation"].values())


# ---------------------------------------------------------------------------------------------- batches


@pytest.fixture
def reviews(word_tokenizer):
    split = DemoTask(train_size=50, validation_size=10).load(None).train
    return encode(split, word_tokenizer(split.texts), 64, 5)


@pytest.mark.parametrize("budget", [1, 40, 100, 4096])
def test_evaluation_batches_hold_every_example_once_within_the_token_budget(reviews, budget):
    batches = evaluation_batches(reviews, budget)
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(50))
    assert (np.diff(reviews.lengths[order]) >= 0).all()
    for batch in batches:
        assert reviews.batch(batch)["input_ids"].numel() <= budget or len(batch) == 1
    assert batches == evaluation_batches(reviews, budget)


def test_training_order_is_a_function_of_seed_and_epoch_alone():
    first = training_batches(103, 8, seed=3, epoch=2)
    torch.manual_seed(99)
    torch.rand(5)
    assert training_batches(103, 8, seed=3, epoch=2) == first
    assert sorted(i for batch in first for i in batch) == list(range(103))
    assert [len(batch) for batch in first] == [8] * 12 + [7]
    others = [training_batches(103, 8, seed=3, epoch=3), training_batches(103, 8, seed=4, epoch=2)]
    assert first not in others and others[0] != others[1]


def test_a_batch_pads_to_its_longest_example_and_masks_the_padding(word_tokenizer):
    split = Split([("one two three", "four"), ("one", "two")], [0, 1])
    tokenizer = word_tokenizer(split.texts)
    batch = encode(split, tokenizer, 128, 2).batch([1, 0])
    one, two, three, four, cls, sep = tokenizer.convert_tokens_to_ids(["one", "two", "three", "four", "[CLS]", "[SEP]"])
    assert batch["input_ids"].tolist() == [
        [cls, one, sep, two, sep, 0, 0],
        [cls, one, two, three, sep, four, sep],
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]]
    assert batch["labels"].tolist() == [1, 0]


def test_encoding_agrees_with_the_tokenizers_own_call_and_leaves_it_unchanged(word_tokenizer):
    words = "one two three four five six seven eight nine ten".split()
    split = Split([(" ".join(words[: i + 1]), " ".join(words[i:])) for i in range(10)], [0] * 10)
    tokenizer = word_tokenizer(split.texts)
    before = tokenizer.backend_tokenizer.to_str()
    encoded = encode(split, tokenizer, 9, 2)
    assert tokenizer.backend_tokenizer.to_str() == before
    own = tokenizer(*map(list, zip(*split.texts, strict=True)), truncation=True, max_length=9)
    assert encoded.input_ids == own["input_ids"] and encoded.token_type_ids == own["token_type_ids"]
    assert encoded.lengths.max() == 9


# ---------------------------------------------------------------------------------------------- demo


@pytest.mark.parametrize("aspects", list(THRESHOLDS))
def test_demo_ratings_follow_from_the_words_of_the_review(aspects):
    raw = DemoTask(train_size=300, validation_size=50, aspects=aspects).load(None)
    for (text,), stars in zip(raw.train.texts, raw.train.labels, strict=True):
        clauses = text.removesuffix(" .").replace(" and ", " , ").split(" , ")
        assert len(clauses) == aspects
        total = 0
        for clause in clauses:
            the, noun, verb, *modifier, adjective = clause.split()
            assert (the, verb) == ("the", "is") and noun in ASPECTS
            total += ADJECTIVES[adjective] * MODIFIERS[" ".join(modifier)]
        assert stars == sum(total >= threshold for threshold in THRESHOLDS[aspects])


@pytest.mark.slow
def test_demo_splits_share_no_review_in_any_order_and_ratings_are_balanced():
    raw = DemoTask(train_size=5000, validation_size=1000).load(None)

    def content(split):
        return {frozenset(t.removesuffix(" .").replace(" and ", " , ").split(" , ")) for (t,) in split.texts}

    train, validation = content(raw.train), content(raw.validation["validation"])
    assert len(train) == 5000 and len(validation) == 1000 and not train & validation
    shares = np.bincount(raw.train.labels, minlength=5) / 5000
    assert shares.min() > 0.10 and shares.max() < 0.30


def test_demo_is_the_same_at_every_call_and_a_larger_one_begins_like_a_smaller():
    small, again = (DemoTask(train_size=100, validation_size=20).load(None) for _ in range(2))
    assert small.fingerprint == again.fingerprint
    assert DemoTask(train_size=5000, validation_size=20).load(None).train.texts[:100] == small.train.texts


def test_demo_settings_name_their_full_key():
    with pytest.raises(ValueError, match=r"`aspects` must be one of \[2, 3, 4\], but is 9"):
        DemoTask(train_size=100, validation_size=20, aspects=9)
    with pytest.raises(ValueError, match=r"`train_size`"):
        DemoTask(train_size=0, validation_size=20)


# ---------------------------------------------------------------------------------------------- real data

# Rows of training and validation as published with the data. All-positive MRPC: accuracy 68.38, F1 81.22.
REAL = {"cola": (8551, 1043), "mrpc": (3668, 408), "sst2": (67349, 872), "stsb": (5749, 1500)}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REAL))
@pytest.mark.skipif(not REAL_GLUE.is_dir(), reason="needs the GLUE files of ../shared/data/glue")
def test_real_data_have_their_published_sizes(name, no_network):
    task = glue(name)
    raw = task.load(str(REAL_GLUE))
    assert (len(raw.train), len(raw.validation["validation"])) == REAL[name]
    if name == "mrpc":
        scores = task.majority(raw)["validation"]
        assert scores == {"accuracy": pytest.approx(68.38, abs=0.005), "f1": pytest.approx(81.22, abs=0.005)}
