"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929) of timm as a plugin. It needs `pip install timm`.

    suite run --grid paper_table1 --method byol --set backbone.arch=vit_small --plugin examples/vit_backbone.py

Key names are timm's. So published checkpoints of a ViT-S/16, such as timm's own or DINO's, can take a first stage's
place (--stage1), and timm loads the weights of `suite export`. DINOv2's ViT-S/14 has the same key names: it is the row
dinov2_vits14 of the grid `beyond`, with patch 14, grid 37 and layer_scale 1e-5. Its pooled feature here is the average
of the patch tokens; DINOv2's own linear probe takes the class token as well.
"""

from typing import Literal

from pydantic import Field, model_validator
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from methods.backbone import Backbone
from methods.backbones.base import BackboneArgs, BackboneFamily, Cost, PublicModel
from suite.plugin import register_backbone


class VitArgs(BackboneArgs):
    """A vision transformer with a class token and learned positions. The defaults are those of ViT-S/16."""

    arch: Literal["vit_small"]
    patch: int = Field(16, ge=1, description="side of a patch, px")
    width: int = Field(384, ge=1, description="channels of a token")
    depth: int = Field(12, ge=1, description="transformer blocks")
    heads: int = Field(6, ge=1, description="attention heads; they divide the width")
    grid: int = Field(14, ge=1, description="learned positions per side; interpolated for images of other sizes")
    layer_scale: float = Field(
        0, ge=0, description="initial scale of each block's two branches (CaiT, arXiv:2103.17239); 0: none"
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> "VitArgs":
        if self.width % self.heads:
            raise ValueError(f"expected heads that divide the width {self.width}, got {self.heads}")
        return self


class Vit(VisionTransformer, Backbone):  # type: ignore[misc]
    """The feature map is the normalised patch tokens, the pooled feature is their average.

    The class token takes part in attention, as in published checkpoints. Its own output is not used.
    """

    def __init__(self, args: VitArgs) -> None:
        super().__init__(
            img_size=args.grid * args.patch, patch_size=args.patch, embed_dim=args.width, depth=args.depth,
            num_heads=args.heads, num_classes=0, global_pool="token", dynamic_img_size=True, dynamic_img_pad=True,
            init_values=args.layer_scale or None,
        )  # fmt: skip
        self.args, self.dim = args, args.width

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, width, h, w], h = ceil(H / patch): the image is padded to whole patches."""
        h, w = (-(-side // self.args.patch) for side in images.shape[2:])
        tokens = self.forward_features(images)[:, 1:]  # [B, h w, width]
        return tokens.transpose(1, 2).reshape(len(images), self.dim, h, w)


class VitFamily(BackboneFamily):
    archs = ("vit_small",)
    args = VitArgs

    def network(self, args: VitArgs) -> Backbone:
        return Vit(args)

    def dim(self, args: VitArgs) -> int:
        return args.width

    def cost(self, args: VitArgs, side: int) -> Cost:
        width, patches = args.width, (-(-side // args.patch)) ** 2
        tokens = patches + 1
        pixels = 3 * args.patch**2
        # Query, key, value and projection: 4 width^2. Perceptron: 8 width^2. Two products over all pairs of tokens.
        block = tokens * 12 * width**2 + 2 * tokens**2 * width
        scales = 2 * width * (args.layer_scale > 0)
        learned = 12 * width**2 + 13 * width + scales  # of a block: weights, biases, two normalisations and scales
        parameters = pixels * width + width + (args.grid**2 + 2) * width + args.depth * learned + 2 * width
        return Cost(patches * pixels * width + args.depth * block, parameters)

    def public_model(self, args: VitArgs) -> PublicModel:
        if args == VitArgs(arch="vit_small", code=args.code):
            constructor = 'timm.create_model("vit_small_patch16_224"'
        else:
            constructor = (
                f"timm.models.VisionTransformer(img_size={args.grid * args.patch}, patch_size={args.patch}, "
                f"embed_dim={args.width}, depth={args.depth}, num_heads={args.heads}, "
                f"init_values={args.layer_scale or None}"
            )
        average = 'global_pool="avg", fc_norm=False, dynamic_img_size=True, dynamic_img_pad=True)'
        return PublicModel(
            "timm", f"{constructor})",
            backbone=f"import timm\n\nmodel = {constructor}, num_classes=0, {average}  # features [B, dim]",
            classifier=f"import timm\n\nmodel = {constructor}, num_classes={{classes}}, {average}",
            head="head",
        )  # fmt: skip


register_backbone(VitFamily())
