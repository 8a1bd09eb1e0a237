"""Hugging Face's Trainer: a callback measures while gradients accumulate. Needs the extra `huggingface`.

python examples/huggingface_trainer.py
"""

import tempfile

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from adam_minibatch_noise.advice import advise
from adam_minibatch_noise.callbacks.huggingface import NoiseScaleCallback


class Network(nn.Module):
    """Any model that returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return loss and logits."""
        logits = self.layers(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


torch.manual_seed(0)
inputs = torch.randn(2048, 20)
labels = (inputs[:, :5].sum(1) + 2 * torch.randn(2048) > 0).long()
rows = [{"inputs": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]

noise = NoiseScaleCallback()
with tempfile.TemporaryDirectory() as folder:
    settings = TrainingArguments(
        folder,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=4,
        num_train_epochs=5,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        logging_steps=50,
        disable_tqdm=True,
    )
    Trainer(Network(), settings, train_dataset=rows, callbacks=[noise]).train()
found = noise.result()
print(found)
print(advise(2048, 64, found, n_epochs=5))
