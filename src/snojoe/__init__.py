"""Multi-label out-of-distribution detection with spectral normalised joint energy."""

import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snojoe.detect.batch_detector import BatchDetector
    from snojoe.detect.image_detector import load_detector
    from snojoe.inference.extraction import extract, linear_head

__all__ = ["BatchDetector", "extract", "linear_head", "load_detector"]
__version__ = "0.1.0"  # pyproject.toml reads it here; a test holds CITATION.cff to it

# Modules of 0.1.0 that people were told to import, or may have.
_MOVED = {
    "batch_norm": "spectral_norm.batch_norm",
    "decision": "model.decision",
    "distances": "results.distances",
    "energy": "model.energy",
    "errors": "support.errors",
    "evaluation": "results.grids",
    "export": "detect.export",
    "files": "support.files",
    "image_detector": "detect.image_detector",
    "metrics": "measures.metrics",
    "models": "model.classifier",
    "outputs": "detectors.outputs",
    "plots": "results.plots",
    "prediction": "training.validation",
    "statistics": "measures.estimates",
    "tables": "results.tables",
    "thresholds": "measures.thresholds",
}


class _Moved(MetaPathFinder):
    """Asked last: names the new place of a module that has one."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        package, _, name = fullname.partition(".")
        if package == __name__ and name in _MOVED:
            raise ModuleNotFoundError(f"{fullname} is now {package}.{_MOVED[name]}", name=fullname)


sys.meta_path.append(_Moved())


def __getattr__(name: str) -> Any:
    """Importing torch takes seconds: only who asks for what needs it waits for it."""
    if name == "BatchDetector":
        from snojoe.detect.batch_detector import BatchDetector

        return BatchDetector
    if name == "load_detector":
        from snojoe.detect import image_detector

        return image_detector.load_detector
    if name in __all__:
        from snojoe.inference import extraction

        return getattr(extraction, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
