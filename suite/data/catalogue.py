"""What the suite knows of each dataset before looking at the disk: official counts, folders, licence, source.

Counts: CUB (Wah et al. 2011), NABirds (Van Horn et al. 2015), FGVC-Aircraft 2013b (Maji et al. 2013,
arXiv:1306.5151; train = train + val), Stanford Cars (Krause et al. 2013), COCO train2017 (arXiv:1405.0312),
ImageNet-1k (Russakovsky et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """Facts about one dataset; counts are those of the official release."""

    name: str
    label: str  # as printed in the paper's tables
    folders: tuple[str, ...]  # looked for under the data root, in this order
    train: int
    test: int
    classes: int
    licence: str
    source: str  # where a user gets it

    @property
    def labelled(self) -> bool:
        """Whether the suite uses class labels of this dataset (it does not for first-stage sets)."""
        return self.classes > 0


DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            "cub", "CUB", ("CUB_200_2011",), 5994, 5794, 200,
            "non-commercial research and education; photographers keep the copyright",
            "https://data.caltech.edu/records/65de6-vp158 (CUB_200_2011.tgz)",
        ),
        DatasetInfo(
            "nabirds", "NABirds", ("nabirds",), 23929, 24633, 555,
            "non-commercial research; credit the photographers; do not redistribute",
            "https://dl.allaboutbirds.org/nabirds (ask with the form, then unpack nabirds.tar.gz)",
        ),
        DatasetInfo(
            "aircraft", "Aircraft", ("fgvc_aircraft", "fgvc-aircraft-2013b"), 6667, 3333, 100,
            "non-commercial research only; photographers keep the copyright",
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ (fgvc-aircraft-2013b.tar.gz)",
        ),
        DatasetInfo(
            "cars", "Cars", ("stanford_cars",), 8144, 8041, 196,
            "research use, as ImageNet's terms; images belong to their owners",
            "the original host is gone since 2023; torchvision.datasets.StanfordCars says where copies are",
        ),
        DatasetInfo(
            "coco", "COCO", ("coco",), 118287, 0, 0,
            "annotations CC BY 4.0; every image has its own Flickr licence",
            "http://images.cocodataset.org/zips/train2017.zip",
        ),
        DatasetInfo(
            "imagenet", "ImageNet-1K", ("imagenet", "ILSVRC2012", "imagenet_sample"), 1281167, 0, 0,
            "non-commercial research and education, ImageNet terms of access",
            "https://image-net.org (ILSVRC2012 training images)",
        ),
    )
}  # fmt: skip
