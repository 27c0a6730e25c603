"""CAST: contrastive attention-supervised tuning (Selvaraju et al. 2021, arXiv:2012.04630), on MoCo v2.

Loss: InfoNCE + weight x L_att. L_att compares the places by which the query q recognises the object of its key with
the query's saliency mask M. The key view is multiplied by its own mask, which leaves the object on ImageNet's mean
grey, and encoded by the key encoder: k_m. The Grad-CAM of the similarity q . k_m at the query's last feature map A is

    G = ReLU(sum_c alpha_c A_c),  alpha_c = mean over positions of d(q . k_m) / dA_c        L_att = 1 - cos(G, M)

with M averaged over areas to the grid of A. L_att depends on a gradient, so its own gradient is a second derivative.
Between A and the similarity there are an average, two linear layers with a ReLU, and a normalisation: their derivative
is written out in contrastive_cam.py, and autograd differentiates that expression. No gradient reaches k_m or M.

Needs the views `cast_crop`, or others with masks.
Differs from the official code (salesforce/CAST), which departs from the paper's equations here: it stretches each G to
0..1, takes one cosine over the maps of a device, samples M at the grid's points, divides the sum of the losses by 4,
clips gradients at norm 2, and moves the key encoder twice per step. Its keys are MoCo v1's (temperature .07, no hidden
layer); ours are those of the row MoCo v2.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

from methods.attention_guided_args import CastArgs
from methods.backbone import Backbone
from methods.contrastive_cam import grad_cam
from methods.moco_v2 import MocoV2
from methods.views.batch import Views


class Cast(MocoV2):
    """Needs two views with masks. In training every call of `loss` moves the key encoder and the queue."""

    args: CastArgs

    def __init__(self, args: CastArgs, backbone: Backbone, train_images: int) -> None:
        super().__init__(args, backbone, train_images)

    def loss(self, views: Views) -> dict[str, Tensor]:
        """InfoNCE of view 1 against view 2 and the queue, plus weight x L_att.

        View images [B, 3, S, S], masks [B, 1, S, S].

        Raises:
            ValueError: the views carry no masks.
        """
        if views.masks is None:
            raise ValueError("CAST needs views with masks, such as cast_crop")
        view, key_view = views.images
        mask, key_mask = views.masks
        self.update_keys()
        maps, query = self.encode_query(view, maps=True)
        _, key = self.encode_key(key_view, maps=False)
        _, masked_key = self.encode_key(key_view * key_mask, maps=False)
        scalars = self.contrast(query, key)
        attention = attention_loss(grad_cam(maps, self.head, masked_key), mask)
        contrastive = scalars["loss"]
        scalars |= {"contrastive": contrastive.detach(), "attention_loss": attention.detach()}
        return {**scalars, "loss": contrastive + self.args.weight * attention}


def attention_loss(cam: Tensor, mask: Tensor) -> Tensor:
    """Mean over images of 1 - cos(G, M): G [B, h, w], M [B, 1, S, S] averaged over areas to h x w -> [].

    A map that is zero everywhere counts as cosine 0 and gets no gradient.
    """
    target = adaptive_avg_pool2d(mask.detach().to(cam.dtype), (cam.shape[1], cam.shape[2]))[:, 0]
    # The cosine does not depend on the map's scale, so the smallest length that counts is far below any map's.
    return 1 - cosine_similarity(cam.flatten(1), target.flatten(1), dim=1, eps=1e-20).mean()
