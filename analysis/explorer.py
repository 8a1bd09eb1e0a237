"""Make the page to explore what the theory says: sliders, C_total against beta2, and the map where it turns.

One HTML file that needs no network. Points in the map are best values of beta2 that were measured.
"""

import argparse

from common.cli import Parser, run
from common.files import atomic_write


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.explorer", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--best", nargs="*", default=[], metavar="CSV", help="written by analysis.best_betas for beta2"
    )
    parser.add_argument("--study", metavar="JSON", help="written by analysis.overfitting_verdicts")
    parser.add_argument("--source", default="Transformer-XL of this workflow", help="of these tables")
    parser.add_argument("--out", required=True, metavar="FILE", help="HTML")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Compute the curves and write the page."""
    args = parser().parse_args(argv)
    import vl_convert

    from analysis.drawing import explorer_charts, explorer_page
    from analysis.inputs import tables, verdicts
    from analysis.reductions import explorer

    measured = []
    with tables.refuse_malformed(args.best):
        for path in args.best:
            measured += explorer.measured_bests(tables.read([path], explorer.MEASURED), args.source)
    if args.study:
        measured += explorer.studied_bests(verdicts.read(args.study)[1])
    control, powers = explorer_page.control, [2**k for k in range(21)]
    scales = [float(f"{10 ** (k / 8):.2g}") for k in range(41)]
    controls = [
        control("n_samples", "training samples N", "samples", powers[8:], 2**16),
        control("batch_size", "batch size", "samples", powers, 512),
        control("noise_scale", "noise scale B_simple", "samples", scales, 320.0),
        control("spread", "its interval: divided and multiplied by", "", [1, 1.1, 1.25, 1.5, 2, 3, 5], 1.25),
        control("beta1", "beta1", "", explorer.BETA1, 0.9),
        control("n_epochs", "length of training", "epochs", explorer.N_EPOCHS, 10),
    ]
    text = explorer_page.page(
        explorer_charts.curve(),
        explorer_charts.map_of_turns(),
        {"exact": explorer.exact_parts(), "limit": explorer.limit_parts(), "measured": measured},
        controls,
        explorer.N_BATCHES,
        vl_convert.javascript_bundle(),  # type: ignore[call-arg]  # its stub knows no default
        "Points, with bars: the measured bests that are chosen above."
        if measured
        else "No best values were measured.",
    )
    with atomic_write(args.out) as file:
        file.write(text)


if __name__ == "__main__":
    run(main)
