"""Multi-label out-of-distribution detection with spectral normalised joint energy."""

__version__ = "0.1.0"
