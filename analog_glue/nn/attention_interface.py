"""Which transformers let their attention be computed elsewhere, and how: through the attention interface of the library, or by
a subclass where an architecture writes its attention out.

Only architectures that are tested are listed. Many others take the name of an attention function without a word, never call it,
and lose their padding mask on the way.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from analog_glue.errors import UserError
from analog_glue.nn.attention import Attention
from analog_glue.nn.attention_products import AttentionProducts

NAME = "analog_glue_products"
INSIDE = "products"  # name of the module inside an attention module
MODULES = {  # model type → class of its attention modules
    "bert": "BertSelfAttention",
    "roberta": "RobertaSelfAttention",
    "distilbert": "DistilBertSelfAttention",
    "albert": "AlbertAttention",
    "electra": "ElectraSelfAttention",
    "mpnet": "MPNetSelfAttention",
}


def require_supported(attention: Attention, model_type: str | None) -> None:
    """Raises UserError where attention of this precision cannot be put into models of this type; None: not known yet."""
    if not attention.is_float32 and model_type is not None and model_type not in MODULES:
        raise UserError(
            f"Setting `attention` must be fp32 for a model of the type {model_type}, but is {attention.precision}: nothing "
            f"reaches into its attention. Write attention=fp32, or take a model of {', '.join(MODULES)}."
        )


def put_in(model: PreTrainedModel, attention: Attention, kernel: str = "reference") -> dict[str, AttentionProducts]:
    """Let every attention layer of `model` compute its products as `attention` says, in place.

    Returns:
        The modules that do it, by the name of their attention module; none where attention is float32. A layer that is used
        several times (ALBERT) has one, with one set of scales.

    Raises:
        UserError: a model whose attention cannot be reached.
    """
    if attention.is_float32:
        return {}
    require_supported(attention, model.config.model_type)
    placed = {}
    for name, module in list(model.named_modules()):
        if type(module).__name__ == MODULES[model.config.model_type]:
            placed[name] = AttentionProducts(attention, kernel).to(next(model.parameters()).device)
            module.add_module(INSIDE, placed[name])
            if isinstance(module, MPNetSelfAttention):
                module.__class__ = _MPNet
    if model.config.model_type != "mpnet":
        model.set_attn_implementation(NAME)
    return placed


def take_out(model: PreTrainedModel) -> None:
    """Undo `put_in`: the model computes its attention itself again; nothing where it does."""
    if not products_of(model):
        return
    for module in model.modules():
        if INSIDE in module._modules and isinstance(module._modules[INSIDE], AttentionProducts):
            del module._modules[INSIDE]
            if isinstance(module, _MPNet):
                object.__setattr__(module, "__class__", MPNetSelfAttention)
    if model.config.model_type != "mpnet":
        model.set_attn_implementation("sdpa")  # what all the others have


def products_of(model: nn.Module) -> dict[str, AttentionProducts]:
    """The modules that `put_in` placed, by the name of their attention module."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, AttentionProducts)}
    return {name.removesuffix(f".{INSIDE}"): module for name, module in found.items()}


@torch.no_grad()
def calibrate(model: Callable[..., object], layers: Iterable[AttentionProducts], batches: Iterable[dict[str, Tensor]]) -> None:
    """Set the scales of `layers` from what the model computes for `batches` of training examples with attention in float32."""
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(layer.calibrating())
        for batch in batches:
            model(**batch)


def _compute(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    output_attentions: bool = False,
    **_: Any,
) -> tuple[Tensor, Tensor | None]:
    """An attention function of the library; P is handed back where it is asked for."""
    products: AttentionProducts = module.products
    out: tuple[Tensor, Tensor | None] = products(
        query, key, value, attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling, dropout, output_attentions
    )
    return out


class _MPNet(MPNetSelfAttention):
    """MPNet's attention with its products elsewhere; its relative position bias is part of what is added to the scores."""

    products: AttentionProducts

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        output_attentions: bool = False,
        **_: Any,
    ) -> tuple[Tensor, ...]:
        heads = (*hidden_states.shape[:-1], -1, self.attention_head_size)
        q, k, v = (layer(hidden_states).view(heads).transpose(1, 2) for layer in (self.q, self.k, self.v))
        added = [part for part in (position_bias, attention_mask) if part is not None]
        mask = sum(added[1:], start=added[0]) if added else None
        dropout = self.dropout.p if self.training else 0.0
        out, p = self.products(q, k, v, mask, self.attention_head_size**-0.5, dropout, output_attentions)
        projected: Tensor = self.o(out.flatten(2))
        return (projected, p) if output_attentions else (projected,)


# Item assignment would leave the mask function unseen, and padding would be attended to.
AttentionInterface.register(NAME, _compute)
AttentionMaskInterface.register(NAME, eager_mask)
