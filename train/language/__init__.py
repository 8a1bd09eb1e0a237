"""Language modelling: texts, Transformer-XL and its loss, settings, the loop of a run."""
