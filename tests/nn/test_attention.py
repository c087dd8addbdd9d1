"""Attention in other precisions, in every architecture that lets it in: padding, masks, scales, and what is refused."""

import copy
import math

import pytest
import torch
import transformers

from analog_glue.errors import UserError, WrongArgument
from analog_glue.nn.attention import FLOAT32, Attention
from analog_glue.nn.attention_interface import MODULES, calibrate, products_of, put_in, require_supported, take_out

SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
OWN = {
    "distilbert": {"vocab_size": 50, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
    "albert": SMALL | {"embedding_size": 16},
    "electra": SMALL | {"embedding_size": 16},
}
PRECISIONS = [Attention(dtype="bf16"), *(Attention(bits=bits) for bits in (12, 10, 8, 6, 2))]
PRECISIONS += [Attention(bits=6, smooth_keys=True), Attention(bits=8, signed_probabilities=True)]
LENGTHS = (9, 5, 2, 7)


def network(kind, seed=0):
    fields = OWN.get(kind, SMALL) | {"num_labels": 3, "pad_token_id": 0, "max_position_embeddings": 40}
    config = transformers.CONFIG_MAPPING[kind](**fields)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.dim() == 2:  # so that attention has something to choose between
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def texts(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 50, (length,), generator=generator) for length in LENGTHS]


def padded(sequences, filler=0):
    ids = torch.full((len(sequences), max(map(len, sequences))), filler)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
    return {"input_ids": ids, "attention_mask": mask}


def with_attention(kind, attention, kernel="reference"):
    model = network(kind)
    layers = put_in(model, attention, kernel)
    if attention.bits is not None:
        calibrate(model, layers.values(), [padded(texts())])
    return model


@torch.no_grad()
def logits(model, batch):
    return model(**batch).logits


@pytest.mark.parametrize("attention", PRECISIONS, ids=lambda one: one.precision)
@pytest.mark.parametrize("kind", MODULES)
def test_a_padded_batch_answers_as_its_texts_do_alone(kind, attention, kernel):
    model = with_attention(kind, attention, kernel)
    together = logits(model, padded(texts()))
    alone = torch.cat([logits(model, padded([text])) for text in texts()])
    # What differs by rounding alone may fall on another code where it lies at a half step: then by a step, here rarely.
    different = (together - alone).abs().amax(1) > 1e-5 * alone.abs().max()
    assert different.sum() <= (0 if attention.bits is None or attention.bits > 2 else 1)
    assert (together[0] - together[1]).abs().max() > 1e-3  # the texts differ at all


@pytest.mark.parametrize("attention", [FLOAT32, *PRECISIONS], ids=lambda one: one.precision)
@pytest.mark.parametrize("kind", MODULES)
def test_what_hidden_tokens_say_changes_no_bit(kind, attention):
    if kind == "roberta" or kind == "mpnet":  # their positions count the tokens that are not padding
        first, other = padded(texts(), 0), padded(texts(), 0)
        other["input_ids"] = other["input_ids"].clone()
        positions = torch.arange(max(LENGTHS)).expand(4, -1) + 2
        first["position_ids"] = other["position_ids"] = positions
        other["input_ids"][other["attention_mask"] == 0] = 17
    else:
        first, other = padded(texts(), 0), padded(texts(), 17)
    model = with_attention(kind, attention)
    assert torch.equal(logits(model, first), logits(model, other))


@pytest.mark.parametrize("kind", MODULES)
def test_many_bits_are_nearly_float32_and_few_are_not(kind):
    plain = logits(network(kind), padded(texts()))
    errors = [(logits(with_attention(kind, Attention(bits=bits)), padded(texts())) - plain).abs().max() for bits in (12, 6, 3)]
    # At twelve bits what is beyond three standard deviations is still clipped, so not even those are float32.
    assert errors[0] < 0.2 * plain.abs().max() and errors[0] < errors[2]
    assert errors[2] > 1e-3 * plain.abs().max()


def test_without_rounding_the_products_are_those_of_the_library():
    for kind in MODULES:
        model = with_attention(kind, Attention(bits=8))
        for layer in products_of(model).values():
            layer.active = False
        ours, theirs = logits(model, padded(texts())), logits(network(kind), padded(texts()))
        # A logit near zero is a difference of large terms: its error is that of the largest, which sums in another order have.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_smoothing_keys_changes_nothing_but_their_range():
    """Without rounding the scores of a query all change by one number; with it, keys that share an offset lose less."""
    model = network("bert")
    for module in model.modules():
        if type(module).__name__ == "BertSelfAttention":
            torch.nn.init.constant_(module.key.bias, 4.0)
    plain = logits(model, padded(texts()))
    errors = {}
    for smooth in (False, True):
        layers = put_in(model, Attention(bits=5, smooth_keys=smooth))
        calibrate(model, layers.values(), [padded(texts())])
        errors[smooth] = (logits(model, padded(texts())) - plain).abs().mean()
        if smooth:
            for layer in layers.values():
                layer.active, layer.observed = False, None
            torch.testing.assert_close(logits(model, padded(texts())), plain, rtol=1e-4, atol=1e-5)
        take_out(model)
    assert errors[True] < 0.7 * errors[False]


