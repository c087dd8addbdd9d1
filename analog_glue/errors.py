"""Messages to the user, and their one form: what must hold, what was found, what to do.

An exception of these classes is told as one message, and the command line ends with exit code 2. Whatever else is raised,
by a library or by a slip of ours, keeps its trace (exit code 1).
"""

from collections.abc import Callable


class UserError(ValueError):
    """What the user gave cannot be run; the message says what must hold, what was found and what to do."""


class WrongArgument(UserError):
    """One argument of a component has a value that it cannot have: "Argument `name` must …, but is …. advice"

    The component knows its arguments alone. Whoever built it from a configuration knows where it stands there: `as_setting`.
    """

    def __init__(self, name: str, must: str, found: object, advice: str = "") -> None:
        super().__init__(name, must, found, advice)
        self.name, self._must, self._found, self._advice = name, must, found, advice

    def __str__(self) -> str:
        return f"Argument {_sentence(self.name, self._must, self._found, self._advice)}"

    def as_setting(self, key: str) -> UserError:
        """The same about the argument of the component that stands at `key` of the configuration."""
        return UserError(f"Setting {_sentence(f'{key}.{self.name}', self._must, self._found, self._advice)}")


def require(condition: bool, setting: str, must: str, found: object, advice: str = "") -> None:
    """Hold a setting, by its full key, to what it must be.

    Raises:
        UserError: "Setting `setting` must …, but is …. advice" when `condition` does not hold.
    """
    if not condition:
        raise UserError(f"Setting {_sentence(setting, must, found, advice)}")


def require_argument(condition: bool, name: str, must: str, found: object, advice: str = "") -> None:
    """Hold an argument of a component to what it must be.

    Args:
        name: Of the argument; of a part of it, with a dot ("periphery.read_noise").

    Raises:
        WrongArgument: "Argument `name` must …, but is …. advice" when `condition` does not hold.
    """
    if not condition:
        raise WrongArgument(name, must, found, advice)


def _sentence(name: str, must: str, found: object, advice: str) -> str:
    return f"`{name}` must {must}, but is {found!r}.{' ' + advice if advice else ''}"


def raise_together(*checks: Callable[[], object]) -> None:
    """Make all checks, so that one message says all that is to be mended.

    Raises:
        UserError: what any of them refuses, a line each.
    """
    problems = []
    for check in checks:
        try:
            check()
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
