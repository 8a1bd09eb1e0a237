"""Train one Transformer-XL with Adam and record its validation perplexity.

`--out FILE.csv` gets one row an evaluation, the same bytes for the same flags; FILE.json beside it gets the outcome,
how it was made, and how long it took. Both appear when the run is over, the CSV last. Started by `torchrun`, the
processes share each batch.
"""

from dataclasses import asdict
from pathlib import Path

from common.cli import Parser, allow_only, run
from common.files import locked, write_csv, write_json
from common.settings import add_flags, from_flags
from train.language.settings import Settings
from train.runtime import device_flags


def main(argv: list[str] | None = None) -> int:
    """Read the flags, train, write FILE.json and FILE.csv."""
    arguments = parser().parse_args(argv)
    settings, out, checkpoint = from_flags(Settings, arguments), arguments.out, arguments.checkpoint
    device_flags.check_folders(arguments, settings.corpus)
    allow_only(arguments, ["checkpoint_seconds"], checkpoint is not None, "with --checkpoint")
    device_flags.check_out(out, checkpoint)

    from common import provenance
    from train.language import corpora, loop
    from train.language.trainer import Trainer
    from train.runtime import distributed

    with (
        distributed.joined(device_flags.device_type(arguments)) as (peers, device),
        locked(out, peers.rank == 0),
    ):
        corpus = corpora.load(settings.corpus, arguments.data_dir, arguments.cache_dir)
        compiled = device_flags.compiled(arguments, device)
        trainer = Trainer(settings, corpus, device, compiled=compiled, ranks=peers)
        rows, outcome = loop.train(
            trainer,
            settings,
            checkpoint,
            arguments.checkpoint_seconds,
            arguments.snapshots,
            arguments.progress,
        )
        if peers.rank:
            return 0
        made = {
            "corpus": corpora.describe(corpus),
            "made_with": {
                **provenance.describe_device(device),
                "compiled": compiled,
                "n_processes": peers.size,
            },
        }
        write_json(out.with_suffix(".json"), {**outcome, "settings": asdict(settings), **made})
        write_csv(out, rows)
        if checkpoint:
            loop.checkpoints.remove(checkpoint)
    best, step = outcome["min_valid_perplexity"], outcome["step_of_min"]
    print(f"{out}: {outcome['status']}, minimal validation perplexity {best:.2f} at step {step}")
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m train.run",
        description=__doc__,
        examples=[
            "python -m train.run --batch-size 32 --n-epochs 4 --out run.csv",
            "python -m train.run --batch-size 32 --beta2 0.99 --snapshots snapshots --out run.csv",
        ],
    )
    add_flags(parser, Settings)
    files = parser.add_argument_group("files and machine")
    files.add_argument(
        "--out", type=Path, required=True, metavar="FILE.csv", help="metrics, one row an evaluation"
    )
    files.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="keep the state here, and go on from it if it exists"
    )
    files.add_argument(
        "--snapshots", type=Path, metavar="FOLDER", help="keep the parameters of each evaluation here"
    )
    device_flags.add_flags(files)
    return parser


if __name__ == "__main__":
    run(main)
