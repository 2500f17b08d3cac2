"""Initial weights of a trunk, as a file."""

from pathlib import Path

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")


def weights_file(target: Path) -> Path | None:
    """The file of weights in a folder, if any."""
    return next((path for path in target.iterdir() if path.suffix in WEIGHTS_SUFFIXES), None)
