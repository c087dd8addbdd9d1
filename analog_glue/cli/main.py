"""The command line: `analog-glue COMMAND`.

`train`, `evaluate`, `tune`, `diagnose`, `specify`, `place`, `factsheet`, `publish` and `extract` take Hydra overrides; every
job goes one straight way: compose, check, build the components, let the command load what it needs, and describe it or run it.
`tables`, `report`, `list` and `verify` have options. Nothing heavy is imported before a command needs it, so that `--help` and
a mistyped key answer at once.

Exit codes: 0 done, 1 something failed, 2 the input was wrong (one message says what), 130 interrupted.
"""

import difflib
import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper

import analog_glue
from analog_glue.cli.errors import DONE, print_wrong, report_error
from analog_glue.cli.reading import list_command, report_command, tables_command, verify_command
from analog_glue.cli.sweeps import call_hydra, run_command, run_short
from analog_glue.interruption import ended_by_signals, exit_code
from analog_glue.settings import RUNS

HELP = """\
analog-glue: transformers on crossbars of phase-change memory, on GLUE.

usage: analog-glue COMMAND [key=value …]

  train      fine-tune, program chips, let them age, compensate drift, score
  evaluate   put the weights of a finished run on other hardware
  tune       fit ranges and scales around the weights of a finished run to a hardware, without training
  diagnose   where its tiles lose on a hardware: clipped inputs, saturated ADCs, unused codes
  specify    which device would do: how much of each non-ideality it bears and keeps its score
  place      which layers should stay digital: what each wins beside the tiles, and the energy that it adds
  factsheet  what a network on its tiles is, takes and scores: operations, tiles, energy, drift, limits
  publish    a finished run as a folder that others can use, in the form of the Hugging Face hub
  extract    read the weights that were trained on pulsed devices out of their arrays
  tables     tables and figures from the measured rows of a folder
  report     the same as one page for a browser, each number a click away from its run and command
  list       every option of every group (list options), what has been run (list runs, list sweeps)
  verify     hold the simulated devices and tiles against published measurements

examples:
  analog-glue train -m +experiment=demo training=digital,hardware_aware     no download, about 3 minutes
  analog-glue train task=mrpc noise=pcm                                     the main job
  analog-glue train task=mrpc noise=pcm dry_run=true                        sizes and noise, then stop
  analog-glue evaluate checkpoint=outputs/… noise=reram evaluation.chips=5
  analog-glue evaluate checkpoint=outputs/… ablate=true                     what costs the accuracy
  analog-glue tune checkpoint=outputs/… tile=lammie2024                     fit its ranges to a chip
  analog-glue diagnose checkpoint=outputs/… tile=lammie2024                 which layers lose, and where
  analog-glue specify checkpoint=outputs/… keep=99 time=2592000             which device would do
  analog-glue place checkpoint=outputs/… evaluation.times=[2592000]         which layers should stay digital
  analog-glue factsheet checkpoint=outputs/… costs=bottom_up                what it takes, beside its scores
  analog-glue train +experiment=digits_in_situ training=ttv2                on pulsed devices
  analog-glue tables outputs
  analog-glue report outputs

`analog-glue COMMAND --help` says what its settings mean (`train training=ttv2 --help`: of that choice).
Bash completion: eval "$(analog-glue -sc install=bash)"
Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted (128 + the number of any signal that ends it).
ANALOG_GLUE_TRACE=1 adds the trace to any error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch is loaded: its idle threads sleep instead of burning the cores of `kernels.parallel`.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A log file shows progress when it is printed; an encoding without ± does not end a command after its work.
            stream.reconfigure(line_buffering=True, errors="replace")
    try:
        with ended_by_signals():
            return _dispatch(words)
    except KeyboardInterrupt as interrupt:
        print("\ninterrupted; the same command goes on where it stopped", file=sys.stderr)
        return exit_code(interrupt)
    except BrokenPipeError:  # `analog-glue list | head`; what is left in either stream goes nowhere
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return DONE
    except Exception as error:
        return report_error(error)


def _dispatch(words: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": functools.partial(run_command, "train"),
        "evaluate": functools.partial(run_command, "evaluate"),
        "tune": functools.partial(run_command, "tune"),
        "diagnose": functools.partial(run_command, "diagnose"),
        "specify": functools.partial(run_short, "specify"),
        "place": functools.partial(run_command, "place"),
        "factsheet": functools.partial(run_command, "factsheet"),
        "publish": functools.partial(run_short, "publish"),
        "extract": functools.partial(run_command, "extract"),
        "tables": tables_command,
        "report": report_command,
        "list": list_command,
        "verify": verify_command,
    }
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return DONE
    if words[0] in ("-V", "--version"):
        print(f"analog-glue {analog_glue.__version__}")
        return DONE
    if words[0] in ("-sc", "--shell-completion"):
        return _completion(words, list(commands))
    if words[0] in commands:
        return commands[words[0]](words[1:])
    if "=" in words[0] or words[0].startswith("-"):
        hint = f"Put it first: analog-glue train {shlex.join(words)}"
    else:
        near = difflib.get_close_matches(words[0], list(commands), n=1)
        hint = f"Did you mean `{near[0]}`?" if near else "`analog-glue --help` describes them."
    return print_wrong(f"The first word must be a command ({', '.join(commands)}), but is `{words[0]}`. {hint}")


def _completion(words: list[str], commands: list[str]) -> int:
    """Print Hydra's completion script, or the words that may follow on the command line in COMP_LINE."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split()
    if any(word.startswith("query=") for word in words):
        if len(typed) < 2 or (len(typed) == 2 and not line.endswith(" ")):
            print(" ".join(name for name in commands if name.startswith(typed[1] if len(typed) == 2 else "")))
            return DONE
        if typed[1] not in RUNS:
            return DONE
        os.environ["COMP_LINE"] = line.replace(f"{typed[1]} ", "", 1)  # Hydra knows no commands
        call_hydra(typed[1], words)
    else:
        call_hydra("train", words)
    return DONE
