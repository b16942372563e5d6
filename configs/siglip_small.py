"""SigLIP (Zhai et al. 2023, arXiv 2303.15343) for images up to 64 pixels.

  python -m experiments.data.openclipart --output=openclipart.csv
  python -m contrastive_jax.main --workdir=runs/siglip \
      --config=configs/siglip_small.py:csv:openclipart.csv

Sources: image_text:FOLDER (a .txt beside each image), csv:FILE with path and
caption, tar:PATTERN with .txt. SigLiT, an image tower that stays as it is:
--config.objective.lock_image=True --config.encoder.init=run:WORKDIR.
Measured: experiments/README.md.
"""

from contrastive_jax import recipes


def get_config(source='csv:openclipart.csv'):
  return recipes.image_text('siglip', source)
