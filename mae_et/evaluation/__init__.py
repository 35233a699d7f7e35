"""How good a frozen encoder is: the features of labelled images, and probes of them.

Of the rest of `mae_et`, this package imports `data`, `config`, `curriculum` and `errors`.
"""

from .features import Features, ProbeImages, compute_features, compute_outputs, load_probe_images
from .probe import knn_accuracy, linear_classifier, linear_probe, probe_scores

__all__ = [
    "Features",
    "ProbeImages",
    "compute_features",
    "compute_outputs",
    "knn_accuracy",
    "linear_classifier",
    "linear_probe",
    "load_probe_images",
    "probe_scores",
]
