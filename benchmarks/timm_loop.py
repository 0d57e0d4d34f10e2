"""Trains with a plain loop over timm's parts, for `flowers_vs_timm.py`; arguments: ROOT EPOCHS WORKERS."""

import sys

import timm
import torch
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler


def main(root: str, epochs: int, workers: int) -> None:
    """Trains and prints the top-1 after each epoch."""
    model = timm.create_model("rexnet_100", num_classes=12).to(memory_format=torch.channels_last)
    common = {"input_size": (3, 128, 128), "batch_size": 32, "num_workers": workers, "use_prefetcher": False}
    train = create_loader(
        create_dataset("", root=root, split="train"),
        is_training=True,
        auto_augment="rand-m9-mstd0.5",
        re_prob=0.2,
        interpolation="random",
        **common,
    )
    val = create_loader(create_dataset("", root=root, split="test"), interpolation="bicubic", crop_pct=0.875, **common)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.05, weight_decay=1e-5, momentum=0.9)
    schedule = CosineLRScheduler(optimizer, t_initial=epochs, warmup_t=2, warmup_lr_init=1e-5)
    loss_of = LabelSmoothingCrossEntropy(0.1)
    for epoch in range(epochs):
        schedule.step(epoch)
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss_of(model(images.contiguous(memory_format=torch.channels_last)), labels).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            hits = [(model(images).argmax(1) == labels).sum().item() for images, labels in val]
        print(f"epoch {epoch} top1 {100 * sum(hits) / len(val.dataset):.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
