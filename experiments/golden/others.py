"""Losses as other libraries compute them, of what `make` gives them."""

import importlib.util
import pathlib

import open_clip
import torch
import transformers
from lightly import loss as lightly_loss
from lightly.loss import ibot_loss, lejepa_loss, vicregl_loss, visreg_loss
from pytorch_metric_learning.losses import SupConLoss
from sentence_transformers.sentence_transformer import losses as sentence_losses

DIRECTIONS = torch.nn.functional.normalize(
  torch.randn(24, 8, generator=torch.Generator().manual_seed(0)), dim=1
)


def solo(name):
  """Returns a module of solo-learn's losses, without its package."""
  spec = importlib.util.find_spec('solo')
  folder = pathlib.Path(spec.submodule_search_locations[0])
  path = folder / 'losses' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(f'solo_{name}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


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


def ibot(student, teacher, center, masked):
  """Returns it at the masked patches."""
  loss = ibot_loss.IBOTPatchLoss(
    output_dim=student.shape[-1], teacher_temp=0.07, student_temp=0.1
  )
  loss.center.center = center[None]
  return loss(teacher[masked], student[masked], masked.reshape(-1, 3, 3))


def dino(student, teacher, center):
  """Returns it, its teacher's outputs less a center."""
  loss = lightly_loss.DINOLoss(
    output_dim=student.shape[-1], teacher_temp=0.04, student_temp=0.1
  )
  loss.center = center[None, None]
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
