"""Train one Transformer-XL with Adam and record its validation perplexity.

`--out FILE.csv` gets one row an evaluation, the same bytes for the same flags; FILE.json beside it gets the outcome,
how it was made, and how long it took. Both appear when the run is over, the CSV last.
"""

import math
import sys
import tempfile
import time
from argparse import BooleanOptionalAction
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.records import InputError, Parser, count, nonnegative, run, write_csv, write_json
from train.course import Course, perplexity
from train.settings import Settings, add_flags, from_flags

if TYPE_CHECKING:
    import torch

    from train.corpora import Corpus


def train(
    settings: Settings,
    corpus: "Corpus",
    device: "torch.device",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the loop; longer than other functions, so that all of it is in one place.

    Parameters
    ----------
    settings : Settings
    corpus : Corpus
    device : torch.device
    checkpoint : path, optional
        Where the state is kept, every `checkpoint_seconds`; a run goes on from there if the file exists.
    checkpoint_seconds : float
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    rows : list of dict
        One an evaluation: on the CPU the same numbers for the same settings and corpus, resumed or not.
    outcome : dict
        Minimal validation perplexity, test perplexity with the parameters of that evaluation, counts, seconds.

    Raises
    ------
    InputError
        Settings that do not fit the corpus; a damaged checkpoint, or one of another run.
    """
    import torch
    from tqdm import tqdm

    from train import checkpoints
    from train.batches import epoch_order, mean_loss, to_windows
    from train.optimizers import Adam
    from train.transformer_xl import TransformerXL

    s, started, saved = settings, time.perf_counter(), time.perf_counter()
    inputs, targets = (x[: s.max_train_windows or None] for x in to_windows(corpus.train, s.tgt_len, device))
    s.check(len(inputs))
    n_batches, n_dropped = divmod(len(inputs), s.batch_size)
    n_steps, interval = s.n_epochs * n_batches, max(1, round(n_batches / s.evaluations_per_epoch))
    micro_batch_size = min(s.micro_batch_size or s.batch_size, s.batch_size)
    n_words = s.batch_size * s.tgt_len  # in a step

    torch.manual_seed(s.seed)
    model = TransformerXL(n_token=len(corpus.vocabulary), **s.model()).to(device)
    optimizer = Adam(model.parameters(), s.lr, (s.beta1, s.beta2), s.eps, s.eps_root, s.weight_decay)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=s.dtype == "bfloat16")
    identity, course = {**asdict(s), "corpus_sha256": corpus.sha256}, Course()
    if checkpoint and checkpoint.exists():
        state = checkpoints.load(checkpoint, identity, device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        checkpoints.set_rng_state(state["rng"])
        course = Course(**state["course"])
        started -= course.seconds

    if n_dropped:
        dropped = f"{n_dropped} of {len(inputs)} windows (batch size {s.batch_size})"
        print(f"each epoch drops {dropped}", file=sys.stderr)
    order = None
    bar = tqdm(total=n_steps, initial=course.step, unit="step", disable=not progress)
    while not course.end:
        epoch, i_batch = divmod(course.step, n_batches)
        if i_batch == 0 or order is None:
            order = epoch_order(len(inputs), micro_batch_size, s.shuffle, s.seed, epoch).to(device)
        memory = course.memory if i_batch else None
        for windows in order[i_batch * s.batch_size : (i_batch + 1) * s.batch_size].split(micro_batch_size):
            with autocast:
                loss, memory = model(inputs[windows], targets[windows], memory)
            (loss / n_words).backward()
            course.nll += loss.detach().double()
        optimizer.step()
        optimizer.zero_grad()
        course.step, course.n_words, course.memory = course.step + 1, course.n_words + n_words, memory
        bar.update()

        if course.step % interval == 0 or course.step == n_steps:
            before = time.perf_counter()
            with autocast:
                valid_loss = mean_loss(model, corpus.valid, s.tgt_len)
            course.evaluation_seconds += time.perf_counter() - before
            if course.record(valid_loss, s, n_batches):
                course.best_params = [param.detach().clone() for param in model.parameters()]
            bar.set_postfix(valid=f"{perplexity(valid_loss):.4g}", best=f"{perplexity(course.best_loss):.4g}")
        course.seconds = time.perf_counter() - started
        if checkpoint and time.perf_counter() - saved >= checkpoint_seconds:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "course": vars(course)}
            checkpoints.save(checkpoint, {"settings": identity, "rng": checkpoints.get_rng_state(), **state})
            saved = time.perf_counter()
    bar.close()

    test_loss = math.nan
    if course.best_params:
        for param, best in zip(model.parameters(), course.best_params, strict=True):
            param.data.copy_(best)
        with autocast:
            test_loss = mean_loss(model, corpus.test, s.tgt_len)
    return course.rows, {
        "status": course.rows[-1]["status"],
        "ended_by": course.end,
        "min_valid_perplexity": perplexity(course.best_loss),
        "test_perplexity": perplexity(test_loss),
        "step_of_min": course.best_step,
        "n_steps": course.step,
        "n_params": sum(param.numel() for param in model.parameters()),
        "n_windows": len(inputs),
        "n_batches": n_batches,
        "n_dropped_windows": n_dropped,
        "seconds": course.seconds,
        "evaluation_seconds": course.evaluation_seconds,
        "tokens_per_second": course.step * n_words / (course.seconds - course.evaluation_seconds),
    }


def main(argv: list[str] | None = None) -> int:
    """Read the flags, train, write FILE.json and FILE.csv."""
    arguments = _parser().parse_args(argv)
    settings, out = from_flags(arguments), arguments.out
    if out.suffix != ".csv":
        raise InputError(f"--out is {str(out)!r}, allowed: a name that ends in .csv")
    for path in filter(None, (out, arguments.checkpoint)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # better now than after an hour of training
            pass

    import torch

    from train import corpora, provenance

    torch.set_num_threads(arguments.n_threads)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device is 'cuda', allowed: cpu, auto (torch finds no CUDA device)")
    cuda = arguments.device != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    corpus = corpora.load(settings.corpus, arguments.data_dir, arguments.cache_dir)
    checkpoint = arguments.checkpoint
    rows, outcome = train(
        settings, corpus, device, checkpoint, arguments.checkpoint_seconds, arguments.progress
    )
    made = {"corpus": corpora.describe(corpus), "made_with": provenance.describe(device)}
    write_json(out.with_suffix(".json"), {**outcome, "settings": asdict(settings), **made})
    write_csv(out, rows)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    best, step = outcome["min_valid_perplexity"], outcome["step_of_min"]
    print(f"{out}: {outcome['status']}, minimal validation perplexity {best:.2f} at step {step}")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m train.run", description=__doc__)
    add_flags(parser)
    files = parser.add_argument_group("files and machine").add_argument
    files("--out", type=Path, required=True, metavar="FILE.csv", help="metrics, one row an evaluation")
    files("--data-dir", type=Path, help="folder that holds wikitext-2/{train,valid,test}.txt; else: download")
    files("--cache-dir", type=Path, help="folder of downloads; None: ~/.cache/adam-minibatch-noise")
    files(
        "--checkpoint", type=Path, metavar="FILE", help="keep the state here, and go on from it if it exists"
    )
    files("--checkpoint-seconds", type=nonnegative, default=60.0, metavar="S", help="time between two states")
    files("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda where there is one")
    files(
        "--n-threads",
        type=count,
        default=1,
        metavar="N",
        help="of the CPU; another number may change last digits",
    )
    files("--progress", action=BooleanOptionalAction, default=sys.stderr.isatty(), help="show a bar")
    return parser


if __name__ == "__main__":
    run(main)
