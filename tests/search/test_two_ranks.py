"""A search that follows −sign(g) on whole models that two processes train."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brevitas_ftprop.search import search_targets
from brevitas_ftprop.targets import Targets, TargetSetter
from tests.search.conftest import MODELS, assert_same_bits, backward, images


class Follow(TargetSetter):
    name = "follow"

    def choose(self, h, grad, above, generator):
        assert above.losses(h).shape == h.shape[:1]
        return Targets(-grad.sign(), grad.abs())


def rank_of_two(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    for name, build in MODELS.items():
        gradients = []
        for searched in (True, False):
            torch.manual_seed(0)
            model = build().train()
            x = images(name, 4)[2 * rank : 2 * rank + 2]
            with torch.no_grad():
                # Scales start from statistics.
                model(images(name))
            ranks = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
            with search_targets(ranks, Follow() if searched else "gradient_sign") as search:
                found = backward(ranks, x)
            chosen = sum(layer.chosen for layer in search.report().layers.values())
            assert bool(chosen) == (searched and name != "resnet18_4w4a")
            gradients.append({key: each.clone() for key, each in found.items()})
        assert_same_bits(*gradients)
    torch.distributed.destroy_process_group()


# A process that has differentiated must not be forked, and a new one imports torch for seconds.
@pytest.mark.slow
def test_looking_at_every_layer_changes_no_bit_where_two_ranks_train(tmp_path):
    torch.multiprocessing.start_processes(rank_of_two, (tmp_path,), nprocs=2, start_method="spawn")
