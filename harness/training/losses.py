"""Losses by name: each maps logits (N, K) and labels int64 (N,) to the scalar mean over the batch.

The two losses of LeCun 1998, section II-C, need the logits of `lenet5_1998`: the negated penalties y of the paper,
which are squared distances.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def lecun_mle(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the maximum likelihood loss: the mean penalty of the right class [LeCun 1998, eq. 8]."""
    return F.nll_loss(logits, labels)


def lecun_map(logits: torch.Tensor, labels: torch.Tensor, rubbish: float = 1.0) -> torch.Tensor:
    """Return the maximum a posteriori loss: the mean of y_D + log(exp(-j) + sum_i exp(-y_i)) [LeCun 1998, eq. 9].

    This is cross-entropy, in nats, with one more class of logit -j, which stands for images that show no digit.

    Args:
        logits: negated penalties, (N, K).
        labels: right classes, int64 (N,).
        rubbish: the constant j, above zero. The paper gives no value; a class with a penalty far above j is not pushed
            further away.

    Raises:
        ValueError: `rubbish` is not above zero.
    """
    if not rubbish > 0:
        raise ValueError(f"the constant j of lecun_map must be above zero, not {rubbish}")
    return F.cross_entropy(F.pad(logits, (0, 1), value=-rubbish), labels)


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
LOSSES: dict[str, Loss] = {
    "cross_entropy": F.cross_entropy,  # nats
    "lecun_mle": lecun_mle,  # squared distance
    "lecun_map": lecun_map,  # nats
}
