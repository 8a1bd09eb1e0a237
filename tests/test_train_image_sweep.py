"""The study on images: against torch's own optimisers, resumed to the byte, and without a look at the test split."""

import csv
import gzip
import json
import math
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from adam_minibatch_noise.errors import InputError
from common.config import flags
from common.files import locked
from tests.kills import kill_in_the_middle
from train import image_sweep
from train.images import batches, loop, study
from train.images.datasets import Images
from train.images.loop import train
from train.images.make_optimizer import make
from train.images.networks import build
from train.images.settings import Settings
from train.runtime import checkpoints
from train.runtime.sample_order import epoch_order

CPU = torch.device("cpu")
TINY = Settings(width=2, batch_size=8, lr=1e-2, n_epochs=3)
FLAGS = ["--width", "2", "--max-train-images", "64", "--no-progress"]


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on two threads, and far slower where other processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy(n_images=40, n_channels=1, size=8, seed=5):
    """Noise with a bright spot whose place is the class."""
    rng = np.random.default_rng(seed)

    def split(n):
        labels = rng.integers(3, size=n)
        pixels = rng.integers(60, size=(n, n_channels, size, size)).astype(np.uint8)
        pixels[np.arange(n), :, labels, labels] = 200
        return pixels, labels

    return Images("digits", split(n_images), split(13), split(11), n_classes=3, sha256=f"toy {n_images}")


def on_cpu(images, n_train=0, channels_last=False):
    return batches.to_device(images, n_train, channels_last, CPU)


