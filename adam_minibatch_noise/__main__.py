"""`python -m adam_minibatch_noise advise`, also installed as `adam-noise`: advice on betas at the command line."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from adam_minibatch_noise.advice import Advice

EXAMPLE = (
    "example:\n  adam-noise advise --n-samples 50000 --batch-size 512 --noise-scale 229 300 --n-epochs 10 "
    "--reference-batch-size 64"
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("adam-noise", description=__doc__.partition(": ")[2], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="advise")
    advise = commands.add_parser(
        "advise",
        help="which betas at this batch size",
        description="Which betas fit a batch size: the theory of mini-batch noise, the field's other rules, and what "
        "our own study measured of each.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = advise.add_argument
    add("--n-samples", type=_number, required=True, help="training samples; inf: none comes twice")
    add("--batch-size", type=_number, required=True, help="samples of an optimiser step, over all devices")
    add(
        "--noise-scale", type=_number, nargs="+", required=True, metavar="B",
        help="tr(Sigma)/|g|^2 in samples, as measured at this batch size: a number, or the two ends of an interval",
    )  # fmt: skip
    add("--beta1", type=_number, default=0.9, help="in use (default: 0.9)")
    add("--beta2", type=_number, default=0.999, help="in use (default: 0.999)")
    add("--lr", type=_number, default=1e-3, help="in use (default: 0.001)")
    add("--n-epochs", type=_number, help="length of training")
    add("--n-steps", type=_number, help="the same in steps")
    add("--reference-batch-size", type=_number, help="batch size at which lr and betas were chosen")
    add("--format", choices=["table", "json"], default="table", help="form of the output (default: table)")
    return parser


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Print advice; return the exit status, 2 for input without meaning."""
    from adam_minibatch_noise.advice import advise
    from adam_minibatch_noise.errors import InputError

    args = _parser().parse_args(argv)
    try:
        found = advise(
            args.n_samples,
            args.batch_size,
            args.noise_scale[0] if len(args.noise_scale) == 1 else tuple(args.noise_scale),
            (args.beta1, args.beta2),
            args.lr,
            n_epochs=args.n_epochs,
            n_steps=args.n_steps,
            reference_batch_size=args.reference_batch_size,
        )
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    try:
        if args.format == "json":
            print(json.dumps(found.to_dict(), indent=2))
        else:
            _print_tables(found)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone
    return 0


def summary_rows(found: "Advice") -> list[tuple[str, str]]:
    """The numbers behind the advice, as (what, value).

    Parameters
    ----------
    found : Advice
    """
    from adam_minibatch_noise.advice.words import spread

    def pair(sizes: Any) -> str:
        if sizes is None:
            return "not computed"
        first, last = ("-" if size is None else f"{size:.4g}" for size in sizes)
        return f"{first} to {last}"

    rows = [
        ("noise scale", spread(found.noise_scale, " samples")),
        ("lambda, noise to signal of a batch", spread(found.lam)),
        ("regime", found.regime),
    ]
    for beta, other in (("beta2", f"beta1 = {found.betas[0]:g}"), ("beta1", f"beta2 = {found.betas[1]:g}")):
        sizes = found.critical_batch_size[beta]
        rows.append((f"batch size where {beta} turns, rule of thumb", spread(sizes["limit"])))
        rows.append((f"  at {other}, limit", pair(sizes["limit_at_betas"])))
        rows.append((f"  at {other}, these epochs", pair(sizes["exact"])))
    for kind, value in found.c_total.items():
        rows.append((f"C_total in use, {kind}", "not computed" if value is None else spread(value)))
    for key, best in found.recommended.items():
        beta, _, other = key.partition("_at_")
        wide = "" if best["low"] == best["high"] else f" ({best['low']:g} to {best['high']:g})"
        rows.append((f"theory's best {beta} at this {other}, {best['basis']}", f"{best['best']:g}{wide}"))
    return rows


def rule_rows(found: "Advice") -> list[list[str]]:
    """A line for each rule: title, betas, learning rate, C_total, formula, when it applies, source, evidence.

    Parameters
    ----------
    found : Advice
    """
    rows = []
    for rule in found.rules:
        if rule["beta2"] is None:
            betas, lr, c_total = rule["note"], "", ""
        else:
            betas, lr = f"{rule['beta1']:.4g}, {rule['beta2']:.5g}", f"{rule['lr']:.3g}"
            c_total = "" if rule["c_total"] is None else f"{rule['c_total']:.3g}"
        rows.append(
            [
                rule["title"],
                betas,
                lr,
                c_total,
                rule["formula"],
                rule["applies"],
                rule["source"],
                counted(rule["verdicts"]),
            ]
        )
    return rows


def counted(verdicts: dict[str, list[str]]) -> str:
    """On how many kinds of data a rule has which verdict of the study; ``--format json`` names them with their costs.

    Parameters
    ----------
    verdicts : dict of str to list of str
        `Evidence.verdicts`.
    """
    from adam_minibatch_noise.advice.evidence import NOT_MEASURED

    n_kinds = sum(map(len, verdicts.values()))
    parts = [f"{verdict} on {len(tasks)}" for verdict, tasks in verdicts.items() if tasks]
    return f"{', '.join(parts)} of {n_kinds} kinds of data" if parts else NOT_MEASURED


RULE_HEADS = ["rule", "betas", "lr", "C_total", "formula", "applies to", "source", "our study"]


def _print_tables(found: "Advice") -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:  # plain text, without the extra
        _print_plain(found)
        return
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    numbers = Table(title=f"Batch size {found.batch_size}", title_justify="left", show_header=False)
    for row in summary_rows(found):
        numbers.add_row(*row)
    rules = Table(title="Rules", title_justify="left", show_lines=True)
    for i, head in enumerate(RULE_HEADS):
        rules.add_column(
            head, overflow="fold", justify="right" if head in ("lr", "C_total") else "left", ratio=1 + (i > 3)
        )
    for cells in rule_rows(found):
        rules.add_row(*cells)
    with console.capture() as capture:
        console.print(numbers, rules, markup=False)
        console.print(found.text, markup=False)
    sys.stdout.write(capture.get())


def _print_plain(found: "Advice") -> None:
    rows = summary_rows(found)
    width = max(len(name) for name, _ in rows)
    print(f"Batch size {found.batch_size}")
    print("\n".join(f"  {name:{width}}  {value}" for name, value in rows))
    for cells in rule_rows(found):
        print(f"\n{cells[0]}")
        print(
            "\n".join(
                f"  {head}: {cell}" for head, cell in zip(RULE_HEADS[1:], cells[1:], strict=True) if cell
            )
        )
    print(f"\n{found.text}")


if __name__ == "__main__":
    raise SystemExit(main())
