"""Multi-label out-of-distribution detection with spectral normalised joint energy."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snojoe.detect.image_detector import load_detector

__all__ = ["load_detector"]
__version__ = "0.1.0"  # pyproject.toml reads it here; a test holds CITATION.cff to it


def __getattr__(name: str) -> Any:
    """Importing torch takes seconds: only who asks for the detector waits for it."""
    if name in __all__:
        from snojoe.detect import image_detector

        return getattr(image_detector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
