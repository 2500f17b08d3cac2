"""Every stage writes the same bytes on other processors, which QEMU emulates."""

import io
import platform
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.numpy
from test_kills import SMALL, results
from test_pipeline import Checkout

QEMU = shutil.which("qemu-x86_64")
PROCESSORS = ("Haswell", "Skylake-Client", "EPYC-Rome")  # QEMU has no AVX-512
STAGES = [
    *(["download"], ["preprocess"]),
    *(["train", "--sn-layers", depth, "--seed", "0"] for depth in "09"),
    *([f"infer_{kind}", "--sn-layers", depth] for kind in ("id", "ood") for depth in "09"),
    *(["score"], ["ablate"], ["report"]),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the same bits are promised on x86-64 Linux alone",
    ),
    pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (Debian's qemu-user)"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What each processor computes, in futures; this machine itself is the first."""
    checkouts = {name: Checkout(tmp_path_factory.mktemp(name)) for name in ("native", *PROCESSORS)}
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, checkout, name) for name, checkout in checkouts.items()}
        pool.shutdown(cancel_futures=True)


def run(checkout, processor):
    checkout.change(SMALL | {"train": {"epochs": 3, "batch_size": 8}})
    emulator = [] if processor == "native" else [QEMU, "-cpu", processor]
    started = time.monotonic()
    for stage, *options in STAGES:
        said = checkout(*emulator, sys.executable, f"stages/{stage}.py", *options)
        assert "not the digits of other machines" not in said
    print(f"{processor}: {time.monotonic() - started:.0f} s")
    return results(checkout.folder)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_file_is_the_same_on(processor, runs):
    expected, found = runs["native"].result(), runs[processor].result()
    assert sorted(found) == sorted(expected)
    differing = [name for name in expected if found[name] != expected[name]]
    assert not differing, "\n".join(
        f"{name}: {difference(name, expected[name], found[name])}" for name in differing
    )


def difference(name, expected, found):
    """The largest of its numbers, in words."""
    a, b = numbers(name, expected), numbers(name, found)
    if a is None or a.shape != b.shape:
        return "other content"
    if not (a != b).any():
        return "the same numbers"
    i = np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf))
    return f"{np.sum(a != b)} of {a.size} numbers, up to {b.flat[i] - a.flat[i]:.3g} at {a.flat[i]}"


def numbers(name, content):
    """Those of a file, None where it has none to compare."""
    if name.endswith((".csv", ".json", ".md")):
        found = re.findall(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", content.decode())
        return np.array(found, dtype=float)
    if name.endswith(".npy"):
        array = np.load(io.BytesIO(content))
        return array.astype(float) if array.dtype.kind in "biuf" else None
    if name.endswith(".safetensors"):
        tensors = safetensors.numpy.load(content)
        return np.concatenate([tensors[key].ravel().astype(float) for key in sorted(tensors)])
    return None
