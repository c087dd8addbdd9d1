"""Which networks differ by their seed alone, and the words for what others differ in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from analog_glue.runs.identity import Payload, differences
from analog_glue.runs.rows import Measurement

TUNED_FOR = "tuned."  # first part of the settings that say it
MOST_TOLD = 4  # settings of a training in a table; more make no label
Network = tuple[str, str, str, str]  # task, model, name of the training, `train_ids`


class Training(NamedTuple):
    """Networks that differ by their seed alone.

    `name` is the option of the training; of networks whose ranges were tuned afterwards, a plus and the option of the tuning
    follow ("hardware_aware+lammie2024"). `recipe` is empty unless there are several trainings of the same name; then it says
    what tells this one apart.
    """

    name: str
    recipe: str

    @property
    def title(self) -> str:
        recipe = f" [{self.recipe}]" if self.recipe else ""
        tuned = f", tuned ({self.tuning})" if self.tuning else ""
        return f"{self.trained.replace('_', '-')} training{tuned}{recipe}"

    @property
    def trained(self) -> str:
        """Option of the training."""
        return self.name.partition("+")[0]

    @property
    def tuning(self) -> str:
        """Option of the tuning; empty where nothing was tuned."""
        return self.name.partition("+")[2]


def network(row: Measurement) -> Network:
    return row.task, row.model, row.training, row.train_ids


def trainings_of(
    rows: Iterable[Measurement], settings: Mapping[str, Payload] | None = None, hardware_apart: bool = False
) -> tuple[dict[Network, Training], list[str]]:
    """The training of each network, named so that only seeds of one and the same training share a line of a table.

    Rows older than the column `recipe` do not say which trainings are the same. Of these, networks of different seeds count as
    one training, and two networks of the same seed as two, since they differ in something that no column names.

    Args:
        settings: Of the trainings, by the name of the run; where they are not known, a hash tells trainings apart.
        hardware_apart: Whether scores on different hardware never share a table. Ranges are tuned for a hardware, so of
            tunings for different ones that hardware needs not be said then.

    Returns:
        The training of each network, and remarks on those that only a hash tells apart.
    """
    seeds: dict[Network, int] = {}
    hardware: dict[Network, set[str]] = defaultdict(set)  # that chips or ideal devices of it were scored on
    chosen: dict[Network, Payload] = {}
    recipes: dict[Network, str] = {}
    alike: dict[tuple[str, str, str], dict[str, list[Network]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.stage != "majority":
            seeds.setdefault(network(row), row.seed)
            if settings and row.recipe and row.run in settings:
                chosen[network(row)] = settings[row.run]
            recipes[network(row)] = row.recipe or recipes.get(network(row), "")
            hardware[network(row)] |= {row.hardware_id} if row.stage in ("chip", "ideal_devices") else set()
    for one, recipe in recipes.items():
        alike[one[:3]][recipe].append(one)
    trainings, remarks = {}, []
    for (task, model, name), by_recipe in alike.items():
        known = {recipe: [chosen[one] for one in own if one in chosen] for recipe, own in by_recipe.items()}
        scored_on = {recipe: set().union(*(hardware[one] for one in own)) for recipe, own in by_recipe.items()}
        told = _told(known, _sharing(scored_on) if hardware_apart and "+" in name else [list(known)])
        doubled = {recipe for recipe, own in by_recipe.items() if len({seeds[one] for one in own}) < len(own)}
        for recipe, own in by_recipe.items():
            for one in own:
                apart = [told[recipe], one[3][:8] if recipe in doubled else ""]
                trainings[one] = Training(name, ", ".join(filter(None, apart)))
        title = Training(name, "").title
        if doubled:
            remarks.append(
                f"{task}, {model}: several {title}s of the same seed, told apart by the "
                "hash at the end of the run's name; `analog-glue tables` also takes the folder of one run."
            )
        if len(known) > 1 and any(recipe and not own for recipe, own in known.items()):
            remarks.append(
                f"{task}, {model}: several {title}s whose settings are not at hand, told apart by a hash of them; "
                "`analog-glue tables` of a folder with the runs themselves says what differs."
            )
    return trainings, remarks


def _sharing(hardware: Mapping[str, set[str]]) -> list[list[str]]:
    """Recipes in groups that share no hardware; those that were scored on none are one of them.

    Args:
        hardware: Recipe → the hardware that its networks were scored on.
    """
    groups: list[tuple[set[str], list[str]]] = []
    for recipe, own in hardware.items():
        joined = [group for group in groups if group[0] & own or not group[0] | own]
        groups = [group for group in groups if group not in joined]
        groups.append((own.union(*(of for of, _ in joined)), [*(one for _, ones in joined for one in ones), recipe]))
    return [recipes for _, recipes in groups]


def _told(known: Mapping[str, Sequence[Payload]], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Recipe → what tells it from the others, in words; empty where nothing needs to.

    Args:
        known: Recipe → settings of its networks, as far as they are at hand.
        groups: Recipes that share a table; of others the hardware that they were tuned for is not said.
    """
    if len(known) == 1:
        return dict.fromkeys(known, "")
    first = {recipe: own[0] for recipe, own in known.items() if own}
    drawn = {"seed"} | {one.key for own in known.values() for other in own[1:] for one in differences(own[0], other)}
    compared = {recipe: differences(next(iter(first.values())), payload) for recipe, payload in first.items()}
    # What does not differ from the first is what the first has.
    of_first = {one.key: one.first for found in compared.values() for one in found}
    everything = {recipe: of_first | {one.key: one.second for one in found} for recipe, found in compared.items()}
    told: dict[str, str] = {}
    for group in groups:
        own = {recipe: everything[recipe] for recipe in group if recipe in first}
        differing = {key for key in of_first if len({settings[key] for settings in own.values()}) > 1}
        keys = [key for key in of_first if key not in drawn and (key in differing or not key.startswith(TUNED_FOR))]
        keys.sort(key=lambda key: (not key.startswith("training"), key))
        short = [key.rpartition(".")[2] for key in keys]
        of_group = {}
        for recipe in group:
            words = [
                f"{key if short.count(last) > 1 else last} {_in_words(own[recipe][key])}"
                for key, last in zip(keys, short, strict=True)
                if recipe in own
            ]
            if len(words) > MOST_TOLD:
                words = [*words[:MOST_TOLD], f"{len(words) - MOST_TOLD} more"]
            unnamed = recipe[:8] or "settings not recorded" if len(group) > 1 or recipe not in own else ""
            of_group[recipe] = ", ".join(words) or unnamed
        # Settings beyond the first few may leave two with the same words.
        found = list(of_group.values())
        told |= {r: f"{words}, {r[:8]}" if found.count(words) > 1 and r else words for r, words in of_group.items()}
    return told


def _in_words(value: str | None) -> str:
    """A setting in a table, a fingerprint by its first eight digits."""
    if value is None:
        return "not recorded"
    return value[:8] if re.fullmatch(r"[0-9a-f]{9,}", value) else value
