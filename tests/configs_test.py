"""Every config in configs/ builds, and traces at the size it was made for."""

import importlib
import json
import pathlib
import subprocess
from typing import Any

import jax
import numpy as np
import pytest
import skimage.data
from jax.sharding import PartitionSpec as P
from PIL import Image
from sklearn.datasets import load_sample_images

from contrastive_jax.data import readers, sources, texts, tokenize
from contrastive_jax.data import split as split_lib
from contrastive_jax.data.modalities import images
from contrastive_jax.diagnostics import health
from contrastive_jax.training import build, sizing, step
from tests import train_test

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))


def get_config(name: str, *source: str):
  return importlib.import_module(f'configs.{name}').get_config(*source)


def imagenet_sized(spec: str, **_) -> split_lib.Source:
  """A source of ImageNet's size, none of whose images is ever read."""
  reader: Any = readers.InMemory(np.zeros((0, 32, 32, 3), np.uint8))
  if spec.startswith('text:'):
    reader = texts.Texts(('one', 'two'))
  split = split_lib.Split(
    name=spec,
    size=1_281_167,
    channels=3,
    reader=reader,
    captions=('one', 'two') if spec.startswith('tar:') else None,
    num_classes=1000,
    class_names=None,
    image_shape=(32, 32) if 'cifar' in spec else None,
  )
  kind = 'text' if spec.startswith('text:') else 'images'
  return split_lib.Source(name=spec, train=split, test=split, modality=kind)


@pytest.mark.parametrize('name', NAMES)
def test_traces_at_full_size(name, monkeypatch):
  monkeypatch.setattr(sources, 'load', imagenet_sized)
  monkeypatch.setattr(sizing, '_typical_side', lambda _: 375)
  monkeypatch.setattr(tokenize, 'size', lambda _: 30_522)
  source = 'tfds:cifar10' if name.endswith('_small') else 'tfds:imagenet2012'
  kind = name.partition('_')[0]
  source = {'simcse': 'text:', 'clip': 'tar:', 'siglip': 'tar:'}.get(
    kind, source
  )
  job = build.build(get_config(name, source))
  state = jax.eval_shape(build.make_init(job))
  rows = job.config.batch_size
  crops = (
    jax.ShapeDtypeStruct((rows, view.size, view.size, 3), np.uint8)
    for view in images.view_specs(job.config)
  )
  examples = jax.eval_shape(lambda: job.modality.example_views(rows))
  batch = {
    # Of an image a crop is sent; of text what the encoder takes.
    'views': tuple(
      view if isinstance(view, dict) else next(crops) for view in examples
    ),
    **{
      key: jax.ShapeDtypeStruct((rows,), np.int32)
      for key in ('id', 'epoch', 'label')
    },
    'replaced': jax.ShapeDtypeStruct((rows,), bool),
    'boxes': tuple(
      jax.ShapeDtypeStruct((rows, 4), np.int32)
      for _ in images.view_specs(job.config)
    ),
  }
  train_step = step.make_train_step(job.objective, job.optimizer, job.modality)
  mapped = jax.shard_map(
    train_step,
    mesh=job.mesh,
    in_specs=(P(), P(step.AXIS)),
    out_specs=(P(), P(step.AXIS)),
  )
  (after, metrics), embeddings = jax.eval_shape(mapped, state, batch)
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), (state, after))
  assert shapes[0] == shapes[1]
  assert metrics['loss'].shape == ()
  assert all(x.shape[0] == rows for x in embeddings)
  assert np.isfinite(job.objective.chance(rows))
  assert set(job.objective.causes) <= health.VERDICTS


def test_the_imagenet_recipe_takes_two_steps_on_photographs(tmp_path):
  """At 224 pixels, on JPEG files without labels; ResNet-18 compiles fast."""
  folder = tmp_path / 'photographs'
  folder.mkdir()
  photographs = [*load_sample_images().images, skimage.data.astronaut()]
  for number in range(9):
    image = Image.fromarray(photographs[number % 3])
    image.rotate(number).save(folder / f'{number}.jpg')
  (folder / 'broken.jpg').write_bytes(b'\xff\xd8\xff\xe0 not a photograph')
  workdir = tmp_path / 'run'
  output = subprocess.run(
    [
      *train_test.COMMAND,
      f'--config=configs/simclr_r50.py:folder:{folder}',
      f'--workdir={workdir}',
      '--config.encoder.name=resnet18',
      '--config.batch_size=4',
      '--config.steps=2',
      '--config.evaluation.baselines=false',  # it compiles long enough
      '--cpu_devices=1',
    ],
    cwd=ROOT,
    env=train_test.ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert output.returncode == 0, output.stdout
  assert 'broken.jpg' in output.stdout
  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['step'] == 2
  assert np.isfinite(summary['loss'])
  assert summary['unreadable_images'] == 1
  # No labels: nothing that needs them is made up.
  assert summary['knn_accuracy'] is None
  assert summary['linear_accuracy'] is None
  for row in summary['rows'].values():
    assert row.pop('effective_rank') >= 1  # of the 9 images it can be told
    assert set(row.values()) == {None}
