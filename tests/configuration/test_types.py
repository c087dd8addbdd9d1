"""A value of another type than its class says is told by its full key, before any physics computes with it."""

import pytest

from analog_glue.cli.main import main
from analog_glue.configuration.build import build
from analog_glue.configuration.compose import Composer
from analog_glue.errors import UserError
from tests.configuration.test_refusals import COMMAND_OF, OPTIONS, places


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda name: name)
def test_no_value_of_another_type_is_built(group, option):
    with Composer(COMMAND_OF.get(group, "train")) as composer:
        node = composer.compose([f"{group}={option}"]).config[group]
    build(node, group)
    for key, holder, name in places(node, group):
        kept = holder[name]
        for other in [{"a": 1}, *([1.5, True] if type(kept) is int else []), *([] if isinstance(kept, str | None) else ["x"])]:
            holder[name] = other
            with pytest.raises(UserError, match=f"Setting `{key}` must be .*, but is "):
                build(node, group)
        holder[name] = kept


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tile.rows=12.5", "Setting `tile.rows` must be a whole number, but is 12.5."),
        ("tile.adc_bits=8.5", "Setting `tile.adc_bits` must be a whole number or null, but is 8.5."),
        ("noise.g_max=null", "Setting `noise.g_max` must be a number, but is None."),
        ("training.max_steps=abc", "Setting `training.max_steps` must be a whole number or null, but is 'abc'."),
        ("training.start_from=3", "Setting `training.start_from` must be text or null, but is 3."),
        ("training.weight_noise=null", "Setting `training.weight_noise` must be a group of settings, but is None."),
        ("task.name=5", "Setting `task.name` must be text, but is 5."),
    ],
)
def test_the_command_line_names_key_and_type(word, message, capsys):
    assert main(["train", "task=demo" if "task" not in word else "task=mrpc", "model=tiny", word, "dry_run=true"]) == 2
    assert capsys.readouterr().err.strip() == message
