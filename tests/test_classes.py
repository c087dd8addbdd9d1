"""Heads and tasks meet by the names of their classes: permuted, kept, drawn anew, and written down for other programs."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, pipeline

from analog_glue.errors import UserError
from analog_glue.models import PretrainedModel, TinyModel, load_checkpoint_model, save_model, start_from
from analog_glue.tasks.task import Split, encode
from tests.test_models import FAMILIES, SMALL, TEXTS, encoder, pretrained

OURS = ("negative", "positive")


@pytest.fixture
def elsewhere(tmp_path):
    """Makes a folder with a BERT that was fine-tuned elsewhere, its classes named as told."""

    def make(names, family="bert", folder="elsewhere"):
        path = encoder(tmp_path / folder, family)
        size = len(AutoTokenizer.from_pretrained(path))
        config = FAMILIES[family](size)
        config.num_labels = max(len(names), 1)
        if names:
            config.id2label = dict(enumerate(names))
            config.label2id = {name: index for index, name in enumerate(names)}
        torch.manual_seed(5)
        model = AutoModelForSequenceClassification.from_config(config)
        torch.nn.init.normal_(model.classifier.bias)  # which names must carry along, too
        model.save_pretrained(path)
        return path, model.eval()

    return make


def head(model):
    return model.classifier.weight.detach(), model.classifier.bias.detach()


@pytest.mark.parametrize("names", [("POSITIVE", "NEGATIVE"), ("Positive ", "negative")])
def test_outputs_of_a_head_in_another_order_are_permuted(names, elsewhere):
    path, theirs = elsewhere(names)
    loaded = pretrained(path).load(2, seed=0, classes=OURS)
    for ours, other in zip(head(loaded.model), head(theirs), strict=True):
        assert torch.equal(ours, other[[1, 0]])
    assert "brought from the order" in loaded.remark and loaded.remark.endswith("that of the task: negative, positive")


def test_three_classes_are_permuted_the_right_way_round(elsewhere):
    """A permutation that is not its own inverse."""
    path, theirs = elsewhere(("contradiction", "entailment", "neutral"))
    model = pretrained(path).load(3, seed=0, classes=("entailment", "neutral", "contradiction")).model
    assert torch.equal(model.classifier.weight, theirs.classifier.weight[[1, 2, 0]])
    assert model.config.label2id == {"entailment": 0, "neutral": 1, "contradiction": 2}


@pytest.mark.parametrize(
    ("names", "said"),
    [(("NEGATIVE", "POSITIVE"), ""), (("not-Negative", "x"), "drawn anew: it tells not-Negative, x apart"),
     ((), "does not name its classes")],
)  # fmt: skip
def test_a_head_in_order_is_kept_one_of_other_classes_is_not(names, said, elsewhere):
    path, theirs = elsewhere(names or ("LABEL_0", "LABEL_1"))
    loaded = pretrained(path).load(2, seed=0, classes=OURS)
    assert torch.equal(head(loaded.model)[0], head(theirs)[0]) == ("anew" not in said)
    assert said in loaded.remark and bool(loaded.remark) == bool(said)
    if "anew" in said:
        again, other = (pretrained(path).load(2, seed=seed, classes=OURS).model for seed in (0, 1))
        assert torch.equal(head(again)[0], head(loaded.model)[0]) and not torch.equal(head(other)[0], head(again)[0])
        assert not head(again)[1].any()


def test_a_head_of_another_size_is_named_and_a_missing_one_is_not(elsewhere, tmp_path):
    path, _ = elsewhere(("a", "b", "c"))
    assert "it has 3 outputs, but the task 2" in pretrained(path).load(2, seed=0, classes=OURS).remark
    assert "but the task 1" in pretrained(path).load(1, seed=0).remark
    assert pretrained(encoder(tmp_path / "base", "bert")).load(2, seed=0, classes=OURS).remark == ""


def test_architectures_with_a_law_of_their_own_draw_by_it(tmp_path):
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    path = encoder(tmp_path, "bert")
    sizes = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    names = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    config = ModernBertConfig(vocab_size=len(AutoTokenizer.from_pretrained(path)), **SMALL, **sizes, **names)
    theirs = ModernBertForSequenceClassification(config)
    with torch.no_grad():
        theirs.classifier.weight.fill_(9.0)
    theirs.save_pretrained(path)
    model = pretrained(path).load(2, seed=0, classes=OURS).model
    assert model.classifier.weight.abs().max() < 9.0 and model.classifier.weight.std() > 0


def test_other_programs_find_the_names_and_give_the_right_answer(elsewhere, tmp_path):
    """A pipeline of the saved run calls a sentence what the pipeline of the original did, in the task's words."""
    path, _ = elsewhere(("POSITIVE", "NEGATIVE"))
    loaded = pretrained(path).load(2, seed=0, classes=OURS)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "run")
    answers = [
        {
            a["label"].lower(): a["score"]
            for a in pipeline("text-classification", str(folder))("the battery is good", top_k=None)
        }
        for folder in (path, tmp_path / "run")
    ]
    assert answers[0] == pytest.approx(answers[1], abs=1e-6)
    assert abs(answers[0]["positive"] - answers[0]["negative"]) > 0.01  # else nothing is compared