@pytest.fixture(scope="module")
def data():
    return on_cpu(toy())


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def columns(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_training_matches_torch_optim(optimizer, data):
    """A loop of a few lines with torch's own optimiser: Adam's decay is in the gradient, AdamW's is not."""
    settings = replace(TINY, optimizer=optimizer, weight_decay=0.3, n_epochs=2, seed=4, batch_size=10)
    torch.manual_seed(4)
    model = build("small-cnn", "layer", 2, 1, 8, 3)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    reference = kind(model.parameters(), lr=1e-2, weight_decay=0.3)
    pixels, labels = data.train
    inputs = (pixels.float() - pixels.float().mean()) / pixels.float().std(correction=0)
    expected = []
    for epoch in range(2):
        total = 0.0
        for batch in epoch_order(40, 1, True, 4, epoch).split(10):
            loss = cross_entropy(model(inputs[batch]), labels[batch])
            reference.zero_grad()
            loss.backward()
            reference.step()
            total += loss.item() / 4
        expected.append(total)
    rows = train(settings, data)["rows"]
    np.testing.assert_allclose([row["train_loss"] for row in rows], expected, rtol=1e-4)


def test_adam_and_adamw_are_one_without_decay_and_two_with(data):
    def losses(optimizer, weight_decay):
        rows = train(replace(TINY, optimizer=optimizer, weight_decay=weight_decay), data)["rows"]
        return columns(rows, "train_loss", "test_loss")

    assert losses("adam", 0.0) == losses("adamw", 0.0)
    assert losses("adam", 0.1) != losses("adamw", 0.1)


def test_rows_are_what_was_trained_and_evaluated(data):
    outcome = train(replace(TINY, n_epochs=12), data)
    rows = outcome["rows"]
    assert columns(rows, "epoch", "step", "n_images") == [(i, 5 * i, 40 * i) for i in range(1, 13)]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.3
    assert rows[-1]["test_error"] < 0.2
    assert outcome["n_params"] == 18 + 72 + 2 * 6 + 4 * 16 * 3 + 3
    assert outcome["images_per_second"] > 0
    assert {row["status"] for row in rows} == {outcome["status"]} == {"ok"}


def test_train_loss_and_error_are_means_over_the_images_trained_on(data):
    """With a step of nearly nothing they are those of the initial network on the training split."""
    still = replace(TINY, lr=1e-30, n_epochs=1)
    row = train(still, data)["rows"][0]
    swapped = batches.OnDevice(**{**vars(data), "valid": data.train})
    same = train(still, swapped)["rows"][0]
    assert row["train_loss"] == pytest.approx(same["valid_loss"], rel=1e-5)
    assert row["train_error"] == same["valid_error"]
    assert row["train_loss"] != pytest.approx(row["valid_loss"], rel=1e-3)


def test_test_split_decides_nothing(data):
    """With other test images the run is the same but for its test columns."""
    other = batches.OnDevice(**{**vars(data), "test": (data.test[0], (data.test[1] + 1) % 3)})
    ours, theirs = train(TINY, data)["rows"], train(TINY, other)["rows"]
    names = [name for name in ours[0] if not name.startswith("test_")]
    assert columns(ours, *names) == columns(theirs, *names)
    assert columns(ours, "test_loss") != columns(theirs, "test_loss")


def test_evaluation_matches_the_mean_over_images(data, monkeypatch):
    torch.manual_seed(0)
    model = build("small-cnn", "batch", 2, 1, 8, 3)
    model(data.normalised(data.train[0]))  # running moments
    losses, wrong = [], []
    model.eval()
    for image, label in zip(*data.valid, strict=True):
        logits = model(data.normalised(image[None]))[0].detach().double()
        losses.append(float(torch.logsumexp(logits, 0) - logits[label]))
        wrong.append(int(logits.argmax() != label))
    monkeypatch.setattr(batches, "EVALUATION_BATCH", 4)
    model.train()
    loss, error = batches.evaluate(model, lambda x: model(data.normalised(x)), data.valid)
    assert (loss, error) == pytest.approx((np.mean(losses), np.mean(wrong)), rel=1e-6)
    assert model.training


def test_images_are_normalised_by_the_training_split():
    images = toy(n_channels=3)
    data = on_cpu(images, n_train=20)
    assert len(data.train[1]) == 20
    values = images.train[0][:20] / 1.0
    ours = data.normalised(data.valid[0]).numpy()
    expected = (images.valid[0] - values.mean((0, 2, 3))[:, None, None]) / values.std((0, 2, 3))[
        :, None, None
    ]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_micro_batches_give_the_gradient_of_the_batch(data):
    whole = train(replace(TINY, batch_size=20), data)["rows"]
    parts = train(replace(TINY, batch_size=20, micro_batch_size=6), data)["rows"]  # 6 + 6 + 6 + 2
    np.testing.assert_allclose(
        columns(whole, "train_loss", "valid_loss"), columns(parts, "train_loss", "valid_loss"), rtol=1e-4
    )


def test_invariant_adamw_with_one_micro_batch_is_adamw_and_with_more_is_not(data):
    def losses(**changes):
        rows = train(replace(TINY, batch_size=20, weight_decay=0.1, **changes), data)["rows"]
        return np.array(columns(rows, "train_loss", "valid_loss"))

    plain = losses()
    np.testing.assert_allclose(losses(optimizer="invariant-adamw"), plain, rtol=1e-4)
    apart = losses(optimizer="invariant-adamw", micro_batch_size=5)
    assert np.abs(apart / plain - 1).max() > 1e-2


def test_invariant_scaling_brings_batch_sizes_together_as_lr_falls(data):
    """Distance in validation loss after three epochs, batch 10 against batch 40 of micro-batches of 10: O(lr)."""

    def distance(lr):
        common = {"optimizer": "invariant-adamw", "scaling": "invariant", "reference_batch_size": 10}
        common |= {"micro_batch_size": 10, "lr": lr, "beta1": 0.9, "beta2": 0.99}
        ends = [
            train(replace(TINY, batch_size=b, **common), data)["rows"][-1]["valid_loss"] for b in (10, 40)
        ]
        return abs(ends[0] - ends[1])

    assert distance(1e-4) < 0.2 * distance(1e-3)


def test_scaling_reaches_the_optimizer():
    params = [torch.zeros(2, requires_grad=True)]
    settings = replace(TINY, scaling="square-root", reference_batch_size=2, beta1=0.9, beta2=0.99, eps=1e-6)
    group = make(settings, params).param_groups[0]  # kappa = 4
    assert group["lr"] == pytest.approx(2e-2)
    assert group["betas"] == pytest.approx((0.6, 0.96))
    assert group["eps"] == pytest.approx(5e-7)
    group = make(replace(settings, scaling="none"), params).param_groups[0]
    assert (group["lr"], group["betas"], group["eps"]) == (1e-2, (0.9, 0.99), 1e-6)
    with pytest.raises(InputError, match="makes beta1 0"):
        make(replace(settings, batch_size=40), params)


def test_settings_without_meaning_are_refused_and_not_recorded(data, fails, tmp_path):
    out = ["--out", tmp_path / "s.csv"]
    complaint = fails(image_sweep.main, *FLAGS, "--n-steps", 3, "--n-epochs", 20, *out)
    assert "--n-epochs is 20, allowed only with --n-steps 0 (--n-steps is 3)" in complaint
    complaint = fails(image_sweep.main, *FLAGS, "--reference-batch-size", 32, *out)
    assert "--reference-batch-size is 32, allowed only with --scaling invariant or square-root" in complaint
    row = train(replace(TINY, n_steps=1), data)["rows"][0]
    assert (row["n_epochs"], row["reference_batch_size"], row["n_steps"]) == (None, None, 1)
    assert train(replace(TINY, n_epochs=1), data)["rows"][0]["n_epochs"] == 1


def test_a_network_is_not_compiled_for_a_cpu(data, fails, tmp_path):
    """Code that torch generates for normalisation there reads or writes outside its arrays."""
    complaint = fails(image_sweep.main, *FLAGS, "--device", "cpu", "--compile", "--out", tmp_path / "s.csv")
    assert "--compile is on, allowed on a CPU: --no-compile" in complaint
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="--no-compile"):
        train(TINY, data, compiled=True)


