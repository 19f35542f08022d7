"""Groups of images whose maps lie alike.

After spectral relevance analysis (Lapuschkin et al., *Unmasking Clever Hans predictors*, 2019), which clusters relevance maps
to find strategies such as "looks at the watermark". Departure: Ward's clustering of Hellinger distances, which needs neither a
number of neighbours nor a spectrum to choose, and gives the same groups each time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from guidance.maps import Maps, energy_of

CELLS = 8  # a side; finer maps are alike only where objects lie at the same pixel


def evidence_shares(attribution: Maps, cells: int = CELLS) -> Tensor:
    """Share of a map's positive evidence in each cell of a square grid: [M, H, W] -> [M, cells, cells].

    A map without positive evidence gives zeros.
    """
    energy = energy_of(attribution)
    pooled = functional.adaptive_avg_pool2d(energy.positive[:, None], cells)[:, 0]
    total = torch.where(energy.exists, pooled.sum((1, 2)), 1.0)
    return pooled / total[:, None, None]


def group_similar(shares: Tensor, groups: int) -> Tensor:
    """Groups of similar maps: shares [N, h, w] -> [N] long, from 0, the largest group first; at most `groups` of them.

    Maps without evidence are a group of their own, where there are any, beside these. Raises ValueError for fewer than one
    group.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    if groups < 1:
        raise ValueError(f"maps are put into at least one group, not {groups}")
    some = shares.flatten(1).sum(1) > 0
    found = torch.zeros(len(shares), dtype=torch.long)
    if int(some.sum()) > 1:
        tree = linkage(shares[some].flatten(1).sqrt().double().numpy(), "ward")
        found[some] = torch.from_numpy(fcluster(tree, groups, "maxclust")).long()
    elif some.any():
        found[some] = 1
    return _by_size(found)


def _by_size(labels: Tensor) -> Tensor:
    """The same groups [N], numbered from the largest on; of equal ones the first to appear is first."""
    names = list(dict.fromkeys(labels.tolist()))
    ordered = sorted(names, key=lambda name: -int((labels == name).sum()))
    return torch.tensor([ordered.index(name) for name in labels.tolist()], dtype=torch.long)
