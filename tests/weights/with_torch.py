"""Our encoders against torchvision's and timm's, both ways.

  TORCH_PYTHON=.torch/bin/python python -m pytest tests/weights/with_torch.py

TORCH_PYTHON is an interpreter with torch, torchvision, timm, safetensors, onnx,
onnxscript and onnxruntime, such as .ci/run makes. Not among the tests that are
collected: who has no torch has not skipped them.
"""

import json
import os
import pathlib
import subprocess

import jax
import numpy as np
import pytest
import safetensors.numpy

from contrastive_jax import config as config_lib
from contrastive_jax import from_arrays, train
from contrastive_jax.weights import export, formats, keymap, load, theirs
from tests import tiny
from tests.weights import load_test

# Of features whose root mean square is 1.
BOUND = 1e-4
PYTHON = os.environ['TORCH_PYTHON']

# A model at random weights, none of them 0 or 1, saved as torch saves it.
RANDOM = """
import json, sys
import torch
sys.path.insert(0, sys.argv[1])
import theirs
model = json.load(open(sys.argv[2]))
net = theirs.build(model)
torch.manual_seed(0)
with torch.no_grad():
  for name, value in net.state_dict().items():
    if not value.is_floating_point():
      continue
    if name.endswith('running_var'):
      value.uniform_(0.5, 1.5)
    elif value.ndim > 1 and 'token' not in name and 'layer_scale' not in name:
      fan_in = value[0].numel()
      value.normal_(0, fan_in ** -0.5)
    else:
      value.add_(torch.randn_like(value) * 0.2)
torch.save({'state_dict': net.state_dict()}, sys.argv[3])
import safetensors.torch
state = {k: v.contiguous() for k, v in net.state_dict().items()}
safetensors.torch.save_file(state, sys.argv[4])
"""

CASES = [
  ('resnet18', 'torchvision', {'stem': 'imagenet'}, 224),
  ('resnet18', 'torchvision', {'stem': 'imagenet'}, 117),
  ('resnet18', 'torchvision', {'stem': 'cifar', 'width': 16}, 32),
  ('resnet50', 'torchvision', {'stem': 'imagenet'}, 224),
  ('resnet50', 'timm', {'stem': 'imagenet'}, 117),
  ('resnet50', 'torchvision', {'stem': 'imagenet', 'width': 32}, 64),
  ('vit_tiny', 'timm', {'patch_size': 16}, 224),
  ('vit_tiny', 'timm', {'patch_size': 16, 'interpolation': 'timm'}, 96),
  ('vit_tiny', 'timm', {'patch_size': 4, 'pool': 'mean', 'depth': 4}, 36),
  ('vit_small', 'timm', {'patch_size': 16, 'layer_scale': 0.1}, 224),
  ('vit_small', 'timm', {'patch_size': 14, 'registers': 4}, 98),
  ('convnext_tiny', 'timm', {}, 224),
  ('convnext_tiny', 'torchvision', {}, 115),
]


def run(*arguments) -> None:
  done = subprocess.run(
    [PYTHON, *map(str, arguments)], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


def features_of(module, arrays, images):
  """What our module makes of images, with parameters by name."""
  variables = {}
  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), images, train=False)
  )
  for part, tree in shapes.items():
    variables[part] = keymap.filled(tree, arrays)
  call = jax.jit(lambda v, x: module.apply(v, x, train=False))
  return np.asarray(call(variables, images))


def torch_features(model, weights, images, tmp_path):
  """What torch makes of images, with weights that `strict=True` takes."""
  here = pathlib.Path(theirs.__file__)
  (tmp_path / 'model.json').write_text(
    json.dumps({**model, 'weights': str(weights)})
  )
  np.savez(tmp_path / 'images.npz', own=images)
  out = tmp_path / 'features.npz'
  run(here, tmp_path / 'model.json', tmp_path / 'images.npz', out)
  with np.load(out) as found:
    return found['own']


@pytest.mark.parametrize('deep', [False, True])
def test_onnx_of_a_run(deep, tmp_path):
  """By onnxruntime, of images of 8 bits and of floats."""
  rng = np.random.default_rng(0)
  images = rng.uniform(size=(80, 8, 8, 1))
  images = np.float32(images) if deep else np.uint8(256 * images)
  source = from_arrays(images)
  config = tiny.config()
  config.encoder.name, config.encoder.width = 'resnet18', 4
  config.data.mean, config.data.std = (0.5,), (0.25,)
  config.evaluation.baselines = False
  config.steps = 1
  train.pretrain(config, tmp_path / 'run', source=source)
  done = export.export(
    tmp_path / 'run', 'torchvision', source=source, python=PYTHON
  )
  assert done.certificate['largest_relative'] < BOUND
  run(pathlib.Path(theirs.__file__).with_name('to_onnx.py'), done.folder)
  found = json.loads((done.folder / 'certificate_onnx.json').read_text())
  assert found['largest_relative'] < BOUND