def test_n_steps_counts_steps_and_evaluate_every_counts_epochs(data):
    rows = train(replace(TINY, n_steps=13, evaluate_every=2), data)["rows"]  # 5 steps an epoch
    assert columns(rows, "step", "epoch") == [(10, 2.0), (13, 2.6)]
    plain = train(replace(TINY, n_epochs=2), data)["rows"]
    assert rows[0]["valid_loss"] == plain[1]["valid_loss"]
    means = [row["train_loss"] for row in plain]
    assert rows[0]["train_loss"] == pytest.approx(sum(means) / 2, rel=1e-12)


def test_augmented_images_are_crops_reflected_half_the_time():
    torch.manual_seed(1)
    images = torch.arange(1, 1 + 200 * 2 * 64, dtype=torch.int32).reshape(200, 2, 8, 8)
    out, padded = batches.augmented(images), torch.nn.functional.pad(images, (4, 4, 4, 4))
    seen = []
    for i in range(200):
        found = [
            (row, column, reflected)
            for row in range(9)
            for column in range(9)
            for reflected in (False, True)
            if torch.equal(
                out[i],
                padded[i, :, row : row + 8, column : column + 8].flip(-1)
                if reflected
                else padded[i, :, row : row + 8, column : column + 8],
            )
        ]
        assert len(found) == 1
        seen += found
    rows, cols, reflected = zip(*seen, strict=True)
    assert set(rows) == set(cols) == set(range(9))
    assert 70 < sum(reflected) < 130


def test_augmentation_keeps_type_and_layout_and_changes_the_run(data):
    images = toy(n_channels=3).train[0]
    pixels = torch.tensor(images).contiguous(memory_format=torch.channels_last)
    out = batches.augmented(pixels)
    assert out.dtype == torch.uint8
    assert out.is_contiguous(memory_format=torch.channels_last)
    plain, other = train(TINY, data)["rows"], train(replace(TINY, augment=True), data)["rows"]
    assert plain[-1]["train_loss"] != other[-1]["train_loss"]


def test_channels_last_changes_no_more_than_last_digits():
    images = toy(n_channels=3, size=8)
    settings = replace(TINY, model="resnet18", norm="batch", width=2)
    plain = train(settings, on_cpu(images))["rows"]
    last = train(replace(settings, channels_last=True), on_cpu(images, channels_last=True))["rows"]
    np.testing.assert_allclose(columns(plain, "valid_loss"), columns(last, "valid_loss"), rtol=1e-3)


