"""Initial weights of a trunk, as a file."""

from pathlib import Path

WEIGHTS_SUFFIXES = (".safetensors", ".pth.tar", ".pth", ".pt", ".bin", ".ckpt")

NETWORK = "network.py"
"""What the code of a network of one's own is called, beside its weights and in a model's folder."""


def weights_suffix(name: str | Path | None) -> str | None:
    """The suffix of a file of weights, in lower case; None for any other name, such as a tag."""
    lower = Path(name or "").name.lower()
    return next((suffix for suffix in WEIGHTS_SUFFIXES if lower.endswith(suffix)), None)


def weights_file(target: Path) -> Path | None:
    """The file of weights in a folder, if any."""
    return next((path for path in target.iterdir() if weights_suffix(path)), None)
