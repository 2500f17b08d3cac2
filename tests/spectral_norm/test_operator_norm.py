import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snojoe.model.classifier import build_classifier
from snojoe.spectral_norm import convolution_shapes, normalize_modules, spectral_norms


def convolution_matrix(conv, shape):
    """The convolution as an explicit matrix, (outputs, inputs)."""
    inputs = torch.eye(torch.Size(shape).numel()).view(-1, *shape)
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return F.conv2d(inputs, conv.weight, None, *geometry).flatten(1).T


def geometries():
    """Every (kernel, stride, padding, dilation, depthwise?) of the supported trunks."""
    found = set()
    for arch in ("resnet18", "resnet50", "densenet121", "mobilenet_v2"):
        with torch.device("meta"):
            model = build_classifier(arch, 2)
        for conv in model.modules():
            if isinstance(conv, nn.Conv2d):
                assert conv.groups in (1, conv.in_channels)
                geometry = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
                found.add((*geometry, conv.groups > 1))
    return sorted(found)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "depthwise"), geometries())
@pytest.mark.parametrize("channels", [(3, 5), (6, 4)])
def test_sigma_is_that_of_the_explicit_matrix(
    kernel, stride, padding, dilation, depthwise, channels
):
    torch.manual_seed(0)
    inputs, outputs = channels
    groups = inputs if depthwise else 1
    conv = nn.Conv2d(
        *(inputs, inputs if depthwise else outputs, kernel, stride, padding, dilation, groups),
        bias=False,
    )
    exact = torch.linalg.svdvals(convolution_matrix(conv, (inputs, 9, 8)))[0].item()
    shapes = convolution_shapes(conv, torch.zeros(1, inputs, 9, 8))
    normalize_modules([conv], norm="operator", shapes=shapes)
    assert conv.spectral_norm.sigma.item() == pytest.approx(exact, rel=1e-3)


def test_dense_1x1_convolutions_agree_with_the_reshaped_kernel():
    conv = nn.Conv2d(4, 6, 1, stride=2)
    (operator,) = spectral_norms(conv, norm="operator", example_input=torch.zeros(1, 4, 7, 7))
    (reshaped,) = spectral_norms(conv)
    assert operator.sigma == pytest.approx(reshaped.sigma, rel=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_gradient_is_that_of_dividing_by_the_largest_singular_value(groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups, bias=False)
    direction = torch.randn_like(conv.weight)
    sigma = torch.linalg.matrix_norm(convolution_matrix(conv, (4, 6, 6)), 2)
    (expected,) = torch.autograd.grad((conv.weight / sigma * direction).sum(), conv.weight)

    normalize_modules(
        [conv], norm="operator", shapes=convolution_shapes(conv, torch.zeros(1, 4, 6, 6))
    )
    (conv.weight * direction).sum().backward()
    torch.testing.assert_close(conv.trained_weight.grad, expected, rtol=1e-3, atol=1e-3)


def test_another_group_can_take_the_lead():
    conv = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False)
    with torch.no_grad():
        conv.weight[0].fill_(0.2)
        conv.weight[1].fill_(0.1)
    normalize_modules(
        [conv], norm="operator", shapes=convolution_shapes(conv, torch.zeros(1, 2, 5, 5))
    )
    state = conv.spectral_norm
    before = state.sigma.item()
    with torch.no_grad():
        conv.trained_weight[1].fill_(0.4)
    from snojoe.spectral_norm import SpectralNorm

    SpectralNorm(conv).power_iteration()
    assert state.sigma.item() == pytest.approx(2 * before, rel=1e-4)


@pytest.mark.parametrize(
    "padding", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}]
)
def test_other_padding_is_refused(padding):
    conv = nn.Conv2d(3, 3, 3, **padding)
    with pytest.raises(ValueError, match="expects zero padding"):
        normalize_modules(
            [conv], norm="operator", shapes=convolution_shapes(conv, torch.zeros(1, 3, 5, 5))
        )
