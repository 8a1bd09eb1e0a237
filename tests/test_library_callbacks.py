"""Callbacks in the real trainers, where those are installed: they measure what a loop over the same batches does."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale import NoiseScaleMeter

pytestmark = pytest.mark.filterwarnings("ignore")
N, MICRO, PARTS = 70, 4, 4
"""18 micro-batches an epoch, the last of 2 samples: the fifth step has two that differ, and is left out."""


def data():
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(N, 6, generator=generator)
    return x, x.sum(1, keepdim=True) + torch.randn(N, 1, generator=generator)


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


def plain_loop(n_epochs, lr=0.05, max_norm=0.01):
    """The same training, in the order of the samples, as a loop of one's own."""
    model, (x, y) = network(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    meter = NoiseScaleMeter(model, MICRO * PARTS, N)
    for _ in range(n_epochs):
        batches = list(zip(x.split(MICRO), y.split(MICRO), strict=True))
        for i in range(0, len(batches), PARTS):
            parts = batches[i : i + PARTS]
            for inputs, targets in parts:
                (nn.functional.mse_loss(model(inputs), targets) / len(parts)).backward()
                meter.micro_batch()
            meter.step() if len(parts) == PARTS else meter.skip(6)
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            optimizer.zero_grad()
    return meter.result(), model


def same(found, model, expected, rtol=1e-4):
    noise, other = expected
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), two.detach(), rtol=1e-4, atol=1e-6)
    assert found.n_measurements == noise.n_measurements
    np.testing.assert_allclose(
        [found.grad_sq_norm, found.tr_sigma, found.low, found.high],
        [noise.grad_sq_norm, noise.tr_sigma, noise.low, noise.high],
        rtol=rtol,
    )


# ------------------------------------------------------------------------------------- Hugging Face
class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, inputs, labels):
        return {"loss": nn.functional.mse_loss(self.network(inputs), labels)}


def hugging_face(tmp_path, callback, n_epochs=3, **changes):
    transformers = pytest.importorskip("transformers")
    settings = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": PARTS,
        "num_train_epochs": n_epochs,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.01,
        "optim": "sgd",
        "weight_decay": 0.0,
        "logging_steps": 5,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    } | changes
    model, (x, y) = Wrapped(), data()

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_args, **_kwargs):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    rows = [{"inputs": one, "labels": two} for one, two in zip(x, y, strict=True)]
    trainer = InOrder(
        model, transformers.TrainingArguments(**settings), train_dataset=rows, callbacks=[callback]
    )
    trainer.train()
    return trainer, model


def test_hugging_face_trainer_measures_what_a_loop_of_ones_own_does(tmp_path):
    pytest.importorskip("transformers")
    from adam_minibatch_noise.callbacks.huggingface import NoiseScaleCallback

    callback = NoiseScaleCallback()
    trainer, model = hugging_face(tmp_path, callback)
    same(callback.result(), model.network, plain_loop(3))
    assert callback.meter.batch_size == MICRO * PARTS
    logged = [entry for entry in trainer.state.log_history if "noise_scale" in entry]
    assert len(logged) == 3
    assert logged[-1]["noise_scale_low"] <= logged[-1]["noise_scale"] <= logged[-1]["noise_scale_high"]
    assert not any(param._post_accumulate_grad_hooks for param in model.parameters())


def test_hugging_face_trainer_without_accumulation_is_refused(tmp_path):
    pytest.importorskip("transformers")
    from adam_minibatch_noise.callbacks.huggingface import NoiseScaleCallback

    with pytest.raises(InputError, match="gradient_accumulation_steps is 1, needed: at least 2"):
        hugging_face(tmp_path, NoiseScaleCallback(), gradient_accumulation_steps=1)
    with pytest.raises(InputError, match="read before training has begun"):
        NoiseScaleCallback().result()


# ------------------------------------------------------------------------------------- Lightning
def lightning_fit(tmp_path, callback, n_epochs=3, **changes):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network()
            self.automatic_optimization = not changes.get("manual")

        def training_step(self, batch, _):
            inputs, targets = batch
            return nn.functional.mse_loss(self.network(inputs), targets)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    settings = {
        "max_epochs": n_epochs,
        "accumulate_grad_batches": PARTS,
        "gradient_clip_val": 0.01,
        "accelerator": "cpu",
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        "default_root_dir": tmp_path,
    } | {key: value for key, value in changes.items() if key not in ("manual", "resume")}
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=MICRO)
    module, trainer = Module(), lightning.Trainer(callbacks=[callback], **settings)
    trainer.fit(module, loader, **({"ckpt_path": changes["resume"]} if "resume" in changes else {}))
    return trainer, module


def test_lightning_trainer_measures_what_a_loop_of_ones_own_does(tmp_path):
    pytest.importorskip("lightning")
    from adam_minibatch_noise.callbacks.lightning import NoiseScaleCallback

    callback = NoiseScaleCallback()
    _, module = lightning_fit(tmp_path, callback)
    same(callback.result(), module.network, plain_like_lightning(3))
    assert not any(param._post_accumulate_grad_hooks for param in module.parameters())


def plain_like_lightning(n_epochs):
    """Lightning divides the last, shorter step of an epoch by 4 too; clipping makes that of no effect."""
    return plain_loop(n_epochs)


def test_lightning_logs_and_goes_on_from_a_checkpoint(tmp_path):
    lightning = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.loggers import CSVLogger

    from adam_minibatch_noise.callbacks.lightning import NoiseScaleCallback

    first = NoiseScaleCallback()
    trainer, _ = lightning_fit(
        tmp_path, first, 2, logger=CSVLogger(tmp_path), log_every_n_steps=2, enable_checkpointing=True
    )
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    assert "noise_scale_low" in next(tmp_path.rglob("metrics.csv")).read_text()
    second = NoiseScaleCallback()
    lightning_fit(tmp_path, second, 3, resume=tmp_path / "run.ckpt", enable_checkpointing=True)
    assert second.result().n_measurements == plain_loop(3)[0].n_measurements > first.result().n_measurements
    assert lightning.__name__ == "lightning.pytorch"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate_grad_batches": 1}, "accumulate_grad_batches is 1, needed: at least 2"),
        (
            {"manual": True, "gradient_clip_val": None, "accumulate_grad_batches": 1},
            "automatic_optimization is False",
        ),
    ],
)
def test_lightning_trainer_without_accumulation_is_refused(tmp_path, changes, message):
    pytest.importorskip("lightning")
    from adam_minibatch_noise.callbacks.lightning import NoiseScaleCallback, n_rows

    with pytest.raises(InputError, match=message):
        lightning_fit(tmp_path, NoiseScaleCallback(), **changes)
    with pytest.raises(InputError, match="read before training has begun"):
        NoiseScaleCallback().result()
    with pytest.raises(InputError, match="no tensor with rows"):
        n_rows({"a": [1, "b"], "c": torch.tensor(1.0)})
    assert n_rows([{"a": 3, "b": (torch.zeros(5, 2),)}, torch.zeros(4)]) == 4


@pytest.mark.parametrize(("name", "package"), [("huggingface", "transformers"), ("lightning", "lightning")])
def test_without_the_package_the_import_names_it(monkeypatch, name, package):
    import importlib

    for module in [each for each in sys.modules if each.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"adam_minibatch_noise.callbacks.{name}", raising=False)
    with pytest.raises(ImportError, match=package):
        importlib.import_module(f"adam_minibatch_noise.callbacks.{name}")
