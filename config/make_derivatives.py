"""Write the table of derivatives of the registry's formulas (`make schema`): no start derives them anew."""

from pathlib import Path

from adam_minibatch_noise.expansion import derivative_table
from adam_minibatch_noise.expansion.derivatives import derive
from adam_minibatch_noise.expansion.registry import make_rule, optimizer_names
from common.files import atomic_write

HEADER = '''"""Derivatives of the formulas of the registry, up to the third order; made by `make schema`, not by hand.

Value, first, second and third derivatives, in the order of `derivatives_of`.
"""

# fmt: off
SOURCES: dict[tuple[str, tuple[str, ...]], str] = {
'''


def table() -> str:
    """Return the text of `adam_minibatch_noise.expansion.derivative_table`."""
    formulas: dict[tuple[str, tuple[str, ...]], str] = {}
    for name in optimizer_names():
        rule = make_rule(name)
        variables = tuple(f"z{a + 1}" for a in range(len(rule.averages)))
        every = [(average.function, ("g",)) for average in rule.averages] + [(rule.formula, variables)]
        for formula, of in every:
            formulas[formula, of] = derive(formula, of, tuple(rule.settings))
    entries = [f'    {key}: """\\\n{source}""",\n' for key, source in formulas.items()]
    return HEADER + "".join(entries).replace("'", '"') + "}\n"


def main() -> None:
    """Write it where it stands."""
    with atomic_write(Path(derivative_table.__file__)) as file:
        file.write(table())


if __name__ == "__main__":
    main()
