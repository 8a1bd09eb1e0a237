"""List the programs of `train`: ``python -m train``."""

from common.programs import list_programs

if __name__ == "__main__":
    list_programs("train")
