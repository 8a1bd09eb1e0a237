import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from sim.records import InputError
from train import checkpoints
from train.corpora import Corpus
from train.settings import Settings
from train.snapshots import Snapshot, load_snapshot, restore, save_snapshot
from train.transformer_xl import TransformerXL

CPU = torch.device("cpu")
SETTINGS = Settings(n_layer=1, d_model=8, d_head=4, d_inner=8, tgt_len=8, lr=3e-3, seed=5)
CORPUS = Corpus("toy", tuple("abc"), *[np.arange(9) % 3] * 3, sha256="5" * 64)


@pytest.fixture
def snapshot():
    torch.manual_seed(0)
    state = TransformerXL(n_token=3, **SETTINGS.model()).state_dict()
    return Snapshot(SETTINGS, CORPUS.sha256, epoch=1.5, step=12, valid_perplexity=7.25, state=state)


@pytest.fixture
def path(snapshot, tmp_path):
    save_snapshot(tmp_path / "snapshot.pt", snapshot)
    return tmp_path / "snapshot.pt"


def test_what_is_saved_is_loaded(snapshot, path):
    got = load_snapshot(path, CPU)
    assert replace(got, state={}) == replace(snapshot, state={})
    assert all(torch.equal(got.state[name], entry) for name, entry in snapshot.state.items())
    model = restore(got, CORPUS, CPU)
    assert torch.equal(model.output.weight, snapshot.state["output.weight"])


def test_perplexity_may_be_unknown(snapshot, path):
    save_snapshot(path, replace(snapshot, valid_perplexity=math.nan))
    assert math.isnan(load_snapshot(path, CPU).valid_perplexity)


def test_rejects_damage(path):
    data = path.read_bytes()
    for broken in (data[:-1], data[:300] + bytes([data[300] ^ 1]) + data[301:], b"", b"epoch,step\n"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="damaged"):
            load_snapshot(path, CPU)


def test_rejects_another_kind_of_file(path):
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


def test_rejects_another_corpus(snapshot):
    with pytest.raises(InputError, match=r"corpus 'pydoc' of sha256 555555555555\..*666666666666\.\.\."):
        restore(snapshot, replace(CORPUS, sha256="6" * 64), CPU)


def test_rejects_parameters_of_other_sizes(snapshot):
    with pytest.raises(InputError, match="do not fit the settings"):
        restore(replace(snapshot, settings=replace(SETTINGS, d_inner=9)), CORPUS, CPU)
