"""The one form of a message to the user, and who puts which name into it."""

import pytest

from analog_glue.errors import UserError, WrongArgument, require, require_argument


def test_a_setting_is_refused_by_its_full_key_with_what_must_hold_what_is_and_what_to_do():
    require(True, "noise.g_max", "be positive", 1.0)
    with pytest.raises(UserError) as refused:
        require(False, "runtime.device", "be cpu", "gpu", "Take the other.")
    assert str(refused.value) == "Setting `runtime.device` must be cpu, but is 'gpu'. Take the other."


def test_an_argument_is_refused_by_its_own_name_and_told_by_the_key_that_its_component_stands_at():
    require_argument(True, "g_max", "be positive", 1.0)
    with pytest.raises(WrongArgument) as refused:
        require_argument(False, "g_max", "be positive [µS]", -3, "Write 25.")
    assert str(refused.value) == "Argument `g_max` must be positive [µS], but is -3. Write 25."
    told = refused.value.as_setting("noise")
    assert str(told) == "Setting `noise.g_max` must be positive [µS], but is -3. Write 25."
    assert type(told) is UserError  # a component around it puts no second key before it