def test_bfloat16_products_train_nearly_as_well(data):
    exact = train(replace(TINY, n_epochs=6), data)["rows"][-1]["valid_loss"]
    rough = train(replace(TINY, n_epochs=6, dtype="bfloat16"), data)["rows"][-1]["valid_loss"]
    assert rough != exact
    assert rough == pytest.approx(exact, rel=0.1)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("n_saves", [1, 2, 3, 5, 7])
@pytest.mark.parametrize(
    "changes",
    [
        {"augment": True, "norm": "batch"},
        {"optimizer": "invariant-adamw", "micro_batch_size": 4},
    ],
)
def test_resumed_study_matches_uninterrupted_bit_for_bit(changes, n_saves, data, tmp_path, monkeypatch):
    cells = [replace(TINY, batch_size=size, seed=seed, **changes) for size in (8, 20) for seed in (0, 1)]
    save, path, n_saved = checkpoints.save, tmp_path / "state", 0

    def save_and_die(path, state):
        nonlocal n_saved
        save(path, state)
        n_saved += 1
        if n_saved == n_saves:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            study.train_all(cells, data, path, 0.0)
    torch.manual_seed(999)  # whatever the generator's state is, the one in the file counts
    resumed = study.train_all(cells, data, path, 0.0)
    whole = study.train_all(cells, data)
    assert [one["rows"] for one in resumed] == [one["rows"] for one in whole]


def test_checkpoint_of_another_study_is_refused(data, tmp_path):
    path = tmp_path / "state"
    study.train_all([TINY], data, path, 0.0)
    with pytest.raises(InputError, match=r"of another run \(lr is \[0\.01\] there, \[0\.02\] here\)"):
        study.train_all([replace(TINY, lr=0.02)], data, path)
    other = batches.OnDevice(**{**vars(data), "sha256": "other"})
    with pytest.raises(InputError, match="images_sha256 is 'toy 40' there, 'other' here"):
        study.train_all([TINY], other, path)


def test_program_trains_every_combination_and_records(tmp_path, capsys):
    out = tmp_path / "folder" / "study.csv"
    lists = ["--batch-size", "16", "30", "--lr", "0.01", "0.02", "--weight-decay", "0", "--seed", "3", "4"]
    assert image_sweep.main([*FLAGS, *lists, "--n-epochs", "2", "--out", str(out)]) == 0
    rows, made = read(out), json.loads(out.with_suffix(".json").read_text())
    keys = columns(rows[1::2], "batch_size", "lr", "seed")
    assert keys == [(b, lr, seed) for b in ("16", "30") for lr in ("0.01", "0.02") for seed in ("3", "4")]
    assert [row["epoch"] for row in rows] == ["1.0", "2.0"] * 8
    assert {row["dataset"] for row in rows} == {"digits"}
    assert made["study"]["lr"] == [0.01, 0.02]
    assert made["images"]["title"] == "handwritten digits"
    assert [cell["batch_size"] for cell in made["cells"]] == [16] * 4 + [30] * 4
    assert all(cell["images_per_second"] > 0 for cell in made["cells"])
    assert "rows" not in made["cells"][0]
    assert len(made["made_with"]["sources_sha256"]) == 64
    assert sorted(os.listdir(out.parent)) == ["study.csv", "study.json"]
    assert "8 trainings on handwritten digits, 0 diverged" in capsys.readouterr().out


def test_same_flags_same_bytes(tmp_path):
    flags = [*FLAGS, "--n-epochs", "1", "--norm", "batch", "--augment"]
    for name in ("a.csv", "b.csv"):
        image_sweep.main([*flags, "--out", str(tmp_path / name)])
    image_sweep.main([*flags, "--seed", "1", "--out", str(tmp_path / "c.csv")])
    first, again, other = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert first == again != other


