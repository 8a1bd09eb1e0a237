"""Names: a registry for each kind, from the word in flags, configuration and tables to its title.

Titles are those of figures, reports and the article, in the order in which figures show them.
"""

OPTIMIZERS = {
    "sgd-momentum": "SGD with momentum",
    "nesterov": "Nesterov momentum",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "nadam": "NAdam",
    "ademamix": "AdEMAMix",
    "adam-p": "Adam, power p",
    "signum-smooth": "smooth Signum",
    "lion-smooth": "smooth Lion",
    "invariant-adam": "invariant Adam",
    "invariant-adamw": "invariant Adam",
}
"""Of the trainer and of `adam_minibatch_noise.expansion.registry`."""
SCALINGS = {"invariant": "invariant rule", "square-root": "square-root rule", "linear": "linear rule"}
"""Rules by which learning rate and betas follow the batch size; "linear" is the control of `sim.invariance`."""
PROBLEMS = {"least-squares": "least squares", "quadratics": "quadratics", "cnn": "two-layer CNN"}
CORPORA = {"pydoc": "Python's language reference", "wikitext-2": "WikiText-2"}
"""Texts that `train.language.corpora` loads; another corpus is the user's own text and keeps its name."""
DATASETS = {"digits": "handwritten digits", "cifar10": "CIFAR-10", "cifar10-jpeg": "CIFAR-10 (JPEG copy)"}
"""Images that `train.images.datasets` loads."""
EMBEDDED = ("pydoc", "digits")
"""Texts and images that come with Python and scikit-learn: no folder and no download holds them."""
NOT_DOWNLOADED = (*EMBEDDED, "cifar10-jpeg")
NETWORKS = {"small-cnn": "small CNN", "resnet18": "ResNet18", "vgg16": "VGG16"}
NORMS = {"batch": "batch norm", "layer": "layer norm", "none": "no norm"}
