"""The learning rate as a pure function of the optimizer step, and the trained layers as one of the epoch."""

import math
from dataclasses import dataclass

from rexnet.config.schema import OptimizerConfig, ScheduleConfig


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, decay (half a cosine, steps or 1 - sqrt), constant cool-down, as factors of the peak.

    The cosine starts where the warm-up ends. Steps are optimizer steps, so accumulation and the number of devices do
    not change it.
    """

    warmup_steps: int
    end_step: int
    first_factor: float
    last_factor: float
    milestones: tuple[int, ...] = ()
    """Steps from which the factor is a tenth of that before; if there are any, they take the place of the cosine."""
    decay_step: int | None = None
    """Step up to which the factor is 1; it then falls as 1 - sqrt of the remaining way. None: cosine."""

    def __call__(self, step: int) -> float:
        """Returns the factor at optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.first_factor + (1.0 - self.first_factor) * step / self.warmup_steps
        if step >= self.end_step:
            return self.last_factor
        if self.milestones:
            return float(0.1 ** sum(step >= milestone for milestone in self.milestones))
        start = self.warmup_steps if self.decay_step is None else self.decay_step
        progress = max(0.0, (step - start) / (self.end_step - start))
        remaining = 0.5 * (1.0 + math.cos(math.pi * progress)) if self.decay_step is None else 1.0 - math.sqrt(progress)
        return self.last_factor + (1.0 - self.last_factor) * remaining


def build_schedule(config: ScheduleConfig, peak_lr: float, steps_per_epoch: int) -> Schedule:
    """Builds the configured schedule, with epochs counted in optimizer steps."""
    return Schedule(
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        end_step=config.epochs * steps_per_epoch,
        first_factor=config.warmup_lr / peak_lr,
        last_factor=config.min_lr / peak_lr,
        milestones=tuple(epoch * steps_per_epoch for epoch in config.milestones),
        decay_step=None if config.decay_epochs is None else (config.epochs - config.decay_epochs) * steps_per_epoch,
    )


def released_layers(config: OptimizerConfig, epoch: int, layers: int) -> int:
    """Returns how many of the backbone's `layers`, counted from the classifier, are trained in an epoch, from 0."""
    stage = max(0, epoch + 1 - config.freeze_backbone_epochs)
    return min(layers, math.ceil(layers * stage / (config.unfreeze_epochs + 1)))
