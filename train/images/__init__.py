"""Image classification: data, networks, the loop of a run."""
