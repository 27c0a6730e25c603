"""Online kNN accuracy on held-out training images during pretraining; `suite tune` prunes trials by it.

It changes nothing: the backbone is left in the mode it was in and no random number is drawn, so that a job that is
measured ends with the same weights as one that is not, and has the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.kinds.pretrain import PretrainSpec
from suite.kinds.probe import KnnArgs

if TYPE_CHECKING:  # the parent of a run describes what to measure, and does not load torch for that
    from torch import Tensor

    from methods.backbone import Backbone
    from suite.data.decoded.split import SplitSource, Subset
    from suite.training.session import Session

METRIC = "knn_held_out"  # in metrics.jsonl, percent


@dataclass(frozen=True)
class OnlineKnn:
    """The measurement and its interval."""

    datasets: tuple[str, ...]  # those that are judged; not the ones of a first stage
    every: int  # epochs
    held_out: float  # share of every class that is classified, by what is left of the training split
    eval_resize: float  # as of the recipe's probe
    knn: KnnArgs

    def watch(
        self, spec: PretrainSpec, train: SplitSource, session: Session
    ) -> Callable[[Backbone, int], dict[str, float]]:
        """For `Session.watch`: after every so many epochs and after the last, {METRIC: top-1}."""
        from suite.training.evaluation import held_out_subsets

        bank, queries = held_out_subsets(train, self.held_out, spec.seed)

        def measure(backbone: Backbone, epoch: int) -> dict[str, float]:
            if epoch % self.every and epoch < spec.train.epochs:
                return {}
            return {METRIC: self._top1(backbone, bank, queries, spec.image_size, session)}

        return measure

    def _top1(self, backbone: Backbone, bank: Subset, queries: Subset, side: int, session: Session) -> float:
        from methods.backbone import evaluating
        from suite.training.evaluation import top1_accuracy
        from suite.training.features import knn_predict

        device = session.fabric.device
        with evaluating(backbone):
            bank_features, query_features = (
                self._features(backbone, subset, side, session) for subset in (bank, queries)
            )
        predicted = knn_predict(bank_features, bank.labels.to(device), query_features, self.knn)
        return top1_accuracy(predicted, queries.labels.to(device))

    def _features(self, backbone: Backbone, subset: Subset, side: int, session: Session) -> Tensor:
        from suite.training.evaluation import centre_crops
        from suite.training.features import features

        return features(backbone, centre_crops(subset, side, self.eval_resize, session.loading), session.fabric.device)
