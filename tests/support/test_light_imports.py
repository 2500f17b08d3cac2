import subprocess
import sys

from snojoe.support.light_imports import compiler_when_called

CODE = """
import sys
import torch
from snojoe.model import classifier
print("torch._dynamo" in sys.modules)
from torchvision.ops import roi_align
box = torch.tensor([[0.0, 0, 0, 4, 4]])
print(roi_align(torch.ones(1, 3, 8, 8), box, 2).mean().item())
from torchvision.ops.roi_align import is_compile_supported
print(is_compile_supported("cpu"), "torch._dynamo" in sys.modules)
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""


def test_torchvision_loads_the_compiler_when_it_is_asked_for():
    printed = subprocess.check_output([sys.executable, "-c", CODE], text=True)
    assert printed == "False\n1.0\nTrue True\n2.0\n"


def test_what_is_loaded_stays(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", sys)
    with compiler_when_called():
        assert sys.modules["torch._dynamo.utils"] is sys
    assert sys.modules["torch._dynamo.utils"] is sys
