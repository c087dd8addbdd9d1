"""The commands that are killed: small enough for hundreds of times, and each with all the files that it ever writes."""

from dataclasses import dataclass

TINY = (
    "task=demo task.train_size=96 task.validation_size=48 model=tiny model.hidden=32 model.heads=2 model.intermediate=64 "
    "training.epochs=2 training.batch_size=16 training.learning_rate=1e-3 hardware.calibration.examples=16"
)
CHIPS = "evaluation.chips=2 evaluation.times=[1,2592000] hardware.calibration.examples=16"
DIGITS = "task=digits task.train_images=60 device=soft_bounds training=ttv2 training.epochs=2 training.save_every=1e-4"
DIGITAL, AWARE = f"train {TINY} training=digital", f"train {TINY} training=hardware_aware"
UNSEEN = "evaluation.chips=0 evaluation.ideal_devices=false"
CHECKPOINT = "checkpoint=runs/demo-*"


@dataclass(frozen=True)
class Command:
    """A command line; `checkpoint=` may be a pattern, which one folder fits."""

    name: str  # in the table
    words: str
    before: tuple[str, ...] = ()  # commands that made what it goes on from
    force: bool = False  # does again what these did
    processes: int = 1


COMMANDS = (
    Command("train, digital", f"{DIGITAL} training.save_every=1 {CHIPS}"),
    Command("train, digital, a state after each epoch", f"{DIGITAL} training.save_every=100 {CHIPS}"),
    Command("train, hardware-aware", f"{AWARE} training.save_every=1 {CHIPS}"),
    Command("train in situ", f"train {DIGITS}"),
    Command("train in situ, statistics", f"train {DIGITS} training.statistics_every=5 training.average_products=500"),
    Command("evaluate", f"evaluate {CHECKPOINT} noise=pcm {CHIPS}", (f"{DIGITAL} {UNSEEN}",)),
    Command("evaluate, ablate", f"evaluate {CHECKPOINT} noise=pcm {CHIPS} ablate=true", (f"{DIGITAL} {UNSEEN}",)),
    Command("tune", f"tune {CHECKPOINT} tuning=dac_range {CHIPS} tune.examples=16 tune.compared=8 tune.judged=8",
            (f"{DIGITAL} {UNSEEN}",)),
    Command("place", f"place {CHECKPOINT} {CHIPS} place.group=block place.sets=2", (f"{DIGITAL} {UNSEEN}",)),
    Command("diagnose", f"diagnose {CHECKPOINT} {CHIPS}", (f"{DIGITAL} {UNSEEN}",)),
    Command("extract", "extract checkpoint=runs/digits-* extract.products=1000 extract.prune=[0.5]", (f"train {DIGITS}",)),
    Command("evaluate an extraction", f"evaluate checkpoint=runs/digits-*/extraction-* noise=pcm {CHIPS}",
            (f"train {DIGITS}", "extract checkpoint=runs/digits-* extract.products=1000")),
    Command("train -m", f"train -m {DIGITAL[6:]} training.save_every=1 {CHIPS} seed=0,1"),
    Command("train -m, two at a time", f"train -m {DIGITS} seed=0,1 runtime.jobs=2", processes=3),
    Command("evaluate -m", f"evaluate -m {CHECKPOINT} noise=pcm,pcm_reduced {CHIPS}", (f"{DIGITAL} {UNSEEN}",)),
    Command("train, force=true", f"{DIGITAL} training.save_every=1 {CHIPS} force=true", (f"{DIGITAL} {CHIPS}",), True),
    Command("evaluate, force=true", f"evaluate {CHECKPOINT} noise=pcm {CHIPS} evaluation.also=[pcm_reduced] force=true",
            (f"{DIGITAL} {CHIPS}",), True),
    Command("train best_of=2, force=true", f"{DIGITAL} training.save_every=1 {CHIPS} best_of=2 force=true",
            (f"{DIGITAL} {CHIPS} best_of=2",), True),
    Command("publish", f"publish {CHECKPOINT} folder=runs/published", (f"{AWARE} {CHIPS}",)),
    Command("factsheet", f"factsheet {CHECKPOINT}", (f"{AWARE} {CHIPS}",)),
    Command("report", "report runs", (f"{DIGITAL} {CHIPS}", f"train {DIGITS}")),
    Command("tables", "tables runs", (f"{DIGITAL} {CHIPS}", f"{AWARE} {CHIPS}", f"train {DIGITS}")),
)  # fmt: skip