def test_diverged_cell_is_recorded_and_the_study_goes_on(tmp_path):
    out = tmp_path / "study.csv"
    flags = ["--norm", "none", "--lr", "1e30", "0.01", "--n-epochs", "4", "--out", str(out)]
    assert image_sweep.main([*FLAGS, *flags]) == 0
    rows = read(out)
    wild = [row for row in rows if row["lr"] == "1e+30"]
    assert wild[-1]["status"] == "diverged"
    assert not math.isfinite(float(wild[-1]["valid_loss"]))
    assert [row["status"] for row in rows if row["lr"] == "0.01"] == ["ok"] * 4
    cells = json.loads(out.with_suffix(".json").read_text())["cells"]
    assert [cell["status"] for cell in cells] == ["diverged", "ok"]


@pytest.mark.parametrize("flags", [("--lr", "1e300"), ("--optimizer", "adam", "--weight-decay", "1e300")])
def test_numbers_beyond_single_precision_diverge(flags, tmp_path):
    out = tmp_path / "study.csv"
    assert image_sweep.main([*FLAGS, *flags, "--n-epochs", "2", "--out", str(out)]) == 0
    assert [row["status"] for row in read(out)] == ["diverged"]


def test_csv_comes_last(tmp_path, monkeypatch):
    def fail(path, rows):
        assert json.loads(path.with_suffix(".json").read_text())["cells"]
        raise OSError("no space left")

    monkeypatch.setattr(image_sweep, "write_csv", fail)
    with pytest.raises(OSError, match="no space"):
        image_sweep.main([*FLAGS, "--out", str(tmp_path / "a.csv"), "--n-epochs", "1"])
    assert os.listdir(tmp_path) == ["a.json"]


def test_second_process_on_the_same_result_refuses(tmp_path, fails):
    out = tmp_path / "a.csv"
    with locked(out):
        assert "a.csv: another process is working on it" in fails(image_sweep.main, *FLAGS, "--out", out)
    assert os.listdir(tmp_path) == []


