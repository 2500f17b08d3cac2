"""What is done to an image before a network sees it; it is stored with the model."""

from typing import Any

# Statistics of ImageNet, which every torchvision backbone expects.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def preprocessing(image_size: int) -> dict[str, Any]:
    """What is done to an image before the network sees it, for the config of a model."""
    return {
        "image_size": image_size,
        "resize": "bilinear, antialiased, aspect not kept",
        "mean": list(MEAN),
        "std": list(STD),
    }
