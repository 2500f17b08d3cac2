"""Logits, features and hidden layer of train, val and test, for every seed of a depth."""

from _infer import main

if __name__ == "__main__":
    main("id", lambda params: ["train", "val", "test"])