def test_killed_and_started_again_gives_the_same_bytes(tmp_path):
    """kill -9 of the real process, wherever it is."""
    flags = [
        *FLAGS,
        "--n-epochs",
        "12",
        "--batch-size",
        "8",
        "16",
        "--lr",
        "0.01",
        "0.02",
        "--seed",
        "0",
        "1",
    ]
    reference, out, state = tmp_path / "reference.csv", tmp_path / "out.csv", tmp_path / "state"
    image_sweep.main([*flags, "--out", str(reference)])
    command = [
        sys.executable,
        "-m",
        "train.image_sweep",
        *flags,
        "--out",
        str(out),
        "--checkpoint",
        str(state),
    ]
    kill_in_the_middle([*command, "--checkpoint-seconds", "0"], state, out)
    image_sweep.main([*flags, "--out", str(out), "--checkpoint", str(state)])
    assert out.read_bytes() == reference.read_bytes()
    assert not checkpoints.exists(state)  # over: nothing to go on from


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--beta2 1", "argument --beta2: is '1', allowed: a finite number >= 0 and < 1"),
        ("--lr 0.1 nan", "argument --lr: is 'nan', allowed: a finite number > 0"),
        ("--lr 0.1 0.1", "--lr is 0.1 0.1, allowed: each value once"),
        ("--weight-decay -1", "argument --weight-decay: is '-1'"),
        ("--batch-size 0", "argument --batch-size: is '0', allowed: a whole number >= 1"),
        ("--batch-size 8 65", "--batch-size is 65, allowed: 1 ... 64, the number of training images"),
        ("--dataset mnist", "argument --dataset: invalid choice: 'mnist'"),
        ("--model vgg16", "--model is 'vgg16', allowed: for images whose side is a multiple of 32, not 8"),
        ("--model resnet18 --norm none", "--norm is 'none', allowed for resnet18: batch, layer"),
        ("--scaling invariant", "--reference-batch-size is 0, allowed with --scaling: a whole number >= 1"),
        ("--optimizer invariant-adamw --micro-batch-size 48", "--micro-batch-size is 48, allowed with"),
        ("--scaling invariant --reference-batch-size 1", "makes beta1 0"),
        ("--dataset cifar10 --data-dir {tmp}", "cifar-10-binary.tar.gz: no such file"),
        ("--dataset cifar10-jpeg", "--dataset is 'cifar10-jpeg', allowed: with --data-dir"),
        ("--out {tmp}/metrics.json", "metrics.json', allowed: a name that ends in .csv"),
        ("--checkpoint {tmp}/damaged", "the checkpoint is damaged"),
        ("--batch 3", "unrecognized arguments: --batch"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(flags, message, tmp_path, fails):
    (tmp_path / "damaged").write_bytes(b"not a checkpoint")
    before = sorted(tmp_path.rglob("*"))
    out = [] if "--out" in flags else ["--out", tmp_path / "metrics.csv"]
    assert message in fails(image_sweep.main, *FLAGS, *out, *flags.format(tmp=tmp_path).split())
    assert sorted(tmp_path.rglob("*")) == before


def test_setting_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path, fails, monkeypatch):
    monkeypatch.setattr("train.images.loop.train", lambda *_: pytest.fail("a training has started"))
    complaint = fails(image_sweep.main, *FLAGS, "--batch-size", 8, 65, "--out", tmp_path / "metrics.csv")
    assert "--batch-size is 65" in complaint


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_in_bfloat16_channels_last_compiled_matches_cpu():
    images, cuda = toy(n_images=64, n_channels=3, size=32), torch.device("cuda")
    settings = replace(TINY, model="resnet18", norm="batch", width=8, batch_size=16, lr=1e-3)
    here = train(settings, on_cpu(images))["rows"]
    there = train(settings, batches.to_device(images, 0, False, cuda))["rows"]
    np.testing.assert_allclose(columns(there, "train_loss"), columns(here, "train_loss"), rtol=1e-2)
    fast = replace(settings, dtype="bfloat16", channels_last=True)
    rows = train(fast, batches.to_device(images, 0, True, cuda), compiled=True)["rows"]
    np.testing.assert_allclose(columns(rows, "train_loss"), columns(here, "train_loss"), rtol=5e-2)


def test_repeated_columns_are_settings():
    assert set(loop.REPEATED.split()) <= set(Settings.__dataclass_fields__)


RECORDS = Path(__file__).parent.parent / "records/train/image_sweep"


@pytest.mark.parametrize("path", sorted(RECORDS.rglob("digits-*.csv.gz")), ids=lambda path: path.name[:-7])
def test_recorded_training_is_made_again(path, tmp_path):
    """The beginning of one, at the largest batch and rate: to the digit on a processor like that of the records."""
    settings = json.loads(path.with_name(path.name.replace(".csv.gz", ".json")).read_text())["study"]
    settings |= {name: max(settings[name]) for name in ("batch_size", "lr", "weight_decay")}
    settings |= {"seed": 0, "progress": False, "n_threads": 1}
    settings |= {"n_steps": 20} if settings["n_steps"] else {"n_epochs": 2}
    unused = [] if settings["scaling"] != "none" else ["reference_batch_size"]
    unused += ["n_epochs"] if settings["n_steps"] else []
    words = shlex.split(flags({name: value for name, value in settings.items() if name not in unused}))
    assert image_sweep.main([*words, "--out", str(tmp_path / "again.csv")]) == 0
    with open(tmp_path / "again.csv", newline="") as file, gzip.open(path, "rt", newline="") as recorded:
        again, rows = list(csv.DictReader(file)), list(csv.DictReader(recorded))
    known = ("batch_size", "lr", "weight_decay", "seed")
    rows = [row for row in rows if all(row[name] == again[0][name] for name in known)]
    assert [row["step"] for row in again] == [row["step"] for row in rows[:2]]
    for name in ("train_loss", "valid_loss"):  # rounding grows from step to step
        values, expected = (np.array([float(row[name]) for row in each[:2]]) for each in (again, rows))
        np.testing.assert_allclose(values, expected, rtol=1e-4)