def test_a_model_made_on_the_spot_names_its_classes():
    spec = TinyModel(hidden=8, layers=1, heads=2, intermediate=8, vocabulary_size=12, dropout=0.0)
    assert spec.load(2, 0, TEXTS, classes=OURS).model.config.id2label == {0: "negative", 1: "positive"}
    assert spec.load(1, 0, TEXTS).model.config.num_labels == 1


def test_a_run_continued_on_other_classes_gets_a_new_head(elsewhere, tmp_path):
    base = encoder(tmp_path / "base", "bert")
    run, theirs = elsewhere(("entailment", "neutral", "contradiction"), folder="run")
    loaded = start_from(pretrained(base).load(2, seed=0, classes=OURS), run, 0, OURS)
    assert "it has 3 outputs, but the task 2" in loaded.remark
    assert torch.equal(loaded.model.bert.embeddings.word_embeddings.weight, theirs.bert.embeddings.word_embeddings.weight)
    assert loaded.model.config.id2label == {0: "negative", 1: "positive"}
    encoded = encode(Split(TEXTS, [0, 1]), loaded.tokenizer, 32, 2)
    assert loaded.model(**encoded.batch([0, 1])).logits.shape == (2, 2)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "done")
    assert load_checkpoint_model(tmp_path / "done").model.config.label2id == {"negative": 0, "positive": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [({"num_hidden_layers": 1}, "num_hidden_layers is 1 in .* and 2 in"), ({"hidden_act": "relu"}, "hidden_act is relu in")],
)
def test_a_run_of_another_encoder_is_no_start(change, said, elsewhere, tmp_path):
    """Also where every shape fits."""
    base, _ = elsewhere(OURS)
    run = encoder(tmp_path / "run", "bert")
    BertForSequenceClassification(BertConfig(vocab_size=14, **(SMALL | change))).save_pretrained(run)
    with pytest.raises(UserError, match=f"`training.start_from` must be a run of the encoder that `model` names, but {said}"):
        start_from(pretrained(base).load(2, seed=0, classes=OURS), run, 0, OURS)


def test_a_run_with_other_words_is_no_start(tmp_path):
    spec = TinyModel(hidden=8, layers=1, heads=2, intermediate=8, vocabulary_size=7, dropout=0.0)
    other = spec.load(2, 0, [("x y",)], classes=OURS)
    save_model(other.model, other.tokenizer, tmp_path)
    with pytest.raises(UserError, match="other words"):
        start_from(spec.load(2, 0, [("v w",)], classes=OURS), tmp_path, 0, OURS)


def test_another_dropout_is_another_way_to_train_the_same_encoder(elsewhere, tmp_path):
    base, _ = elsewhere(OURS)
    fields = json.loads((base / "config.json").read_text())
    assert fields["hidden_dropout_prob"] == 0.1
    loaded = start_from(PretrainedModel("x", "main", "x", path=str(base), dropout=0.3).load(2, 0, classes=OURS), base, 0, OURS)
    assert loaded.model.config.hidden_dropout_prob == 0.3 and loaded.remark == ""


@pytest.mark.slow
def test_a_network_fine_tuned_elsewhere_is_scored_as_it_is(elsewhere, tmp_path, capsys, monkeypatch):
    """No step, the weights of the file to the bit, and a run that `evaluate` goes on from; an encoder alone is refused."""
    from safetensors.torch import load_file

    from analog_glue.cli.main import main
    from tests.tasks.test_tasks import LAYOUTS, write

    data, (path, theirs) = write(tmp_path / "data", "sst2", LAYOUTS[0]), elsewhere(("NEGATIVE", "POSITIVE"))
    words = ["task=sst2", "model=minilm", "training.max_steps=0", f"data.root='{data}'", f"output_root='{tmp_path / 'out'}'"]
    words += ["evaluation.chips=1", "evaluation.times=[1]", "hardware.calibration.examples=4", "task.max_length=16"]
    assert main(["train", *words, "training=digital", f"model.path='{path}'"]) == 0
    (run,) = (tmp_path / "out").glob("sst2-*")
    ours = load_file(run / "model.safetensors")
    assert all(torch.equal(value, ours[name]) for name, value in theirs.state_dict().items())
    facts = json.loads((run / "run.json").read_text())
    assert facts["history"]["steps"] == 0 and facts["status"] == "done" and not list(run.glob("state*"))
    assert main(["evaluate", f"checkpoint='{run}'", *words[3:5], "noise=pcm_reduced", *words[5:8]]) == 0
    capsys.readouterr()
    assert main(["train", *words, "training=digital", f"model.path='{encoder(tmp_path / 'base', 'bert')}'"]) == 2
    assert "must be at least 1 for a model without a head of sst2, but is 0" in capsys.readouterr().err
    assert main(["train", *words, "training=hardware_aware", f"model.path='{path}'"]) == 2
    assert "0 belongs to training=digital" in capsys.readouterr().err
