"""Two processes train together and hold the same singular vectors."""

import torch
import torch.multiprocessing as mp
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from snojoe.spectral_norm import apply_spectral_norm, movement


def train(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    torch.manual_seed(0)  # one initial model
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 36, 4))
    example = torch.zeros(1, 3, 6, 6)
    torch.manual_seed(rank)  # from here on every process draws its own numbers
    handle = apply_spectral_norm(model, 3, norm="operator", example_input=example)
    network = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(8):
        if step == 4:  # from here on weights rest
            movement.CALM_STEPS = 0
            optimizer.param_groups[0]["lr"] = 1e-5
        optimizer.zero_grad()
        network(torch.randn(4, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        handle.power_iteration()
    torch.save(model.state_dict(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_processes_hold_the_same_vectors(tmp_path):
    mp.start_processes(train, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert "0.spectral_norm.u" in first
    assert all(torch.equal(first[name], second[name]) for name in first)
    steps, _, rested = first["0.spectral_norm._extra_state"].tolist()
    assert steps == 8
    assert rested > 0
