"""The published augmentations: data for `c.augment.update(presets.NAME)`.

Each sets every field of the config's `augment`, whatever stood there before.
Interpolation, antialiasing, mean and standard deviation belong to the config's
`data`.

The amounts, the order, the rule of the crops and the form of the jitter are the
official code's. The blur is the same for all: its kernel ends at a twentieth
of the side (PIL's, used by MoCo, SwAV, DINO and others, does not end there).
"""

# As in torchvision's classification examples; one a channel.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SWAV_STD = (0.228, 0.224, 0.225)  # swav: its weights were trained with this
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)  # solo-learn
CIFAR10_NARROW_STD = (0.2023, 0.1994, 0.2010)  # SupContrast, MoCo, lemniscate
CIFAR100_MEAN = (0.5071, 0.4867, 0.4408)  # SupContrast
CIFAR100_STD = (0.2675, 0.2565, 0.2761)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # openai/CLIP, clip.py
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Mean and standard deviation together.
CLIP = (CLIP_MEAN, CLIP_STD)
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
CIFAR10 = (CIFAR10_MEAN, CIFAR10_STD)
CIFAR10_NARROW = (CIFAR10_MEAN, CIFAR10_NARROW_STD)
CIFAR100 = (CIFAR100_MEAN, CIFAR100_STD)

_FLIP_LAST = ('jitter', 'grayscale', 'blur', 'solarize', 'flip')

# google-research/simclr; SimCLR (2002.05709) appendix A. Its crops start at
# 0.08, and what is below 0.1 is drawn again (min_object_covered). The fields of
# local crops are SwAV's, for those who turn them on.
SIMCLR = dict(
  stages=('flip', 'jitter', 'grayscale', 'blur', 'solarize'),
  crop_rule='tensorflow',
  crop_scale=(0.1, 1.0),
  crop_ratio=(3 / 4, 4 / 3),
  flip=0.5,
  jitter=0.8,
  jitter_form='simclr',
  strength=1.0,
  brightness=0.8,
  contrast=0.8,
  saturation=0.8,
  hue=0.2,
  grayscale=0.2,
  blur=(0.5, 0.5),
  blur_sigma=(0.1, 2.0),
  solarize=(0.0, 0.0),
  local_crops=0,
  local_size=96,
  local_scale=(0.05, 0.14),
  local_blur=0.5,
  local_solarize=0.0,
  channel_drop=0.0,
)

# SimCLR appendix B.9: half the color strength, no blur.
SIMCLR_CIFAR = SIMCLR | dict(strength=0.5, blur=(0.0, 0.0))

# The same amounts by torchvision's operations: what PyTorch's codes start from.
_TORCHVISION = SIMCLR | dict(
  crop_rule='torchvision', crop_scale=(0.08, 1.0), jitter_form='torchvision'
)

# facebookresearch/moco without --aug-plus; the jitter is always on.
MOCO_V1 = _TORCHVISION | dict(
  stages=('grayscale', 'jitter', 'blur', 'solarize', 'flip'),
  crop_scale=(0.2, 1.0),
  jitter=1.0,
  brightness=0.4,
  contrast=0.4,
  saturation=0.4,
  hue=0.4,
  blur=(0.0, 0.0),
)

# facebookresearch/moco with --aug-plus; facebookresearch/simsiam.
MOCO_V2 = _TORCHVISION | dict(
  stages=_FLIP_LAST,
  crop_scale=(0.2, 1.0),
  brightness=0.4,
  contrast=0.4,
  saturation=0.4,
  hue=0.1,
)

# SimSiam (2011.10566) appendix D: no blur.
SIMSIAM_CIFAR = MOCO_V2 | dict(blur=(0.0, 0.0))

# google-deepmind/deepmind-research byol; BYOL (2006.07733) appendix B.
BYOL = SIMCLR | dict(
  crop_rule='byol',
  crop_scale=(0.08, 1.0),
  jitter_form='byol',
  brightness=0.4,
  contrast=0.4,
  saturation=0.2,
  hue=0.1,
  blur=(1.0, 0.1),
  solarize=(0.0, 0.2),
)

# The same amounts by torchvision's operations (facebookresearch/barlowtwins).
BARLOW_TWINS = BYOL | dict(crop_rule='torchvision', jitter_form='torchvision')

# facebookresearch/moco-v3 with --crop-min .2, as for its ResNet-50.
MOCO_V3 = BARLOW_TWINS | dict(stages=_FLIP_LAST, crop_scale=(0.2, 1.0))

# ... and with the default of --crop-min, as for its ViTs.
MOCO_V3_VIT = MOCO_V3 | dict(crop_scale=(0.08, 1.0))

# facebookresearch/vicreg. The paper says that it makes BYOL's pair symmetric;
# the code does not, as that works slightly better (issue 3 there).
VICREG = BARLOW_TWINS

