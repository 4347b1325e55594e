"""What both stages of a refinement share: where they run, their batches, rate and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compiler.errors import CompileError
from compiler.refine.settings import RefineSettings
from hw.fixed import Ints

WARMUP = 10
"""Steps in which the rate rises."""
GOAL = "goal"
"""Name of the parameters that move indices (`compiler.refine.parameters.VectorParameters`)."""
CHOOSE_STEPS = 4
"""Steps after which indices are chosen anew."""
TOLERANCE = 1.02
"""An epoch may raise the loss by this factor: its windows come in another order."""
LATEST, RISE = 8, 1.5
"""An epoch ends early when its latest steps' mean loss has risen by this factor."""
BETAS = (0.9, 0.95)


def device_of(settings: RefineSettings) -> torch.device:
    """The device that the settings name; auto is a GPU where there is one.

    Raises CompileError for a device that torch does not have.
    """
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(settings.device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        line = str(error).splitlines()[0]
        raise CompileError(f"refine: device {settings.device!r} cannot be used: {line}") from None
    return device


def dtype_of(settings: RefineSettings) -> torch.dtype:
    """Type of the products."""
    return torch.bfloat16 if settings.precision == "bfloat16" else torch.float32


def batches(windows: Sequence[Ints], settings: RefineSettings, epoch: int) -> Iterator[list[int]]:
    """Numbers of the windows of each step; windows of a step have the same length."""
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(windows))
    waiting: dict[int, list[int]] = {}
    for number in order.tolist():
        same = waiting.setdefault(len(windows[number]), [])
        same.append(number)
        if len(same) == settings.batch:
            yield waiting.pop(len(windows[number]))
    yield from waiting.values()


class Trainer:
    """Adam over a module's parameters, epoch by epoch, with a rate that rises, then falls.

    An epoch that makes the loss larger is undone and halves the rate of those behind it. module:
    has ``choose``; loss: of the windows with these numbers; epochs: all that there will be;
    largest: the highest rate.
    """

    def __init__(self, module: torch.nn.Module, loss: Callable[[list[int]], torch.Tensor],
                 windows: Sequence[Ints], settings: RefineSettings, epochs: int,
                 largest: float) -> None:
        self.module, self.loss = module, loss
        self.windows, self.settings = windows, settings
        self.steps, self.done, self.largest = epochs * self.count(), 0, largest
        self.trained = {name: part for name, part in module.named_parameters()
                        if part.requires_grad}
        goals = [part for name, part in self.trained.items() if name.endswith(GOAL)]
        others = [part for name, part in self.trained.items() if not name.endswith(GOAL)]
        groups = [{"params": others, "part": 1.0}, {"params": goals, "part": settings.index_rate}]
        self.optimizer = torch.optim.Adam([group for group in groups if group["params"]],
                                          betas=BETAS, fused=True)
        self.lowest = math.inf

    def count(self) -> int:
        """Steps of an epoch."""
        return sum(1 for _ in batches(self.windows, self.settings, 0))

    def measure(self) -> float:
        """Mean loss as it is now."""
        with torch.no_grad():
            losses: list[float] = [self.loss(numbers).item()
                                   for numbers in batches(self.windows, self.settings, 0)]
        return sum(losses) / len(losses)

    def epoch(self, number: int) -> float:
        """Go through all windows; the mean loss on the way, or the one before a step back."""
        before = {name: part.detach().clone() for name, part in self.trained.items()}
        losses: list[float] = []
        for numbers in batches(self.windows, self.settings, number):
            for group in self.optimizer.param_groups:
                group["lr"] = rate_at(self.done, self.steps, self.largest) * group["part"]
            loss = self.loss(numbers)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            self.done += 1
            if self.done % CHOOSE_STEPS == 0:
                self.module.choose()
            if sum(losses[-LATEST:]) > LATEST * RISE * self.lowest:
                losses = losses[-LATEST:]
                break
        self.done = (number + 1) * self.count()
        mean = sum(losses) / len(losses)
        if mean <= self.lowest * TOLERANCE:
            self.lowest = mean
        else:
            with torch.no_grad():
                for name, part in self.trained.items():
                    part.copy_(before[name])
            self.optimizer.state.clear()
            self.largest /= 2
        self.module.choose()
        return self.lowest

    def state(self) -> dict[str, Any]:
        """Everything from which a later run goes on."""
        return {"parameters": {name: part.detach() for name, part in self.trained.items()},
                "optimizer": self.optimizer.state_dict(), "done": self.done,
                "largest": self.largest, "lowest": self.lowest}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        with torch.no_grad():
            for name, part in self.trained.items():
                part.copy_(state["parameters"][name])
        self.module.choose()
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.largest = state["done"], state["largest"]
        self.lowest = state["lowest"]


def rate_at(step: int, steps: int, largest: float) -> float:
    """Adam's step size: a short rise, then half a cosine down to a twentieth."""
    part = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
    return largest * part * min(1.0, (step + 1) / WARMUP)


def save(path: Path | None, state: dict[str, Any]) -> None:
    """Keep a state on disk: written beside its place, then renamed."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load(path: Path | None) -> dict[str, Any] | None:
    """The state that was kept, None without one."""
    if path is None or not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
