"""List the programs of `sim`: ``python -m sim``."""

from common.programs import list_programs

if __name__ == "__main__":
    list_programs("sim")