def test_scales_come_from_the_tokens_that_are_there():
    """Q, K and V: three standard deviations over the largest code; padding of another batch changes none of them."""
    model, seen = network("bert"), []
    hook = model.bert.encoder.layer[0].attention.self.key.register_forward_hook(lambda *call: seen.append(call[2]))
    layers = put_in(model, Attention(bits=6))
    calibrate(model, layers.values(), [padded(texts())])
    hook.remove()
    keys = seen[0][padded(texts())["attention_mask"].bool()].double()
    expected = 3 * keys.flatten().std(correction=0) / 31
    first = next(iter(layers.values()))
    assert first.scales.k == pytest.approx(expected.item(), rel=1e-5)
    calibrate(model, layers.values(), [padded([text]) for text in texts()])
    assert first.scales.k == pytest.approx(expected.item(), rel=1e-5)


def test_the_scale_of_probabilities_has_the_smallest_squared_error_of_its_candidates():
    model, attention = network("bert"), Attention(bits=4)
    layers = put_in(model, attention)
    calibrate(model, layers.values(), [padded(texts()[:1])])
    layer = next(iter(layers.values()))
    layer.active, found = False, []
    handle = layer.register_forward_hook(lambda *call: found.append(call[2][1]))
    model.set_attn_implementation("analog_glue_products")
    with torch.no_grad():
        model(**padded(texts()[:1]), output_attentions=True)
    handle.remove()
    p = found[0].double()

    def error(step):
        return ((p / step).round().clamp(max=15) * step - p).square().sum().item()

    assert error(layer.scales.p) <= min(error(layer.scales.p * factor) for factor in (0.7, 0.8, 1.25, 1.4)) * 1.0001
    assert not math.isclose(layer.scales.p, 1 / 15)


def test_a_shared_layer_has_one_set_of_scales():
    assert len(put_in(network("albert"), Attention(bits=8))) == 1
    assert len(put_in(network("bert"), Attention(bits=8))) == 2


def test_copies_of_a_model_keep_their_attention():
    model = with_attention("bert", Attention(bits=6))
    assert torch.equal(logits(copy.deepcopy(model), padded(texts())), logits(model, padded(texts())))


@pytest.mark.parametrize("kind", MODULES)
def test_what_is_taken_out_leaves_the_network_as_it_was(kind):
    model = network(kind)
    before, names = logits(model, padded(texts())), set(model.state_dict())
    put_in(model, Attention(bits=4))
    assert set(model.state_dict()) > names
    take_out(model)
    assert set(model.state_dict()) == names
    assert torch.equal(logits(model, padded(texts())), before)


@pytest.mark.parametrize("kind", MODULES)
def test_scales_and_weights_learn(kind, kernel):
    model = with_attention(kind, Attention(bits=6), kernel).train()
    batch = padded(texts()) | {"labels": torch.tensor([0, 1, 2, 0])}
    model(**batch).loss.backward()
    for layer in products_of(model).values():
        assert layer.log_scales.grad.isfinite().all() and (layer.log_scales.grad != 0).all()
    before = logits(model.eval(), padded(texts()))
    with torch.no_grad():
        for layer in products_of(model).values():
            layer.log_scales.add_(0.3)
    assert not torch.equal(logits(model, padded(texts())), before)


def test_in_training_the_network_computes_what_it_computes_at_inference():
    model = with_attention("bert", Attention(bits=6))
    inference = logits(model, padded(texts()))
    trained = model(**padded(texts())).logits  # with gradients
    assert trained.requires_grad
    torch.testing.assert_close(trained.detach(), inference, rtol=1e-4, atol=1e-5)


def test_an_architecture_that_cannot_is_refused_by_name():
    model = transformers.AutoModelForSequenceClassification.from_config(
        transformers.CONFIG_MAPPING["roformer"](**SMALL, embedding_size=32)
    )
    with pytest.raises(UserError, match="`attention` must be fp32 for a model of the type roformer, but is int8"):
        put_in(model, Attention(bits=8))
    assert put_in(model, FLOAT32) == {}
    require_supported(Attention(bits=8), None)  # not known yet: asked again when it is


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"bits": 1}, "bits"), ({"bits": 13}, "bits"), ({"dtype": "fp16"}, "dtype"), ({"bits": 8, "dtype": "bf16"}, "dtype"),
     ({"smooth_keys": True}, "smooth_keys"), ({"signed_probabilities": True}, "signed_probabilities"),
     ({"bits": 8, "examples": 0}, "examples"), ({"bits": 8, "learning_rate": -1.0}, "learning_rate")],
)  # fmt: skip
def test_what_cannot_be_is_refused(fields, name):
    with pytest.raises(WrongArgument, match=f"`{name}`"):
        Attention(**fields)


@pytest.mark.parametrize("attention", [Attention(bits=12), Attention(bits=6)], ids=lambda one: one.precision)
def test_mixed_precision_around_it_reaches_no_product_of_codes(attention, kernel):
    """Under autocast a product of float32 becomes one of bfloat16, which holds eight binary digits of a sum."""
    layer = next(iter(products_of(with_attention("bert", attention, kernel)).values()))
    q, k, v = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    for gradients in (False, True):
        layer.train(gradients)
        with torch.set_grad_enabled(gradients):
            plain, _ = layer(q, k, v, None, 0.35)
            with torch.autocast("cpu", torch.bfloat16):
                mixed, _ = layer(q, k, v, None, 0.35)
        assert torch.equal(plain, mixed)


def test_scales_that_change_are_the_ones_that_count(kernel):
    """They are read once and kept: whatever changes the parameter, they follow."""
    layer = next(iter(products_of(with_attention("bert", Attention(bits=6), kernel)).values()))
    first = layer.scales
    assert layer.scales is first
    with torch.no_grad():
        layer.log_scales.add_(1.0)
    assert layer.scales.q == pytest.approx(first.q * math.e)
    layer.load_state_dict({"log_scales": torch.zeros(4)})
    assert layer.scales.q == 1.0
