"""The part of training that all tasks share: optimizer, schedule, EMA, skipped steps, and their state."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from rexnet.checkpoints.checkpoint import build_description
from rexnet.config import RunConfig
from rexnet.data.keys import mix
from rexnet.data.sampling import MODEL
from rexnet.errors import DivergenceError
from rexnet.models.factory import find_body, layer_distances, split_parameters
from rexnet.models.weights import ENTRY
from rexnet.system.device import tune_convolutions
from rexnet.system.lightning_internals import grad_scaler
from rexnet.training.compiling import compile_steps
from rexnet.training.ema import averaged_tensors, build_ema, decay_at, update_ema
from rexnet.training.loss_window import LossWindow
from rexnet.training.nonfinite import NonFiniteGuard, propagate_nonfinite
from rexnet.training.optim import build_optimizer, climb, fit_optimizer_to_device
from rexnet.training.schedule import build_schedule, released_layers


class TrainingModule(pl.LightningModule):
    """A network with its optimizer, schedule, EMA and guard; all that callbacks and `run_training` know of a task.

    A task adds `training_step`, which passes its loss through `record_loss`, `trial_loss`, `show_images`, the steps of
    validation, and `class_names`. The schedule counts `steps_per_epoch` in optimizer steps.
    """

    metric_names: tuple[str, ...]
    """Metrics of a validation, logged as `val/NAME` and `val_ema/NAME`; the first decides which checkpoint is best."""
    class_names: tuple[str, ...] = ()

    def __init__(self, config: RunConfig, model: nn.Module, steps_per_epoch: int) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.ema_model = build_ema(model) if config.ema else None
        self.steps_per_epoch = steps_per_epoch
        by_layer = config.optimizer.layer_decay < 1 or config.optimizer.unfreeze_epochs
        distances = layer_distances(model) if by_layer else {}
        backbone = {id(parameter) for parameter in split_parameters(model)[0]}
        self.backbone = {
            parameter: max(1, distances.get(name, 1))
            for name, parameter in model.named_parameters()
            if id(parameter) in backbone and parameter.requires_grad
        }
        """Trained parameters of the backbone, with their distance from the classifier in layers."""
        self.guard = NonFiniteGuard()
        self.window = LossWindow()
        self.grad_norm = torch.zeros(())
        """L2 norm of the last gradient before clipping."""
        self.replays_graphs = False
        """True if training steps are CUDA graphs."""
        self._is_second_pass = False

    @property
    def monitored(self) -> str:
        """Metric that decides which checkpoint is best."""
        return f"{'val' if self.ema_model is None else 'val_ema'}/{self.metric_names[0]}"

    def record_loss(self, loss: Tensor, parts: Mapping[str, Tensor] | None = None) -> Tensor:
        """Adds a loss to the log's means and returns it, with a gradient that shows if it is not finite."""
        if not self._is_second_pass:
            self.window.add(loss, parts)
        return propagate_nonfinite(loss)

    def trial_loss(self, images: Tensor) -> Tensor:
        """Returns a training loss of images with random targets, to find out whether a step fits into memory."""
        raise NotImplementedError

    def show_images(self, batch: Any, number: int) -> Tensor:
        """Returns the first images of a batch, (N, 3, H, W) of 0..1, for TensorBoard."""
        raise NotImplementedError

    def log_validation(self, values: Mapping[str, Any]) -> None:
        """Logs metrics of a validation."""
        self.log_dict(dict(values), logger=False)
        for logger in self.loggers:  # directly, since Lightning's own step lags one behind
            logger.log_metrics({name: float(value) for name, value in values.items()}, step=self.global_step)
        self.log("epoch", float(self.current_epoch + 1), logger=False)  # counted from 1 in the names of checkpoints

    def on_fit_start(self) -> None:
        """Compiles the network for training where configured; validation calls its `forward` and stays eager."""
        if self.config.trainer.compile:
            checkpointing, sizes = self.config.model.grad_checkpointing, len(set(self.config.training_sizes))
            # Each size has its own graph, and so has each epoch that releases layers.
            torch._dynamo.config.recompile_limit += sizes + self.config.optimizer.unfreeze_epochs
            self.replays_graphs = compile_steps(
                self.model, self.config.trainer, checkpointing, self.trainer.world_size, sizes
            )

    def on_train_start(self) -> None:
        """Prepares a new or resumed run on its device."""
        self.on_train_epoch_start()  # Lightning skips that hook when a run resumes within an epoch
        steps = int(self.trainer.estimated_stepping_batches) - self.global_step
        images = steps * self.config.data.step_images // self.trainer.world_size
        tune_convolutions(images, self.config.trainer.deterministic)
        scales_loss = grad_scaler(self.trainer) is not None
        fit_optimizer_to_device(self.optimizers(use_pl_optimizer=False), scales_loss)
        self.guard.start(self.model)
        if self.ema_model is not None:
            self._averaged = averaged_tensors(self.ema_model), averaged_tensors(self.model)
        self.window.sums = self.window.sums.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Freezes layers of the backbone with their BatchNorm statistics in the configured first epochs."""
        if self.config.optimizer.frozen_epochs:
            layers = max(self.backbone.values(), default=1)
            released = released_layers(self.config.optimizer, self.current_epoch, layers)
            for parameter, distance in self.backbone.items():
                parameter.requires_grad_(distance <= released)
            for module in (find_body(self.model) or self.model).modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(self.backbone.get(module.weight, 1) <= released)
        if self.ema_model is not None:
            self.ema_model.eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Makes dropout and drop-path a function of (seed, epoch, batch, rank), so that a resumed run repeats them."""
        if batch_idx == 0:
            self.window.start_epoch()
        self._seed(batch_idx)
        if self.replays_graphs:  # the next replay overwrites gradients, which are part of the graph
            self.trainer.optimizers[0].zero_grad()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Measures the gradient, clips it where configured, and checks that it is finite."""
        clip = self.config.optimizer.clip_grad
        if clip is not None:
            self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        else:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            self.grad_norm = torch.nn.utils.get_total_norm(gradients)
        self.guard.check(self.grad_norm, optimizer)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Updates weights and EMA; a bad gradient changes neither."""
        closure = optimizer_closure
        if closure is not None and self.config.optimizer.sam_rho is not None:
            closure = partial(self.pass_twice, closure, batch_idx, self.config.optimizer.sam_rho)
        super().optimizer_step(epoch, batch_idx, optimizer, closure)
        self.guard.rollback(self.optimizers(use_pl_optimizer=False))
        config = self.config.ema
        if config is not None:
            decay = decay_at(self.global_step + 1, config, self.config.schedule.total_epochs, self.steps_per_epoch)
            if decay < 1:
                update_ema(*self._averaged, decay, skip=None if config.last_epochs else self.guard.bad)

    def pass_twice(self, closure: Callable[[], Any], batch_idx: int, rho: float) -> Any:
        """Computes the gradient of SAM, where `closure` computes that of the current weights; returns their loss.

        Both passes have the same dropout; the statistics of BatchNorm and the logged loss are those of the first.
        Several processes average the gradients of both, so the weights move by the gradient of the whole batch.
        """
        loss = closure()
        trained: list[Tensor] = [each for each in self.model.parameters() if each.grad is not None]
        tensors = [*trained, *self.model.buffers()]
        kept = [tensor.detach().clone() for tensor in tensors]
        climb(trained, rho)
        self._seed(batch_idx)
        self._is_second_pass = True
        closure()
        self._is_second_pass = False
        with torch.no_grad():
            torch._foreach_copy_(tensors, kept)
        return loss

    def _seed(self, batch_idx: int) -> None:
        torch.manual_seed(mix(self.config.seed, self.current_epoch, batch_idx, self.global_rank, MODEL) >> 1)

    def on_validation_start(self) -> None:
        """Gives all processes the BatchNorm statistics of the first, so that they validate the same network."""
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Builds the optimizer, and the schedule that is stepped with it."""
        scales_loss = grad_scaler(self.trainer) is not None
        optimizer = build_optimizer(self.model, self.config.optimizer, scales_loss)
        schedule = build_schedule(self.config.schedule, self.config.optimizer.lr, self.steps_per_epoch)
        scheduler = LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the state of the guard and of the logged loss, and the description of the network."""
        checkpoint["guard"] = {"streak": self.guard.streak}
        checkpoint["loss_window"] = self.window.state_dict()
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        checkpoint[ENTRY] = build_description(self.config, self.class_names, metrics, self.steps_per_epoch)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores that state."""
        self.guard.streak = checkpoint["guard"]["streak"]
        self.window.load_state_dict(checkpoint["loss_window"])

    def diverged(self, reason: str) -> DivergenceError:
        """Returns the error that stops a run, with its remedies."""
        return DivergenceError(
            f"training stopped: {reason}; to continue from the last checkpoint, lower optimizer.lr "
            f"({self.config.optimizer.lr:g}), lengthen schedule.warmup_epochs, set optimizer.clip_grad, or use "
            f"trainer.precision=fp32"
        )
