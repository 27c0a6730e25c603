"""What `suite report` may be asked about its class activation maps. Light: it is read before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from suite.errors import unknown

# Name on the command line -> class in pytorch_grad_cam, and its paper. All but the last two explain a class. At the
# last block, before average pooling and one linear layer, the gradient is the same at every place: gradcam, xgradcam
# and hirescam then give one and the same map. (The package's element-wise Grad-CAM would be layercam's there.)
KINDS = {
    "gradcam": ("GradCAM", "Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391)"),
    "gradcam++": ("GradCAMPlusPlus", "Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063)"),
    "xgradcam": ("XGradCAM", "XGrad-CAM (Fu et al. 2020, arXiv:2008.02312)"),
    "hirescam": ("HiResCAM", "HiResCAM (Draelos and Carin 2020, arXiv:2011.08891)"),
    "layercam": ("LayerCAM", "LayerCAM (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943)"),
    "eigengradcam": ("EigenGradCAM", "Eigen-Grad-CAM (pytorch-grad-cam)"),
    "eigencam": ("EigenCAM", "Eigen-CAM (Muhammad and Yeasin 2020, arXiv:2008.00299)"),
    "fem": ("FEM", "FEM (Fuad et al. 2020, hal-02963298)"),
}
COLOUR_MAPS = ("viridis", "jet")  # jet only because older papers use it: its brightness is not monotonic


@dataclass(frozen=True, slots=True)
class CamOptions:
    """Which maps, of which test images, in which colours."""

    kinds: tuple[str, ...] = ("gradcam",)
    count: int = 5  # images per figure
    files: tuple[str, ...] = ()  # names of test images, instead of drawn ones in the datasets that have them
    seed: int = 0  # draws the images
    colours: str = "viridis"

    def __post_init__(self) -> None:
        """Raise UsageError, with the nearest match, for a kind or a colour map that does not exist."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("CAM", kind, KINDS)
        if self.colours not in COLOUR_MAPS:
            raise unknown("colour map", self.colours, COLOUR_MAPS)


def file_name(kind: str) -> str:
    """The kind as a part of a file name."""
    return kind.replace("+", "p")
