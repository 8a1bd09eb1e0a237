"""List the programs of `analysis`: ``python -m analysis``."""

from common.programs import list_programs

if __name__ == "__main__":
    list_programs("analysis")
