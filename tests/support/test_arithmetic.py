"""What decides the last bits is chosen, whatever the environment says, and seen to take effect."""

import os
import subprocess
import sys

import pytest

from snojoe.support.arithmetic import SWITCHES, is_portable

LIBRARIES = ["numpy", "scipy.linalg", "torch"]
HOSTILE = {
    "OMP_NUM_THREADS": "7",
    "OMP_THREAD_LIMIT": "2",
    "MKL_CBWR": "AVX2",
    "MKL_DYNAMIC": "TRUE",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "ONEDNN_MAX_CPU_ISA": "AVX",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "ATEN_CPU_CAPABILITY": "default",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3",
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENBLAS_L2_SIZE": "64",
}

portable = pytest.mark.skipif(not is_portable(), reason="another processor or system")


def python(code, **env):
    command = [sys.executable, "-c", f"from snojoe.support.arithmetic import *\n{code}"]
    return subprocess.run(command, env=os.environ | env, text=True, capture_output=True)


@portable
def test_no_variable_that_happens_to_be_set_counts():
    families = tuple({f"{name.split('_')[0]}_" for name in HOSTILE})
    done = python(
        "pin_arithmetic()\n"
        f"print(check_arithmetic({LIBRARIES}))\n"
        f"print({{k: v for k, v in os.environ.items() if k.startswith({families})}})\n"
        "import torch\nprint(torch.get_num_threads())",
        **HOSTILE,
    )
    assert done.returncode == 0, done.stderr
    reasons, variables, threads = done.stdout.splitlines()
    found = eval(variables)
    found.pop("OMP_WAIT_POLICY", None)
    assert found == SWITCHES
    assert threads == "1"
    assert eval(reasons) == [] or "does not know" in reasons  # a PyTorch of the user's own


@portable
@pytest.mark.parametrize(
    ("switch", "other"),
    [
        ("OPENBLAS_CORETYPE", "Sandybridge"),
        ("MKL_CBWR", "AUTO"),
        ("ATEN_CPU_CAPABILITY", "default"),
    ],
)
def test_a_switch_without_effect_is_named(switch, other):
    changed = f"os.environ[{switch!r}] = {other!r}"
    done = python(f"pin_arithmetic()\n{changed}\nprint(check_arithmetic({LIBRARIES}))")
    assert f"{switch}={SWITCHES[switch]} did not take effect" in done.stderr or (
        f"does not know {switch}" in done.stdout
    )


def test_a_library_that_is_loaded_already_cannot_be_pinned():
    done = python("import numpy\npin_arithmetic()")
    assert "numpy: loaded before the arithmetic was pinned" in done.stderr


def test_another_machine_is_told_why_its_digits_differ(monkeypatch):
    from snojoe.support import arithmetic

    monkeypatch.setattr("platform.machine", lambda: "arm64")
    (reason,) = arithmetic.check_arithmetic(LIBRARIES)
    assert reason.endswith("arm64, not Linux on x86-64 with AVX2")
