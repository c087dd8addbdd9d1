"""The project's errors about what a user gave, and their one form: what must hold, what was found, what to do."""


class WrongInput(ValueError):
    """What the user gave cannot be run; the message says which key, what is allowed and what was meant."""


def require(condition: bool, setting: str, must: str, found: object, advice: str = "") -> None:
    """Raise the project's one form of error about a setting.

    Raises:
        ValueError: "Setting `setting` must …, but is …. advice" when `condition` does not hold.
    """
    if not condition:
        raise ValueError(f"Setting `{setting}` must {must}, but is {found!r}.{' ' + advice if advice else ''}")
