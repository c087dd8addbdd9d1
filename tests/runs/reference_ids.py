"""Payloads whose ids are recorded in reference_ids.json: one per kind at its recorded defaults, one per option of conf/.

python -m tests.runs.reference_ids     adds what is new; what is there is never rewritten
"""

import json
from pathlib import Path

from omegaconf import OmegaConf

from analog_glue.configuration.build import as_annotated, build
from analog_glue.configuration.compose import conf_dir
from analog_glue.configuration.wording import COMPONENTS
from analog_glue.runs.identity import Identity, resolved
from analog_glue.runs.recorded import recorded_sections
from analog_glue.settings import MISSING, Extract, HardwareSettings, RandomArray

FILE = Path(__file__).with_suffix(".json")
REQUIRED = 1  # stands for the value of a field without a default


def components():
    """ "group/option" → component, for every option of every group that reaches an identity, and the settings beside them."""
    found = {}
    for group in (group for group in COMPONENTS if group != "costs"):  # which determines no score
        for file in sorted((conf_dir() / group).glob("*.yaml")):
            config = OmegaConf.to_container(OmegaConf.load(file))
            found[f"{group}/{file.stem}"] = build(as_annotated(config, group), group)
    return found | {"hardware": HardwareSettings(), "extract": Extract(array=RandomArray())}


def ids_of_options():
    return {name: Identity(resolved(name.split("/")[0], component)).id for name, component in components().items()}


def payloads_of_kinds():
    """Kind → a payload of one component with all fields at their recorded defaults."""
    kinds = {kind: {} for section in recorded_sections().values() for kind in section}
    for section in recorded_sections().values():
        for kind, defaults in section.items():
            kinds[kind] |= {f"x.{name}": REQUIRED if value == MISSING else value for name, value in defaults.items()}
    return {kind: {"x": kind, **fields} for kind, fields in kinds.items()}


if __name__ == "__main__":
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {"options": {}, "kinds": {}}
    recorded["options"] = ids_of_options() | recorded["options"]
    for kind, payload in payloads_of_kinds().items():
        known = recorded["kinds"].setdefault(kind, {"payload": payload, "id": Identity(payload).id})
        known["payload"] = payload | known["payload"]
    FILE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
