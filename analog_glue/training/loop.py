"""The fine-tuning loop that all modes share: AdamW, linear schedule with warm-up, evaluation per epoch, exact resume.

Everything random in a step is a function of (seed, step): the order of the data, dropout, and the noise of analog layers. A run
that is killed and started again therefore ends in the same bits as one that never stopped.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from analog_glue.errors import UserError
from analog_glue.interruption import Held, holds
from analog_glue.progress import Progress
from analog_glue.runs.folder import BEST, STATE
from analog_glue.runs.tensors import load_optimizer_tensors, load_tensors, optimizer_tensors, save_tensors
from analog_glue.seeding import key
from analog_glue.training.mode import Preparation, TrainingMode


@dataclass(frozen=True)
class TrainingData:
    """Batches as index lists that depend on (seed, epoch) alone, and how indices become tensors."""

    order: Callable[[int], list[list[int]]]  # epoch → batches of example indices
    batch: Callable[[Sequence[int]], dict[str, Tensor]]


@dataclass(frozen=True)
class TrainingHistory:
    """What happened: one entry per epoch, and which epoch was kept."""

    epochs: list[dict[str, float]]
    best_epoch: int
    steps: int
    seconds: float


def fit(
    model: nn.Module,
    mode: TrainingMode,
    data: TrainingData,
    score: Callable[[nn.Module], dict[str, float]],
    headline: str,
    preparation: Preparation,
    seed: int,
    folder: Path,
    device: str,
    log: Callable[[str], None] = print,
) -> tuple[nn.Module, TrainingHistory]:
    """Train `model`, which `mode` prepared with `preparation`, and leave it with the weights of the selected epoch.

    Args:
        score: Scores the model on validation, in points; called in eval mode, under the clock's "validation" stream.
        headline: The metric of `score` that selects the epoch.
        folder: Where the resumable state lives; an interrupted run continues from it.
        device: "cpu" or "cuda".

    Returns:
        The model (on the CPU) and its history.

    Raises:
        UserError: gradient checkpointing of a model that cannot have it.
    """
    clock = preparation.clock
    AcceleratorState._reset_state()  # else a second run in this process could not have another precision
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision="bf16" if mode.precision == "bf16" else "no",
        gradient_accumulation_steps=mode.accumulate,
    )
    if mode.gradient_checkpointing:
        _enable_gradient_checkpointing(model)
    groups = [group for group in mode.parameter_groups(model) if group["params"]]
    peaks = [group["lr"] for group in groups]
    optimizer = torch.optim.AdamW(groups, fused=True)
    plain = model  # the module itself: what `accelerator.prepare` returns may be wrapped
    model, optimizer = accelerator.prepare(model, optimizer)

    batches_per_epoch = len(_micro_batches(data.order(0), mode.accumulate)) // mode.accumulate
    steps_per_epoch = math.ceil(batches_per_epoch / accelerator.num_processes)
    total = mode.epochs * steps_per_epoch
    if mode.max_steps is not None:
        total = min(total, mode.max_steps)
    if total == 0:
        model.eval()
        as_it_is = {"epoch": 0, "step": 0, **score(model)}
        accelerator.free_memory()
        return plain.to("cpu").eval(), TrainingHistory([as_it_is], 0, 0, 0.0)
    warmup = math.ceil(mode.warmup * total)
    if not mode.selectable((total - 1) // steps_per_epoch):
        raise UserError(
            f"Setting `training.max_steps` must reach beyond `training.digital_epochs`, but {total} steps end in epoch "
            f"{(total - 1) // steps_per_epoch + 1}, before the network is put on tiles. Write training.digital_epochs=0."
        )

    alone = accelerator.num_processes == 1  # of several, one that leaves would let the others wait for its gradients
    step, best, best_epoch, seconds = 0, -math.inf, -1, 0.0
    history: list[dict[str, float]] = []
    loss_sum, loss_count = torch.zeros((), dtype=torch.float64, device=accelerator.device), 0
    if (folder / STATE).exists():
        tensors, notes = load_tensors(folder / STATE)
        plain.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        load_optimizer_tensors(optimizer, tensors)
        step, history, best_epoch, seconds = notes["step"], notes["history"], notes["best_epoch"], notes["seconds"]
        best = notes["best"] if best_epoch >= 0 else -math.inf
        loss_sum, loss_count = loss_sum + notes["loss_sum"], notes["loss_count"]
        log(f"Resuming after step {step} of {total}.")

    def mean_of_processes(value: Tensor) -> Tensor:
        return value if alone else accelerator.reduce(value, "mean")

    def save() -> None:
        loss_so_far = mean_of_processes(loss_sum).item()
        if accelerator.is_main_process:
            tensors = {f"model.{name}": value for name, value in plain.state_dict().items()}
            tensors.update(optimizer_tensors(optimizer))
            notes = {
                "step": step,
                "history": history,
                "best": best if best_epoch >= 0 else 0.0,
                "best_epoch": best_epoch,
                "loss_sum": loss_so_far,
                "loss_count": loss_count,
                "seconds": seconds + time.monotonic() - started,
            }
            save_tensors(folder / STATE, tensors, notes)

    def note() -> str:
        return f"loss {loss.item():.4f}"

    started = time.monotonic()
    with (
        Progress("training", total, "step", step, log, shown=accelerator.is_main_process) as progress,
        holds() if alone else nullcontext(Held()) as asked,
    ):
        while step < total:
            epoch = step // steps_per_epoch
            order = _micro_batches(data.order(epoch), mode.accumulate)
            mode.begin_attention(plain, epoch, step > epoch * steps_per_epoch, preparation)
            mode.begin_epoch(plain, epoch, step > epoch * steps_per_epoch, preparation)
            done_in_epoch = (step - epoch * steps_per_epoch) * mode.accumulate * accelerator.num_processes
            loader = accelerator.prepare(DataLoader(_Indexed(data), batch_sampler=order[done_in_epoch:], collate_fn=_as_is))
            model.train()
            for part, batch in enumerate(loader):
                if part % mode.accumulate == 0:
                    rank = accelerator.process_index
                    # One network: its processes see the same weights, so the same weight noise, and examples of their own.
                    clock.start(seed, "training", step, rank, shared=(seed, "training", step, 0))
                    torch.manual_seed(key(seed, "dropout", step, rank))  # dropout knows no generator but the global one
                    rates = [peak * _schedule(step, warmup, total) for peak in peaks]
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate
                with accelerator.accumulate(model):
                    loss = model(**batch).loss
                    loss_sum += loss.detach()
                    loss_count += 1
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(plain.parameters(), mode.max_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                if part % mode.accumulate < mode.accumulate - 1:
                    continue
                mode.after_step(plain)
                step += 1
                progress.update(1, note)
                if step >= total or step % steps_per_epoch == 0:
                    break
                if step % mode.save_every == 0 or asked():
                    save()
                if asked():
                    asked.obey()
            mean_loss = mean_of_processes(loss_sum).item() / max(1, loss_count)
            loss_sum, loss_count = torch.zeros_like(loss_sum), 0
            clock.start(seed, "validation", step)
            model.eval()
            scores = score(model)
            history.append({"epoch": epoch + 1, "step": step, "loss": mean_loss, **scores})
            progress.say(f"  epoch {epoch + 1}: loss {mean_loss:.4f}, " + ", ".join(f"{k} {v:.2f}" for k, v in scores.items()))
            value = scores[headline] if mode.select_by == "headline" else float(step)
            # A nan never beats anything, and is replaced by the next epoch's number.
            if mode.selectable(epoch) and (best_epoch < 0 or value > best):
                best, best_epoch = (value if value == value else -1e9), len(history) - 1
                if accelerator.is_main_process:
                    save_tensors(folder / BEST, dict(plain.state_dict()))
            save()
            if asked():
                asked.obey()
    accelerator.wait_for_everyone()
    tensors, _ = load_tensors(folder / BEST)
    plain.to("cpu").load_state_dict(tensors)
    accelerator.wait_for_everyone()  # the main process deletes the file next
    accelerator.free_memory()
    return plain.eval(), TrainingHistory(history, best_epoch, step, seconds + time.monotonic() - started)


def _schedule(step: int, warmup: int, total: int) -> float:
    """Share of the peak learning rate at `step`: linear up over `warmup` steps, linear down to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    return (total - step) / max(1, total - warmup)


def _micro_batches(batches: list[list[int]], parts: int) -> list[list[int]]:
    """Every batch cut into `parts` parts of nearly equal size; a batch with fewer examples than parts repeats some of them."""
    return [batch[part::parts] or [batch[part % len(batch)]] for batch in batches for part in range(parts)]


def _enable_gradient_checkpointing(model: Any) -> None:
    """`model`: of transformers; one that does not know the word has no such method either."""
    groups = getattr(model.config, "num_hidden_groups", None)
    if groups is not None and groups < model.config.num_hidden_layers:
        raise UserError(
            "Setting `training.gradient_checkpointing` must be false for models that share layers (ALBERT), but is true: "
            "the noise of a shared layer could not be repeated in the recomputed pass."
        )
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


class _Indexed(Dataset[dict[str, Tensor]]):
    """Data set of whole batches: `batch_sampler` hands out index lists, `__getitems__` turns one into tensors."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._data.batch([index])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return self._data.batch(indices)


def _as_is(batch: Any) -> Any:
    return batch
