"""Losses as others compute them: values and gradients, stored for our tests.

  python -m venv golden && golden/bin/pip install torch numpy torchvision \
      pytorch-metric-learning==2.9.0 open_clip_torch==3.3.0 \
      sentence-transformers==6.2.0 transformers==5.24.0 \
  && golden/bin/pip install --no-deps lightly==1.6.0 lightly-utils \
      solo-learn==1.0.2 \
  && golden/bin/python experiments/golden/make.py tests/losses/golden

Neither this project nor JAX is needed. Each loss of `LOSSES` is computed once
in float32, from random inputs; NAME.npz has these, `value`, and the gradient
for each input that has one (`gradient_INPUT`). tests/losses/golden_test.py
compares. solo-learn's modules are loaded by file: its package asks for more.
"""

import importlib.util
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
from lightly.loss import (
  ibot_loss,
  lejepa_loss,
  swav_loss,
  vicregl_loss,
  visreg_loss,
)
from pytorch_metric_learning.losses import SupConLoss
from sentence_transformers.sentence_transformer import losses as sentence_losses


def solo(name):
  """Returns a module of solo-learn's losses, without its package."""
  spec = importlib.util.find_spec('solo')
  folder = pathlib.Path(spec.submodule_search_locations[0])
  path = folder / 'losses' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(f'solo_{name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def rows(seed, *shape):
  """Returns random rows."""
  rng = np.random.default_rng(seed)
  return rng.normal(size=shape).astype(np.float32)


PAIR = {'z_a': rows(0, 16, 8), 'z_b': rows(1, 16, 8)}
VIEWS = {'views': rows(2, 4, 32, 8)}  # the first two are global
DIRECTIONS = torch.nn.functional.normalize(
  torch.randn(24, 8, generator=torch.Generator().manual_seed(0)), dim=1
)
MASK = np.random.default_rng(3).random((6, 9)) < 0.4
MASK[0] = False


def sigreg(z):
  """Returns it in the directions that are stored."""
  regularizer = lejepa_loss.SIGReg(num_vectors=len(DIRECTIONS))
  regularizer._generate_unit_vectors = lambda *_: DIRECTIONS.T
  return regularizer(z)


def lejepa(views):
  """Returns it, likewise."""
  both = lejepa_loss.LeJEPALoss(lambda_param=0.05)
  both.sigreg._generate_unit_vectors = lambda *_: DIRECTIONS.T
  return both(global_proj=views[:2], local_proj=views[2:])


def visreg(views):
  """Returns it, likewise."""
  # It draws its directions itself: the drawing is what is replaced.
  drawn, torch.randn = torch.randn, lambda *_, **__: DIRECTIONS.T
  both = visreg_loss.VISRegLoss(lambda_param=0.6, num_slices=len(DIRECTIONS))
  value = both(global_proj=views[:2], local_proj=views[2:])
  torch.randn = drawn
  return value


def ibot(student, teacher):
  """Returns it at the masked patches."""
  loss = ibot_loss.IBOTPatchLoss(
    output_dim=student.shape[-1], teacher_temp=0.07, student_temp=0.1
  )
  mask = torch.tensor(MASK)
  return loss(teacher[mask], student[mask], mask.reshape(6, 3, 3))


def dino(student, teacher):
  """Returns it without a center."""
  loss = lightly_loss.DINOLoss(
    output_dim=student.shape[-1], teacher_temp=0.04, student_temp=0.1
  )
  return loss(list(teacher), list(student), teacher_temp=0.04)


def swav(scores):
  """Returns it, of a local crop too."""
  return lightly_loss.SwaVLoss(temperature=0.1)(list(scores[:2]), [scores[2]])


def queue_info_nce(queries, keys, queue):
  """Returns the loss of MoCo."""
  unit = torch.nn.functional.normalize
  return solo('moco').moco_loss_func(
    unit(queries, dim=1), unit(keys, dim=1), unit(queue, dim=1).T, 0.2
  )


def supcon(views, labels):
  """Returns it of all views."""
  # Its labels are of rows: those of the views, one after another.
  loss = SupConLoss(temperature=0.1)
  return loss(views.reshape(-1, views.shape[-1]), labels.repeat(len(views)))


def vicregl(embeddings, maps, centers):
  """Returns it of two global views and a local one, matches in their order."""
  # lightly orders them by their distance. A channel that counts the places is
  # carried along, by which they are put in order.
  nearest = vicregl_loss.utils.nearest_neighbors

  def in_order(inputs, candidates, distances, number):
    places = torch.arange(inputs.shape[1], dtype=torch.float32)
    places = places.expand(len(inputs), -1)[..., None]
    found, matched = nearest(
      torch.cat([inputs, places], dim=2),
      torch.cat([candidates, places], dim=2),
      distances,
      number,
    )
    order = found[..., -1:].argsort(dim=1).expand_as(found)
    return tuple(torch.gather(x, 1, order)[..., :-1] for x in (found, matched))

  vicregl_loss.utils.nearest_neighbors = in_order
  loss = vicregl_loss.VICRegLLoss(num_matches=(6, 2))
  views = [
    (z, m.reshape(len(m), 3, 3, -1))
    for z, m in zip(embeddings, maps, strict=True)
  ]
  grids = [c.reshape(len(c), 3, 3, 2) for c in centers]
  value = loss(views[:2], grids[:2], views[2:], grids[2:])
  vicregl_loss.utils.nearest_neighbors = nearest
  return value[0]


def mae(predicted, images):
  """Returns it with the second half of the patches masked."""
  config = transformers.ViTMAEConfig(
    image_size=8,
    patch_size=4,
    num_channels=3,
    hidden_size=4,
    num_attention_heads=1,
    num_hidden_layers=1,
    intermediate_size=4,
    decoder_hidden_size=4,
    decoder_num_attention_heads=1,
    decoder_num_hidden_layers=1,
    decoder_intermediate_size=4,
    mask_ratio=0.5,
    norm_pix_loss=True,
  )
  model = transformers.ViTMAEForPreTraining(config)
  # What the decoder says is replaced, the loss of it is theirs.
  decoder = model.decoder
  said = transformers.models.vit_mae.modeling_vit_mae.ViTMAEDecoderOutput
  decoder.forward = lambda *_, **__: said(logits=predicted)
  noise = torch.arange(4.0).expand(len(images), -1)
  return model(images, noise=noise).loss


def sentences(temperature):
  """Returns SimCSE's loss as sentence-transformers computes it."""
  model = torch.nn.Module()
  return sentence_losses.MultipleNegativesRankingLoss(
    model, scale=1 / temperature
  )


def simcse(z_a, z_b, negatives=None):
  """Returns it, with hard negatives if there are some."""
  some = [z_a, z_b] + ([] if negatives is None else [negatives])
  return sentences(0.05).compute_loss_from_embeddings(some, None)


def siglip(z_a, z_b, scale, bias):
  """Returns it."""
  unit = torch.nn.functional.normalize
  return open_clip.loss.SigLipLoss()(
    unit(z_a, dim=1), unit(z_b, dim=1), scale, bias
  )


def clip(z_a, z_b, temperature):
  """Returns it."""
  unit = torch.nn.functional.normalize
  return open_clip.loss.ClipLoss()(
    unit(z_a, dim=1), unit(z_b, dim=1), 1 / temperature
  )


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
    supcon,
  ),
  (
    'queue_info_nce',
    {
      'queries': rows(5, 16, 8),
      'keys': rows(6, 16, 8),
      'queue': rows(7, 64, 8),
    },
    ['queries'],
    queue_info_nce,
  ),
  (
    'nnclr',
    {'neighbors': rows(8, 16, 8), 'predictions': rows(9, 16, 8)},
    ['predictions'],
    lambda neighbors, predictions: solo('nnclr').nnclr_loss_func(
      neighbors, predictions, 0.1
    ),
  ),
  (
    'byol',
    {'prediction': rows(10, 16, 8), 'target': rows(11, 16, 8)},
    ['prediction'],
    lambda prediction, target: solo('byol').byol_loss_func(prediction, target),
  ),
  (
    'simsiam',
    {'prediction': rows(12, 16, 8), 'target': rows(13, 16, 8)},
    ['prediction'],
    lambda prediction, target: solo('simsiam').simsiam_loss_func(
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
    lambda z_a, z_b: solo('barlow').barlow_loss_func(z_a, z_b, 0.0051, 0.1),
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
    lambda z_a, z_b: solo('vicreg').vicreg_loss_func(z_a, z_b),
  ),
  (
    'sinkhorn',
    {'scores': rows(14, 12, 5) / 4},
    [],
    lambda scores: swav_loss.sinkhorn(scores),
  ),
  ('swav', {'scores': rows(15, 3, 12, 5) / 4}, ['scores'], swav),
  (
    'dino',
    {'student': rows(16, 4, 12, 6), 'teacher': rows(17, 2, 12, 6)},
    ['student'],
    dino,
  ),
  (
    'ibot',
    {
      'student': rows(18, 6, 9, 5),
      'teacher': rows(19, 6, 9, 5),
      'masked': MASK,
    },
    ['student'],
    lambda student, teacher, masked: ibot(student, teacher),
  ),
  (
    'koleo',
    {'z': rows(20, 16, 8)},
    ['z'],
    lambda z: lightly_loss.KoLeoLoss()(z),
  ),
  ('sigreg', {'z': rows(21, 32, 8)}, ['z'], sigreg),
  ('lejepa', VIEWS, VIEWS, lejepa),
  ('visreg', VIEWS, VIEWS, visreg),
  (
    'vicregl',
    {
      'embeddings': rows(22, 3, 12, 5),
      'maps': rows(23, 3, 12, 9, 4),
      'centers': rows(24, 3, 12, 9, 2) * 20,
    },
    ['embeddings', 'maps'],
    vicregl,
  ),
  (
    'mae',
    {'predicted': rows(25, 5, 4, 48), 'images': rows(26, 5, 3, 8, 8)},
    ['predicted'],
    mae,
  ),
  ('simcse', PAIR, PAIR, simcse),
  (
    'simcse_negatives',
    {**PAIR, 'negatives': rows(27, 16, 8)},
    [*PAIR, 'negatives'],
    simcse,
  ),
  (
    'clip',
    {**PAIR, 'temperature': np.float32(0.07)},
    [*PAIR, 'temperature'],
    clip,
  ),
  (
    'siglip',
    {**PAIR, 'scale': np.float32(8), 'bias': np.float32(-3)},
    [*PAIR, 'scale', 'bias'],
    siglip,
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
      stored['directions'] = DIRECTIONS.numpy()
    if learned:
      value.backward()
      for key in learned:
        stored[f'gradient_{key}'] = tensors[key].grad.numpy()
    np.savez(folder / f'{name}.npz', **stored)
    print(f'{name}: {np.ravel(stored["value"])[:3]}')


if __name__ == '__main__':
  main()
