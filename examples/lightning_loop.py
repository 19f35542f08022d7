"""Guidance in Lightning: the loss is a module of the LightningModule, and holds the net."""

from __future__ import annotations

import torch
from data import collate, squares
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from guidance import GuidedLoss, evaluate
from guidance.models import build_model


class Guided(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        net = build_model("resnet8", num_classes=3)
        self.loss = GuidedLoss(net, weight=0.5, depth="final", reduction="mean", classification="cross_entropy")

    def training_step(self, batch: tuple[Tensor, Tensor, list[Tensor | None]], index: int) -> Tensor:
        found = self.loss(*batch)
        self.log_dict(dict(found.terms), batch_size=len(batch[0]))
        return found.loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


if __name__ == "__main__":
    torch.manual_seed(0)
    module = Guided()
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(squares(96, annotated=0.25), 16, shuffle=True, collate_fn=collate))
    found = evaluate(module.loss.model, squares(48, seed=1), depth="final", classification="cross_entropy")
    print(f"accuracy {found['accuracy']:.3f}, EPG {found['epg']:.3f}")
