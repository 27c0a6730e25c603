"""Names a grid may use, what they stand for, and where their code is. Imports no torch: code is loaded when built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from methods import args, attention_guided_args, multi_crop_args, redundancy_reduction_args


@dataclass(frozen=True, slots=True)
class ComponentEntry:
    """One building block. `version` enters the key of every job that uses it: raise it when results would change."""

    code: str  # "module:name"
    args: type[args.Args]
    version: int = 1
    needs_saliency: bool = False  # reads saliency maps of the training images
    gives_masks: bool = False  # its views carry a mask, which the alignment needs
    # Of an objective: computes feature maps of queries and keys and takes a module `alignment`, None or L_Align's.
    exposes_maps: bool = False
    needs_masks: bool = False  # of an objective: its views must carry masks
    needs_regions: bool = False  # of an objective: cuts regions out of a map inside the backbone
    needs_train_size: bool = False  # takes `train_images`, the number of training images: queues depend on it
    plain_views: str = "random_resized_crop"  # an objective's own views, which a first stage uses
    # Of an objective: forward passes per training image, a backward pass counted as two; for estimates of time only.
    passes: float | None = None
    # Of blocks from outside the project, which no profile has a recipe for:
    recipe: Mapping[str, Any] = field(default_factory=dict)
    by_profile: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # laid over `recipe` in that profile
    plugin: str = ""  # the file's name
    sha256: str | None = None  # of that file; enters keys

    def load(self) -> Any:
        """Import and return the class; this is where torch gets loaded."""
        module, _, name = self.code.partition(":")
        return getattr(import_module(module), name)


OBJECTIVES: dict[str, ComponentEntry] = {
    "byol": ComponentEntry(
        "methods.byol:Byol", args.ByolArgs, exposes_maps=True, passes=8
    ),  # two views, online 3 and target 1 each
    "simclr": ComponentEntry("methods.simclr:Simclr", args.SimclrArgs, exposes_maps=True, passes=6),
    "simsiam": ComponentEntry("methods.simsiam:Simsiam", args.SimsiamArgs, exposes_maps=True, passes=6),
    "moco_v2": ComponentEntry(
        "methods.moco_v2:MocoV2", args.MocoV2Args, exposes_maps=True, needs_train_size=True, passes=4
    ),
    "looc": ComponentEntry(  # a query and three keys, with the two augmentations of our recipes
        "methods.looc:Looc", args.LoocArgs, needs_train_size=True, plain_views="shared_augmentation", passes=6
    ),
    "rot_pred": ComponentEntry("methods.rot_pred:RotPred", args.RotPredArgs, plain_views="rotations", passes=12),
    "rel_loc": ComponentEntry(
        "methods.rel_loc:RelLoc", args.RelLocArgs, plain_views="patches", passes=27
    ),  # nine patches
    "insloc": ComponentEntry(
        "methods.insloc:InsLoc",
        args.InsLocArgs,
        needs_regions=True,
        needs_train_size=True,
        plain_views="instance_composition",
        passes=4,
    ),
    "cast": ComponentEntry(  # query 3, key and masked key 1 each
        "methods.cast:Cast",
        attention_guided_args.CastArgs,
        needs_masks=True,
        needs_train_size=True,
        plain_views="cast_crop",
        passes=5,
    ),
    "lcr": ComponentEntry("methods.lcr:Lcr", attention_guided_args.LcrArgs, needs_train_size=True, passes=4),
    "barlow_twins": ComponentEntry(
        "methods.barlow_twins:BarlowTwins", redundancy_reduction_args.BarlowTwinsArgs, passes=6
    ),
    "vicreg": ComponentEntry("methods.vicreg:Vicreg", redundancy_reduction_args.VicregArgs, passes=6),
    "dino": ComponentEntry(
        # two global crops, student 3 and teacher 1 each; eight local crops of 96 px beside 224 px, student
        "methods.dino:Dino",
        multi_crop_args.DinoArgs,
        plain_views="multi_crop",
        passes=12.4,
    ),
    "swav": ComponentEntry(  # two global crops and eight local ones, 3 each
        "methods.swav:Swav", multi_crop_args.SwavArgs, plain_views="multi_crop", passes=10.4
    ),
}

VIEWS: dict[str, ComponentEntry] = {
    "random_resized_crop": ComponentEntry(
        "methods.views.random_resized_crop:RandomResizedCrop", args.RandomResizedCropArgs
    ),
    "saliency_swap": ComponentEntry(
        "methods.views.saliency_swap:SaliencySwap",
        args.SaliencySwapArgs,
        needs_saliency=True,
        gives_masks=True,
    ),
    "shared_augmentation": ComponentEntry(
        "methods.views.shared_augmentation:SharedAugmentation", args.SharedAugmentationArgs
    ),
    "rotations": ComponentEntry("methods.views.rotations:Rotations", args.RotationsArgs),
    "patches": ComponentEntry("methods.views.patches:Patches", args.PatchesArgs),
    "dilo": ComponentEntry("methods.views.dilo:Dilo", args.DiloArgs, needs_saliency=True),
    "instance_composition": ComponentEntry(
        "methods.views.instance_composition:InstanceComposition", args.InstanceCompositionArgs
    ),
    "crop_with_mask": ComponentEntry(
        "methods.views.crop_with_mask:CropWithMask",
        attention_guided_args.CropWithMaskArgs,
        needs_saliency=True,
        gives_masks=True,
    ),
    "cast_crop": ComponentEntry(
        "methods.views.cast_crop:CastCrop", attention_guided_args.CastCropArgs, needs_saliency=True, gives_masks=True
    ),
    "contrastive_crop": ComponentEntry(
        "methods.views.contrastive_crop:ContrastiveCrop", attention_guided_args.ContrastiveCropArgs
    ),
    "multi_crop": ComponentEntry("methods.views.multi_crop:MultiCrop", multi_crop_args.MultiCropArgs),
}

ALIGNMENT = ComponentEntry("methods.alignment:SaliencyAlignment", args.AlignmentArgs)