def test_positions_of_a_run_go_out_as_it_interpolates_them(tmp_path):
  """A table of 224 pixels, DINO's rule, and a run on smaller images."""
  images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 1), np.uint8)
  source = from_arrays(images)
  config = tiny.config()
  config.encoder.update(
    dict(name='vit_tiny', depth=1, patch_size=8, pretrained_size=64)
  )
  config.evaluation.baselines = False
  config.steps = 1
  train.pretrain(config, tmp_path / 'run', source=source)
  done = export.export(tmp_path / 'run', 'timm', source=source, python=PYTHON)
  assert done.certificate['largest_relative'] < BOUND


@pytest.mark.parametrize(('name', 'library', 'fields', 'side'), CASES)
def test_both_ways(name, library, fields, side, tmp_path):
  c = load_test.encoder_config(name, **fields)
  # Positions of another size come from a table of 224 pixels.
  table = 224 if fields.get('interpolation') == 'timm' else side
  own, _ = load_test.random_arrays(c.encoder.to_json(), side, 3)
  large, _ = load_test.random_arrays(c.encoder.to_json(), table, 3)
  model = formats.model(library, c.encoder, large, 3)
  (tmp_path / 'model.json').write_text(json.dumps(model))
  pth, plain = tmp_path / 'w.pth', tmp_path / 'w.safetensors'
  program = tmp_path / 'random_weights.py'
  program.write_text(RANDOM)
  folder = pathlib.Path(theirs.__file__).parent
  run(program, folder, tmp_path / 'model.json', pth, plain)
  images = np.random.default_rng(1).normal(size=(4, side, side, 3))
  images = images.astype(np.float32)
  reference = torch_features(model, plain, images, tmp_path)
  size = np.sqrt(np.mean(reference**2))

  # In: the file of torch.save, the kind guessed.
  shapes = {
    k: a.shape
    for k, a in load_test.random_arrays(c.encoder.to_json(), side, 3)[1].items()
  }
  c.encoder.init = str(pth)
  loaded = load.load(c.encoder, c.data, own, shapes)
  ours = features_of(own, loaded.arrays, images)
  assert np.abs(ours - reference).max() / size < BOUND

  # Out: what came in goes out again, but a table that was interpolated.
  state = keymap.to_theirs(
    formats.rules(library, c.encoder),
    formats.fitted(library, own, loaded.arrays),
  )
  stored = safetensors.numpy.load_file(plain)
  for key, array in state.items():
    if key != 'pos_embed' or table == side:
      np.testing.assert_array_equal(array, stored[key], err_msg=key)
  counters = stored.keys() - state.keys()
  assert all(key.endswith('num_batches_tracked') for key in counters)
  print(f'{name} {library} {side}: {np.abs(ours - reference).max() / size:.1e}')


@pytest.mark.parametrize('registers', [0, 2])
def test_fixed_positions_go_out(registers, tmp_path):
  """MoCo v3's: no parameter of ours."""
  fields = {'patch_size': 4, 'depth': 3, 'heads': 6, 'positions': 'sincos'}
  c = load_test.encoder_config('vit_tiny', registers=registers, **fields)
  module, arrays = load_test.random_arrays(c.encoder.to_json(), 28, 3)
  arrays = {k: 0.1 * a for k, a in arrays.items()}
  state = keymap.to_theirs(
    formats.rules('timm', c.encoder), formats.fitted('timm', module, arrays)
  )
  safetensors.numpy.save_file(state, tmp_path / 'w.safetensors')
  images = np.random.default_rng(1).normal(size=(4, 28, 28, 3))
  images = images.astype(np.float32)
  model = formats.model('timm', c.encoder, module, 3)
  there = torch_features(model, tmp_path / 'w.safetensors', images, tmp_path)
  ours = features_of(module, arrays, images)
  assert np.abs(ours - there).max() / np.sqrt(np.mean(there**2)) < BOUND


def test_what_neither_library_has(tmp_path):
  c = load_test.encoder_config('resnet18', stem='imagenet', width=32)
  module, _ = load_test.random_arrays(c.encoder.to_json(), 64, 3)
  with pytest.raises(config_lib.Error, match='timm has no resnet18 of width'):
    formats.model('timm', c.encoder, module, 3)
