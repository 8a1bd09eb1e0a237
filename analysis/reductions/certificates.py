"""How many of the published claims are proved (table of `analysis.certify`)."""

from typing import TYPE_CHECKING, Any

from analysis.inputs import tables

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("verdict", "published")
VERDICTS = ("proved", "refuted")


def summarize(table: "pd.DataFrame") -> dict[str, Any]:
    """Count the claims by verdict.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `analysis.certify`; `published` is empty in those that are new.

    Raises
    ------
    InputError
        If a verdict is none of `VERDICTS`: it would be counted as neither.
    """
    tables.check_words(table, "verdict", VERDICTS)
    published = table[table["published"].notna()]
    return {
        "n_published": len(published),
        "n_published_proved": int((published["verdict"] == "proved").sum()),
        "n_new": len(table) - len(published),
        "n_refuted": int((table["verdict"] == "refuted").sum()),
    }
