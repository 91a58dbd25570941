"""The table of losses: functions of logits (N, K) and labels (N,), int64, to a scalar mean over the batch.

The two losses of LeCun 1998, section II-C, take logits that are minus the penalties y of the paper, here squared
distances, as `lenet5_1998` gives them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def lecun_mle(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Maximum likelihood: the mean penalty of the right class [LeCun 1998, eq. 8]."""
    return F.nll_loss(logits, labels)


def lecun_map(logits: torch.Tensor, labels: torch.Tensor, rubbish: float = 1.0) -> torch.Tensor:
    """Maximum a posteriori: the mean of y_D + log(exp(-j) + sum_i exp(-y_i)) [LeCun 1998, eq. 9].

    That is cross-entropy, in nats, with one more class whose logit is -j: the rubbish that is no digit.

    Args:
        logits: minus the penalties, (N, K).
        labels: the right classes, (N,), int64.
        rubbish: the constant j, above zero. The paper gives no value; a class whose penalty is far above j is not
            pushed further away.

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
