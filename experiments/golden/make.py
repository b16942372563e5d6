"""Losses as others compute them: values and gradients, stored for our tests.

  python -m venv golden && golden/bin/pip install torch numpy torchvision \
      pytorch-metric-learning==2.9.0 open_clip_torch==3.3.0 \
      sentence-transformers==6.2.0 transformers==5.24.0 \
  && golden/bin/pip install --no-deps lightly==1.6.0 lightly-utils \
      solo-learn==1.0.2 \
  && golden/bin/python -m experiments.golden.make tests/losses/golden

Neither this project nor JAX is needed. Each loss of `LOSSES` is computed once
in float32, from random inputs; NAME.npz has these, `value`, and the gradient
for each input that has one (`gradient_INPUT`). tests/losses/golden_test.py
compares.
"""

import pathlib
import sys

import lightly
import numpy as np
import open_clip
import pytorch_metric_learning
import sentence_transformers
import torch
import transformers
from lightly import loss as lightly_loss
from lightly.loss import swav_loss

from experiments.golden import others


def rows(seed, *shape):
  """Returns random rows."""
  rng = np.random.default_rng(seed)
  return rng.normal(size=shape).astype(np.float32)


PAIR = {'z_a': rows(0, 16, 8), 'z_b': rows(1, 16, 8)}
VIEWS = {'views': rows(2, 4, 32, 8)}  # the first two are global
MASK = np.random.default_rng(3).random((6, 9)) < 0.4
MASK[0] = False

# Name, inputs, those that have a gradient, and the loss of them.
LOSSES = (
  (
    'nt_xent',
    PAIR,
    PAIR,
    lambda z_a, z_b: lightly_loss.NTXentLoss(0.5)(z_a, z_b),
  ),
  ('dcl', PAIR, PAIR, lambda z_a, z_b: lightly_loss.DCLLoss(0.1)(z_a, z_b)),
  ('dclw', PAIR, PAIR, lambda z_a, z_b: lightly_loss.DCLWLoss(0.1)(z_a, z_b)),
  (
    'supcon',
    {'views': rows(4, 2, 16, 8), 'labels': np.arange(16, dtype=np.int32) // 3},
    ['views'],
    others.supcon,
  ),
  (
    'queue_info_nce',
    {
      'queries': rows(5, 16, 8),
      'keys': rows(6, 16, 8),
      'queue': rows(7, 64, 8),
    },
    ['queries'],
    others.queue_info_nce,
  ),
  (
    'nnclr',
    {'neighbors': rows(8, 16, 8), 'predictions': rows(9, 16, 8)},
    ['predictions'],
    lambda neighbors, predictions: others.solo('nnclr').nnclr_loss_func(
      neighbors, predictions, 0.1
    ),
  ),
  (
    'byol',
    {'prediction': rows(10, 16, 8), 'target': rows(11, 16, 8)},
    ['prediction'],
    lambda prediction, target: others.solo('byol').byol_loss_func(
      prediction, target
    ),
  ),
  (
    'simsiam',
    {'prediction': rows(12, 16, 8), 'target': rows(13, 16, 8)},
    ['prediction'],
    lambda prediction, target: others.solo('simsiam').simsiam_loss_func(
      prediction, target
    ),
  ),
  (
    'barlow_twins_lightly',
    PAIR,
    PAIR,
    lambda z_a, z_b: lightly_loss.BarlowTwinsLoss(lambda_param=5e-3)(z_a, z_b),
  ),
  (
    'barlow_twins_solo',
    PAIR,
    PAIR,
    lambda z_a, z_b: others.solo('barlow').barlow_loss_func(
      z_a, z_b, 0.0051, 0.1
    ),
  ),
  (
    'vicreg_lightly',
    PAIR,
    PAIR,
    lambda z_a, z_b: lightly_loss.VICRegLoss()(z_a, z_b),
  ),
  (
    'vicreg_solo',
    PAIR,
    PAIR,
    lambda z_a, z_b: others.solo('vicreg').vicreg_loss_func(z_a, z_b),
  ),
  (
    'sinkhorn',
    {'scores': rows(14, 12, 5) / 4},
    [],
    lambda scores: swav_loss.sinkhorn(scores),
  ),
  ('swav', {'scores': rows(15, 3, 12, 5) / 4}, ['scores'], others.swav),
  (
    'dino',
    {
      'student': rows(16, 4, 12, 6),
      'teacher': rows(17, 2, 12, 6),
      'center': rows(28, 6),
    },
    ['student'],
    others.dino,
  ),
  (
    'ibot',
    {
      'student': rows(18, 6, 9, 5),
      'teacher': rows(19, 6, 9, 5),
      'center': rows(29, 5),
      'masked': MASK,
    },
    ['student'],
    others.ibot,
  ),
  (
    'koleo',
    {'z': rows(20, 16, 8)},
    ['z'],
    lambda z: lightly_loss.KoLeoLoss()(z),
  ),
  ('sigreg', {'z': rows(21, 32, 8)}, ['z'], others.sigreg),
  ('lejepa', VIEWS, VIEWS, others.lejepa),
  ('visreg', VIEWS, VIEWS, others.visreg),
  (
    'vicregl',
    {
      'embeddings': rows(22, 3, 12, 5),
      'maps': rows(23, 3, 12, 9, 4),
      'centers': rows(24, 3, 12, 9, 2) * 20,
    },
    ['embeddings', 'maps'],
    others.vicregl,
  ),
  (
    'mae',
    {'predicted': rows(25, 5, 4, 48), 'images': rows(26, 5, 3, 8, 8)},
    ['predicted'],
    others.mae,
  ),
  ('simcse', PAIR, PAIR, others.simcse),
  (
    'simcse_negatives',
    {**PAIR, 'negatives': rows(27, 16, 8)},
    [*PAIR, 'negatives'],
    others.simcse,
  ),
  (
    'clip',
    {**PAIR, 'temperature': np.float32(0.07)},
    [*PAIR, 'temperature'],
    others.clip,
  ),
  (
    'siglip',
    {**PAIR, 'scale': np.float32(8), 'bias': np.float32(-3)},
    [*PAIR, 'scale', 'bias'],
    others.siglip,
  ),
)


def main():
  """Writes all files."""
  folder = pathlib.Path(sys.argv[1])
  folder.mkdir(parents=True, exist_ok=True)
  versions = [
    f'torch {torch.__version__}',
    f'lightly {lightly.__version__}',
    'solo-learn 1.0.2',
    f'pytorch-metric-learning {pytorch_metric_learning.__version__}',
    f'open_clip {open_clip.__version__}',
    f'sentence-transformers {sentence_transformers.__version__}',
    f'transformers {transformers.__version__}',
  ]
  print(', '.join(versions))
  for name, inputs, learned, loss in LOSSES:
    tensors = {k: torch.tensor(v) for k, v in inputs.items()}
    for key in learned:
      tensors[key].requires_grad_(True)
    value = loss(**tensors)
    stored = {**inputs, 'value': value.detach().numpy()}
    if name in ('sigreg', 'lejepa', 'visreg'):
      stored['directions'] = others.DIRECTIONS.numpy()
    if learned:
      value.backward()
      for key in learned:
        stored[f'gradient_{key}'] = tensors[key].grad.numpy()
    np.savez(folder / f'{name}.npz', **stored)
    print(f'{name}: {np.ravel(stored["value"])[:3]}')


if __name__ == '__main__':
  main()