# facebookresearch/VICRegL, its defaults, 2 x 224 + 6 x 96 pixels. Its local
# crops take the two global views' blur and solarization in turn; here each
# takes their mean.
VICREGL = VICREG | dict(
  crop_scale=(0.4, 1.0),
  local_crops=6,
  local_scale=(0.08, 0.4),
  local_blur=0.55,
  local_solarize=0.1,
)

# facebookresearch/swav, 2 x 224 + 6 x 96 pixels; and its script without local
# crops. SwAV (2006.09882) blurs and jitters as SimCLR does.
SWAV = _TORCHVISION | dict(crop_scale=(0.14, 1.0), local_crops=6)
SWAV_2_CROPS = _TORCHVISION

# facebookresearch/dino, 2 x 224 + 8 x 96 pixels: its defaults, and the command
# for ResNet-50 in its README. Without local crops it, too, advises (0.14, 1).
DINO = BARLOW_TWINS | dict(
  crop_scale=(0.4, 1.0), local_crops=8, local_scale=(0.05, 0.4)
)
DINO_RN50 = DINO | dict(crop_scale=(0.14, 1.0), local_scale=(0.05, 0.14))

# facebookresearch/dinov2, its defaults: DINO's, of other shares of the area.
DINOV2 = DINO | dict(crop_scale=(0.32, 1.0), local_scale=(0.05, 0.32))

# HobbitLong/SupContrast, for CIFAR.
SUPCON = _TORCHVISION | dict(
  crop_scale=(0.2, 1.0),
  brightness=0.4,
  contrast=0.4,
  saturation=0.4,
  hue=0.1,
  blur=(0.0, 0.0),
)

# facebookresearch/moco, its notebook for CIFAR-10.
MOCO_CIFAR = SUPCON | dict(crop_scale=(0.08, 1.0))

# zhirongw/lemniscate.pytorch: main.py, one view, as MoCo v1; cifar.py, where
# the flip is commented out.
INSTANCE = MOCO_V1 | dict(blur=(0.0,), solarize=(0.0,))
INSTANCE_CIFAR = INSTANCE | dict(flip=0.0)

# The crop and flip of supervised training, as of linear probes: one view.
SUPERVISED = _TORCHVISION | dict(
  jitter=0.0, grayscale=0.0, blur=(0.0,), solarize=(0.0,)
)

# open_clip, transform.py, image_transform: of one view, and no colors.
CLIP_CROPS = SUPERVISED | dict(crop_scale=(0.9, 1.0), flip=0.0)

# facebookresearch/mae: crop and flip, no colors.
MAE = SUPERVISED | dict(crop_scale=(0.2, 1.0))

# vturrisi/solo-learn, scripts/pretrain/cifar: augmentations/symmetric.yaml,
# symmetric_weak.yaml, asymmetric.yaml, and vicreg.yaml's own.
SOLO_SYMMETRIC = _TORCHVISION | dict(stages=_FLIP_LAST)
SOLO_SYMMETRIC_WEAK = MOCO_V2 | dict(crop_scale=(0.08, 1.0))
SOLO_ASYMMETRIC = BARLOW_TWINS | dict(stages=_FLIP_LAST, blur=(0.0, 0.0))
SOLO_VICREG = SOLO_ASYMMETRIC | dict(crop_scale=(0.2, 1.0), solarize=(0.1, 0.1))

# galilai-group/lejepa, its README: 2 x 224 + 6 x 98 pixels, all views alike.
LEJEPA = _TORCHVISION | dict(
  stages=_FLIP_LAST,
  crop_scale=(0.3, 1.0),
  brightness=0.4,
  contrast=0.4,
  saturation=0.2,
  hue=0.1,
  solarize=(0.2, 0.2),
  local_crops=6,
  local_size=98,
  local_scale=(0.05, 0.3),
  local_solarize=0.2,
)
# ... and its MINIMAL.md, for Imagenette; without blur.
LEJEPA_SMALL = _TORCHVISION | dict(
  stages=_FLIP_LAST, blur=(0.0, 0.0), solarize=(0.0, 0.0)
)

# HaiyuWu/visreg, data/multicrop.py, 4 x 224 + 6 x 96 pixels (the colors of
# configs/default.yaml reach its Kornia path only); and data/imagenette.py.
VISREG = LEJEPA | dict(
  stages=('flip', 'jitter', 'grayscale', 'blur', 'solarize'),
  blur=(0.5,) * 4,
  solarize=(0.2,) * 4,
  local_size=96,
)
VISREG_SMALL = VISREG | dict(
  crop_scale=(0.08, 1.0),
  brightness=0.8,
  contrast=0.8,
  saturation=0.8,
  hue=0.2,
  local_crops=0,
)
