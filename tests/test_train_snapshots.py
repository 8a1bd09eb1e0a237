import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from train.language import loop
from train.language.corpora import Corpus
from train.language.settings import Settings
from train.language.snapshots import load_snapshot, restore, save_snapshot
from train.language.trainer import Trainer
from train.runtime import checkpoints

CPU = torch.device("cpu")
SETTINGS = Settings(
    n_layer=1, d_model=8, d_head=4, d_inner=8, tgt_len=8, lr=3e-3, seed=5, batch_size=2, n_epochs=2, patience=0
)  # fmt: skip
CORPUS = Corpus("toy", tuple("abc"), *[np.arange(49) % 3] * 3, sha256="5" * 64)


@pytest.fixture
def run(tmp_path):
    """A trainer after two epochs of three steps, and its rows; snapshots are beside."""
    trainer = Trainer(SETTINGS, CORPUS, CPU)
    rows, _ = loop.train(trainer, SETTINGS, snapshots=tmp_path)
    return trainer, rows


def test_a_run_leaves_snapshots_that_can_be_restored(run, tmp_path):
    trainer, rows = run
    for row in rows:
        snapshot = load_snapshot(tmp_path / f"step-{row['step']}.pt", CPU)
        assert snapshot.settings == SETTINGS
        assert [snapshot.epoch, snapshot.step] == [row["epoch"], row["step"]]
        assert snapshot.valid_perplexity == row["valid_perplexity"]
        trainer.model.load_state_dict(restore(snapshot, CORPUS, CPU).state_dict())
        assert trainer.loss("valid") == row["valid_loss"]
    assert len(rows) == 2


def test_rejects_damage(run, tmp_path):
    path = tmp_path / "step-3.pt"
    data = path.read_bytes()
    for broken in (data[:-1], data[:300] + bytes([data[300] ^ 1]) + data[301:], b"", b"epoch,step\n"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="damaged"):
            load_snapshot(path, CPU)


def test_rejects_another_kind_of_file(tmp_path):
    path = tmp_path / "checkpoint.pt"
    settings = {**asdict(SETTINGS), "corpus_sha256": CORPUS.sha256}
    whole = {"settings": settings, "model": {}, "epoch": 0.0, "step": 0, "valid_perplexity": 1.0}
    for name in ("model", "epoch", "step", "valid_perplexity", "settings"):
        checkpoints.save(path, {key: value for key, value in whole.items() if key != name})
        missing = "corpus_sha256" if name == "settings" else name
        with pytest.raises(InputError, match=rf"is not a snapshot of a run \({missing} is missing\)"):
            load_snapshot(path, CPU)
    checkpoints.save(path, {**whole, "settings": {**settings, "warmth": 1}})
    with pytest.raises(InputError, match="setting 'warmth' is unknown"):
        load_snapshot(path, CPU)


def test_perplexity_may_be_unknown(run, tmp_path):
    path = tmp_path / "step-3.pt"
    save_snapshot(path, replace(load_snapshot(path, CPU), valid_perplexity=math.nan))
    assert math.isnan(load_snapshot(path, CPU).valid_perplexity)


def test_rejects_another_corpus_and_parameters_of_other_sizes(run, tmp_path):
    snapshot = load_snapshot(tmp_path / "step-3.pt", CPU)
    with pytest.raises(InputError, match=r"corpus 'pydoc' of sha256 555555555555\..*666666666666\.\.\."):
        restore(snapshot, replace(CORPUS, sha256="6" * 64), CPU)
    with pytest.raises(InputError, match="do not fit the settings"):
        restore(replace(snapshot, settings=replace(SETTINGS, d_inner=9)), CORPUS, CPU)
