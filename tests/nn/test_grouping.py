"""Groups of layers by their names: every layer in one, and patterns that choose it and nothing else."""

from fnmatch import fnmatchcase

import pytest

from analog_glue.costs.architectures import PUBLISHED, Architecture
from analog_glue.nn.grouping import GROUPINGS, grouped, patterns_of

MODELS = {name: list(Architecture(config).linears) for name, config in PUBLISHED.items()}
COUNTS = {  # layers, blocks, kinds: six linear layers a block, and pooler and classifier beside them
    "bert_base": (74, 14, 8), "bert_large": (146, 26, 8), "minilm": (38, 8, 8), "mpnet_base": (74, 14, 8),
    "albert_base": (9, 4, 9),
}  # fmt: skip


@pytest.mark.parametrize("model", COUNTS)
def test_groups_are_as_many_as_the_architecture_says(model):
    found = {how: len(grouped(MODELS[model], how)) for how in GROUPINGS}
    assert tuple(found[how] for how in ("layer", "block", "kind")) == COUNTS[model]


@pytest.mark.parametrize("how", GROUPINGS)
@pytest.mark.parametrize("model", MODELS)
def test_patterns_choose_their_group_and_nothing_else(model, how):
    names = MODELS[model]
    groups = grouped(names, how)
    assert sorted(name for own in groups.values() for name in own) == sorted(names)
    for group, own in groups.items():
        patterns = patterns_of(group, own, names)
        assert [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)] == list(own)
        assert len(patterns) <= max(2, len(own) // 2)  # one for each number of digits


def test_names_stand_where_no_pattern_chooses_them_alone():
    names = ["layer.0.a", "layer.1.a", "layer.2.a", "head"]
    assert patterns_of("layer.*.a", names[:2], names) == ("layer.0.a", "layer.1.a")  # a pattern would take the third, too
    assert patterns_of("layer.*.a", names[:3], names) == ("layer.?.a",)
    assert patterns_of("head", ["head"], names) == ("head",)
