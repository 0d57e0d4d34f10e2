"""The learning rate as a pure function of the optimizer step, and the trained layers as one of the epoch."""

import math
from dataclasses import dataclass

from rexnet.config.schema import OptimizerConfig, ScheduleConfig


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, half a cosine or steps, and a constant cool-down, as factors of the peak learning rate.

    The cosine starts where the warm-up ends. Steps are optimizer steps, so accumulation and the number of devices do
    not change it.
    """

    warmup_steps: int
    end_step: int
    first_factor: float
    last_factor: float
    milestones: tuple[int, ...] = ()
    """Steps from which the factor is a tenth of that before; if there are any, they take the place of the cosine."""

    def __call__(self, step: int) -> float:
        """Returns the factor at optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.first_factor + (1.0 - self.first_factor) * step / self.warmup_steps
        if step >= self.end_step:
            return self.last_factor
        if self.milestones:
            return float(0.1 ** sum(step >= milestone for milestone in self.milestones))
        progress = (step - self.warmup_steps) / (self.end_step - self.warmup_steps)
        return self.last_factor + (1.0 - self.last_factor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def build_schedule(config: ScheduleConfig, peak_lr: float, steps_per_epoch: int) -> Schedule:
    """Builds the configured schedule, with epochs counted in optimizer steps."""
    return Schedule(
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        end_step=config.epochs * steps_per_epoch,
        first_factor=config.warmup_lr / peak_lr,
        last_factor=config.min_lr / peak_lr,
        milestones=tuple(epoch * steps_per_epoch for epoch in config.milestones),
    )


def released_layers(config: OptimizerConfig, epoch: int, layers: int) -> int:
    """Returns how many of the backbone's `layers`, counted from the classifier, are trained in an epoch, from 0."""
    stage = max(0, epoch + 1 - config.freeze_backbone_epochs)
    return min(layers, math.ceil(layers * stage / (config.unfreeze_epochs + 1)))
