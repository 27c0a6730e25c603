"""Names of the class activation maps that the suite draws."""

from __future__ import annotations

# Name on the command line -> class in pytorch_grad_cam, and its paper. All but the last two explain a class. At the
# last block, before average pooling and one linear layer, the gradient is the same at every place: gradcam, xgradcam
# and hirescam then give one and the same map. (The package's element-wise Grad-CAM would be layercam's there.)
CAM_KINDS = {
    "gradcam": ("GradCAM", "Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391)"),
    "gradcam++": ("GradCAMPlusPlus", "Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063)"),
    "xgradcam": ("XGradCAM", "XGrad-CAM (Fu et al. 2020, arXiv:2008.02312)"),
    "hirescam": ("HiResCAM", "HiResCAM (Draelos and Carin 2020, arXiv:2011.08891)"),
    "layercam": ("LayerCAM", "LayerCAM (Jiang et al. 2021, doi:10.1109/TIP.2021.3089943)"),
    "eigengradcam": ("EigenGradCAM", "Eigen-Grad-CAM (pytorch-grad-cam)"),
    "eigencam": ("EigenCAM", "Eigen-CAM (Muhammad and Yeasin 2020, arXiv:2008.00299)"),
    "fem": ("FEM", "FEM (Fuad et al. 2020, hal-02963298)"),
}
