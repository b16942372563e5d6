"""The losses as plain functions of arrays: `losses.nt_xent(z_a, z_b, ...)`.

Each of them is in a private module of its own, beside what only objectives need
of it. `gather`, `negatives`, `normalize` and `queue` are modules: what losses
share.
"""

from contrastive_jax.losses._barlow_twins import barlow_twins
from contrastive_jax.losses._clip import clip
from contrastive_jax.losses._cosine import (
  negative_cosine,
  normalized_squared_error,
)
from contrastive_jax.losses._dcl import dcl
from contrastive_jax.losses._dino import dino, update_center
from contrastive_jax.losses._ibot import ibot, update_patch_center
from contrastive_jax.losses._info_nce import batch_info_nce, queue_info_nce
from contrastive_jax.losses._instance import full_softmax as instance_softmax
from contrastive_jax.losses._instance import nce as instance_nce
from contrastive_jax.losses._koleo import koleo
from contrastive_jax.losses._lejepa import lejepa, sigreg
from contrastive_jax.losses._mae import mae, normalize_patches
from contrastive_jax.losses._nce import noise_contrastive
from contrastive_jax.losses._nt_xent import nt_xent
from contrastive_jax.losses._siglip import siglip
from contrastive_jax.losses._simcse import simcse
from contrastive_jax.losses._sinkhorn import sinkhorn
from contrastive_jax.losses._supcon import supcon
from contrastive_jax.losses._swav import swav
from contrastive_jax.losses._vicreg import vicreg
from contrastive_jax.losses._vicregl import vicregl
from contrastive_jax.losses._visreg import visreg
from contrastive_jax.losses.normalize import l2_normalize

__all__ = [
  'barlow_twins',
  'batch_info_nce',
  'clip',
  'dcl',
  'dino',
  'ibot',
  'instance_nce',
  'instance_softmax',
  'koleo',
  'l2_normalize',
  'lejepa',
  'mae',
  'negative_cosine',
  'noise_contrastive',
  'normalize_patches',
  'normalized_squared_error',
  'nt_xent',
  'queue_info_nce',
  'siglip',
  'sigreg',
  'simcse',
  'sinkhorn',
  'supcon',
  'swav',
  'update_center',
  'update_patch_center',
  'vicreg',
  'vicregl',
  'visreg',
]
