"""The same bits on every x86-64 processor with AVX2.

Libraries choose their instructions by the processor and their threads by its cores. Either changes
the order in which numbers are added, so the last bits, and training makes another network of them.
Here all of it is chosen: call `pin_arithmetic` before NumPy and PyTorch are loaded, and
`check_arithmetic` after.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from snojoe.support.errors import SnojoeError

SWITCHES = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # PyTorch's products of matrices: Intel's mode for any vendor
    "OPENBLAS_CORETYPE": "Haswell",  # those of NumPy and SciPy, and eigenvectors
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # exp, log, sorts
    "OMP_NUM_THREADS": "1",  # of PyTorch see torch.set_num_threads
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

# What else these libraries read could change a result: fast but coarse modes, caches, schedules.
_FAMILIES = (
    *("ATEN_", "DNNL_", "GOMP_", "GOTO_", "KMP_", "MKL_", "NPY_", "OMP_", "ONEDNN_", "OPENBLAS_"),
    *("SCIPY_", "SKLEARN_", "TORCH_ALLOW_"),
)

_MKL_COMPATIBLE = 3


def is_portable() -> bool:
    """Whether this machine can compute the portable bits: Linux, x86-64, AVX2 and FMA."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {"avx2", "fma"} <= {*flags}


def pin_arithmetic() -> None:
    """Choose instructions and threads for this process and those that it starts.

    Raises
    ------
    RuntimeError
        If NumPy or PyTorch is loaded already: each has read the environment by then.
    """
    if loaded := {"numpy", "torch"} & sys.modules.keys():
        raise RuntimeError(f"{', '.join(sorted(loaded))}: loaded before the arithmetic was pinned")
    for name in [name for name in os.environ if name.startswith(_FAMILIES)]:
        if name != "OMP_WAIT_POLICY":  # decides how threads wait, and nothing else
            del os.environ[name]
    if is_portable():
        os.environ.update(SWITCHES)


def check_arithmetic(libraries: Iterable[str]) -> list[str]:
    """Load libraries and see whether each switch of `pin_arithmetic` took effect in them.

    Parameters
    ----------
    libraries : iterable of str
        Of "numpy", "scipy.linalg" and "torch".

    Returns
    -------
    list of str
        Why these results may differ from those of other machines, one reason each; empty where
        they are the portable ones.

    Raises
    ------
    SnojoeError
        If a library did not heed its switch.
    """
    if not is_portable():
        return [f"{platform.system()} on {platform.machine()}, not Linux on x86-64 with AVX2"]
    reasons = []
    if "hwcaps" in os.environ.get("GLIBC_TUNABLES", ""):  # read when the process started
        reasons.append("GLIBC_TUNABLES chooses the C library's own instructions")
    for library in libraries:
        for switch, found in _PROBES[library](import_module(library)).items():
            if found is None:
                reasons.append(f"this build of {library} does not know {switch}")
            elif not found:
                raise SnojoeError(f"{library}: {switch}={SWITCHES[switch]} did not take effect")
        if library == "torch" and import_module(library).accelerator.is_available():
            reasons.append("PyTorch computes on an accelerator")
    return reasons


Findings = dict[str, bool | None]
"""Switch -> whether it took effect; None where the library has nothing to switch."""


def _numpy(_: Any) -> Findings:
    try:
        umath = import_module("numpy._core._multiarray_umath")
    except ModuleNotFoundError:  # NumPy 1
        return {"NPY_DISABLE_CPU_FEATURES": None}
    switched_off = SWITCHES["NPY_DISABLE_CPU_FEATURES"].split()
    used = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]
    known = switched_off[0] in umath.__cpu_dispatch__
    beyond_avx2 = [name for name in used if name in switched_off or "AVX512" in name]
    return {
        "NPY_DISABLE_CPU_FEATURES": not beyond_avx2 if known else None,
        **_openblas("numpy.libs"),
    }


def _scipy(_: Any) -> Findings:
    return _openblas("scipy.libs")


def _openblas(folder: str) -> Findings:
    from threadpoolctl import threadpool_info

    found = [info for info in threadpool_info() if folder in info["filepath"]]
    kernels = [info["architecture"] for info in found if info["internal_api"] == "openblas"]
    return {"OPENBLAS_CORETYPE": {*kernels} == {"Haswell"} if kernels else None}


def _torch(torch: Any) -> Findings:
    # Of oneDNN's instructions PyTorch tells just this: whether AVX-512 is among them.
    has_avx512 = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    kernels, mode = torch.backends.cpu.get_cpu_capability(), _mkl_mode(torch)
    return {
        "ATEN_CPU_CAPABILITY": None if kernels == "DEFAULT" else kernels == "AVX2",
        "ONEDNN_MAX_CPU_ISA": not has_avx512() if has_avx512 else None,
        "MKL_CBWR": mode == _MKL_COMPATIBLE if mode is not None else None,
    }


def _mkl_mode(torch: Any) -> int | None:
    """MKL's mode of reproducible results, None where this PyTorch was not linked with it."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return int(library.mkl_serv_cbwr_get(-1))
    except (OSError, AttributeError):
        return None


_PROBES: dict[str, Callable[[Any], Findings]] = {
    "numpy": _numpy,
    "scipy.linalg": _scipy,
    "torch": _torch,
}
