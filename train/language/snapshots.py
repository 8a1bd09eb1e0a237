"""Parameters of a run at one moment, kept for measurements that are made later."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from adam_minibatch_noise.errors import InputError
from train.language.corpora import Corpus
from train.language.settings import Settings
from train.language.transformer_xl import TransformerXL
from train.runtime import checkpoints


@dataclass(frozen=True)
class Snapshot:
    """Content of a file.

    Attributes
    ----------
    settings : Settings
        Of the run.
    corpus_sha256 : str
        Of the corpus it was trained on, see `train.language.corpora.Corpus`.
    epoch : float
        Epochs gone through: `step` divided by the batches of an epoch.
    step : int
        Steps taken.
    valid_perplexity : float
        With these parameters; nan if it was not measured.
    state : dict from str to Tensor
        `TransformerXL.state_dict()`.
    """

    settings: Settings
    corpus_sha256: str
    epoch: float
    step: int
    valid_perplexity: float
    state: dict[str, Tensor]


SETTINGS, STATE = {field.name for field in fields(Settings)}, "model"
OTHERS = ("epoch", "step", "valid_perplexity")


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a file that takes its name only when it is whole.

    Parameters
    ----------
    path : path
    snapshot : Snapshot
        Its tensors may be on any device.
    """
    identity = {**asdict(snapshot.settings), "corpus_sha256": snapshot.corpus_sha256}
    others = {name: getattr(snapshot, name) for name in OTHERS}
    state = {name: entry.detach().cpu() for name, entry in snapshot.state.items()}
    checkpoints.save(path, {"settings": identity, STATE: state, **others})


def load_snapshot(path: Path, device: torch.device) -> Snapshot:
    """Read what `save_snapshot` wrote.

    Parameters
    ----------
    path : path
    device : torch.device
        Where the tensors go.

    Raises
    ------
    InputError
        The file is damaged, or is not a snapshot, or holds a setting that this version does not have.
    """
    content = checkpoints.read(path, device)
    settings = dict(content.get("settings", {}))
    missing = [name for name in (STATE, *OTHERS) if name not in content]
    missing += [] if "corpus_sha256" in settings else ["corpus_sha256"]
    if missing:
        raise InputError(f"{path}: is not a snapshot of a run ({missing[0]} is missing)")
    sha256 = settings.pop("corpus_sha256")
    if not isinstance(sha256, str):
        raise InputError(f"{path}: is not a snapshot of a run (corpus_sha256 is {sha256!r})")
    unknown = sorted(set(settings) - SETTINGS)
    if unknown:
        raise InputError(f"{path}: setting {unknown[0]!r} is unknown to this version of the program")
    others = {name: content[name] for name in OTHERS}
    return Snapshot(Settings(**settings), sha256, state=content[STATE], **others)


def restore(snapshot: Snapshot, corpus: Corpus, device: torch.device) -> TransformerXL:
    """Build the model of a snapshot.

    Parameters
    ----------
    snapshot : Snapshot
    corpus : Corpus
        Must be the one it was trained on.
    device : torch.device

    Raises
    ------
    InputError
        Another corpus, or parameters that do not fit the settings.
    """
    if corpus.sha256 != snapshot.corpus_sha256:
        raise InputError(
            f"the snapshot was trained on a corpus {snapshot.settings.corpus!r} of sha256 "
            f"{snapshot.corpus_sha256[:12]}..., this one is of {corpus.sha256[:12]}..."
        )
    model = TransformerXL(n_token=len(corpus.vocabulary), **snapshot.settings.model()).to(device)
    try:
        model.load_state_dict(snapshot.state)
    except RuntimeError as error:
        raise InputError(f"the parameters do not fit the settings of the snapshot ({error})") from error
    return model
