"""Logits, features and hidden layer of every OOD set, for every seed of a depth."""

from _infer import main

if __name__ == "__main__":
    main("ood", lambda params: list(params.data.ood))
