"""State dicts to our encoders and back: names, shapes, what does not fit."""

import functools
import json
import shutil
import types

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from contrastive_jax import config as config_lib
from contrastive_jax import train
from contrastive_jax.data import sources
from contrastive_jax.evaluation import encoder as encoder_lib
from contrastive_jax.models import encoders
from contrastive_jax.training import build
from contrastive_jax.weights import (
  export,
  files,
  formats,
  hints,
  keymap,
  load,
  start,
  towers,
)
from tests import tiny


def encoder_config(name, **fields):
  c = config_lib.base()
  c.encoder.name = name
  c.encoder.update(fields)
  return c


@functools.cache
def random_arrays(text: str, side: int, channels: int):
  """The module of a config's encoder, and random arrays for all that it has."""
  config = config_lib.base().encoder
  config.update(json.loads(text))
  run = types.SimpleNamespace(input_shape=(side, side, channels))
  module = encoders.make(config, run).module
  images = np.zeros((2, side, side, channels), np.float32)
  shapes = jax.eval_shape(
    lambda: module.init(jax.random.key(0), images, train=False)
  )
  rng = np.random.default_rng(0)
  arrays = {}
  for part in shapes.values():
    for name, leaf in traverse_util.flatten_dict(part, sep='/').items():
      arrays[name] = rng.normal(size=leaf.shape).astype(np.float32)
  return module, arrays


def state_dict(c, side=64, channels=3, library='timm'):
  """Module, our arrays, and theirs."""
  module, arrays = random_arrays(c.encoder.to_json(), side, channels)
  theirs = keymap.to_theirs(formats.rules(library, c.encoder), arrays)
  return module, arrays, theirs


def read_back(c, module, arrays, stored, tmp_path, name='w.safetensors'):
  safetensors.numpy.save_file(
    {k: np.ascontiguousarray(a) for k, a in stored.items()}, tmp_path / name
  )
  c.encoder.init = f'{c.encoder.init}{tmp_path}/{name}'
  shapes = {name: array.shape for name, array in arrays.items()}
  return load.load(c.encoder, c.data, module, shapes)


FAMILIES = [
  ('resnet18', 'torchvision', {}),
  ('resnet50', 'timm', {}),
  ('vit_tiny', 'timm', {'patch_size': 16, 'registers': 2, 'layer_scale': 0.1}),
  ('vit_tiny', 'timm', {'patch_size': 16, 'pool': 'mean'}),
  ('convnext_tiny', 'timm', {}),
  ('convnext_tiny', 'torchvision', {}),
]


@pytest.mark.parametrize(('name', 'library', 'fields'), FAMILIES)
def test_what_goes_out_comes_back(tmp_path, name, library, fields):
  c = encoder_config(name, stem='imagenet', **fields)
  module, arrays, theirs = state_dict(c, library=library)
  # All of it is somewhere, and nothing twice.
  sizes = [sum(a.size for a in x.values()) for x in (arrays, theirs)]
  assert sizes[0] == sizes[1]
  loaded = read_back(c, module, arrays, theirs, tmp_path)
  assert loaded.arrays.keys() == arrays.keys()
  for key, array in arrays.items():
    np.testing.assert_array_equal(loaded.arrays[key], array)


def test_a_convolution_and_a_matrix_are_torchs():
  """By hand: [out, in, height, width] and [out, in]."""
  c = encoder_config('vit_tiny', patch_size=16)
  _, arrays, theirs = state_dict(c)
  patch = theirs['patch_embed.proj.weight']
  assert patch.shape == (192, 3, 16, 16)
  assert patch[7, 2, 3, 5] == arrays['patch_embed/kernel'][3, 5, 2, 7]
  qkv = theirs['blocks.3.attn.qkv.weight']
  assert qkv.shape == (3 * 192, 192)
  for part, of in enumerate(('query', 'key', 'value')):
    kernel = arrays[f'block4/attn/{of}/kernel'].reshape(192, 192)
    np.testing.assert_array_equal(qkv[192 * part :][:192], kernel.T)
  first = theirs['blocks.0.mlp.fc1.weight']
  np.testing.assert_array_equal(first, arrays['block1/mlp/dense1/kernel'].T)


@pytest.mark.parametrize(
  ('prefix', 'container', 'kind'),
  [
    ('', None, 'torchvision'),
    ('module.encoder_q.', 'state_dict', 'moco'),
    ('module.base_encoder.', 'state_dict', 'moco'),
    ('module.backbone.', 'model', 'torchvision'),
    ('backbone.', 'teacher', 'dino'),
  ],
)
def test_the_encoder_of_a_checkpoint_is_found(prefix, container, kind):
  c = encoder_config('resnet18', stem='imagenet')
  module, arrays, theirs = state_dict(c, library='torchvision')
  tree = {prefix + name: array for name, array in theirs.items()}
  tree |= {
    'module.encoder_k.' + name: np.zeros_like(array)
    for name, array in theirs.items()
    if kind == 'moco'
  }
  tree[f'{prefix}fc.weight'] = np.zeros((3, 512), np.float32)
  if prefix:
    tree['queue'] = np.zeros((128, 64), np.float32)
  found = files.encoder_in({container: tree} if container else tree, 'w.pth')
  shapes = {name: array.shape for name, array in arrays.items()}
  loaded = load.load(c.encoder, c.data, module, shapes, found)
  for key, array in arrays.items():
    np.testing.assert_array_equal(loaded.arrays[key], array)
  said = ' '.join(loaded.notes)
  assert f'read as of {kind}' in said
  assert 'fc.weight' in said
  if prefix:
    assert 'queue' in said


def test_a_network_beside_other_things_is_found():
  """As pytorch's examples and tutorials save it."""
  c = encoder_config('resnet18', stem='imagenet')
  _, _, theirs = state_dict(c, library='torchvision')
  accuracy = np.float32(71.0)
  for container in ('state_dict', 'model_state_dict'):
    tree = {'epoch': 3, 'best_acc1': np.asarray(accuracy), container: theirs}
    tree |= {'optimizer_state_dict': {'state': {}}, 'state_dict_ema': theirs}
    found = files.encoder_in(tree, 'w.pth')
    assert (found.family, found.where) == ('resnet', container)
    assert 'state_dict_ema.' in found.left
  with pytest.raises(config_lib.Error, match='there is epoch, net ...'):
    files.encoder_in({'epoch': 3, 'net': {'a': accuracy}}, 'w.pth')


def test_the_same_names_and_shapes_may_be_another_encoder(tmp_path):
  """What of a ViT no shape tells: its heads, and what is pooled."""
  c = encoder_config('vit_small', patch_size=16, depth=1)
  module, arrays, theirs = state_dict(c)
  shapes = {name: array.shape for name, array in arrays.items()}
  found = files.encoder_in(
    {'module.base_encoder.' + n: a for n, a in theirs.items()}, 'w'
  )
  said = ' '.join(load.load(c.encoder, c.data, module, shapes, found).notes)
  assert 'the ViT-S of MoCo v3 has 12 heads (encoder.heads=12), and 6' in said
  twelve = encoder_config('vit_small', patch_size=16, depth=1, heads=12)
  module, _ = random_arrays(twelve.encoder.to_json(), 64, 3)
  loaded = load.load(twelve.encoder, c.data, module, shapes, found)
  assert '12 heads' not in ' '.join(loaded.notes)
  mean = encoder_config('vit_small', patch_size=16, depth=1, pool='mean')
  other, pooled, stored = state_dict(mean)
  loaded = read_back(mean, other, pooled, theirs, tmp_path)
  assert 'encoder.pool=mean puts it behind' in ' '.join(loaded.notes)
  said = refused(c, 64, stored, tmp_path)
  assert 'encoder.pool=mean' in said
  # Of a run, or of what was exported here, it is known.
  six = module.clone(heads=6)
  for field, value in (('heads', 12), ('pool', 'mean')):
    theirs = hints.Theirs(six.clone(**{field: value}), (), ())
    with pytest.raises(config_lib.Error, match=f'set encoder.{field}={value}'):
      hints.check_theirs(theirs, six, c.data, 'there')
  theirs = hints.Theirs(module.clone(interpolation='timm'), (0.5,), (0.2,))
  notes = hints.check_theirs(theirs, module, c.data, 'there')
  assert 'encoder.interpolation=timm' in notes[0]
  assert 'normalized by data.mean=(0.5,)' in notes[1]


def test_dino_and_timm_have_the_same_names(tmp_path):
  """Who cannot be told gets no advice on how to interpolate."""
  c = encoder_config('vit_tiny', patch_size=16, depth=1)
  module, arrays, theirs = state_dict(c)
  said = ' '.join(read_back(c, module, arrays, theirs, tmp_path).notes)
  assert 'read as of timm, whose names are those of dino, too' in said
  assert 'interpolation' not in said
  c.encoder.init = 'timm:'
  said = ' '.join(read_back(c, module, arrays, theirs, tmp_path).notes)
  assert 'encoder.interpolation=timm' in said


def test_dinov2_names(tmp_path):
  """Blocks in chunks, registers, a mask token."""
  c = encoder_config('vit_tiny', patch_size=16, registers=4, layer_scale=1e-5)
  module, arrays, theirs = state_dict(c)
  theirs = {k.replace('blocks.', 'blocks.0.'): a for k, a in theirs.items()}
  theirs['register_tokens'] = theirs.pop('reg_token')
  theirs['mask_token'] = np.zeros((1, 192), np.float32)
  # The mark of the family is looked for as it is written.
  loaded = read_back(c, module, arrays, theirs, tmp_path)
  np.testing.assert_array_equal(loaded.arrays['registers'], arrays['registers'])
  assert 'read as of dinov2' in loaded.notes[0]
  assert 'dinov2_registers' in ' '.join(loaded.notes)


def test_positions_of_another_size_are_interpolated(tmp_path):
  c = encoder_config('vit_tiny', patch_size=16, interpolation='timm')
  _, _, theirs = state_dict(c, side=224)
  module, arrays = random_arrays(c.encoder.to_json(), 96, 3)
  loaded = read_back(c, module, arrays, theirs, tmp_path)
  table = theirs['pos_embed']
  expected = jax.image.resize(
    table[0, 1:].reshape(14, 14, 192), (6, 6, 192), 'cubic'
  )
  np.testing.assert_allclose(
    loaded.arrays['pos_embed'][0, 1:].reshape(6, 6, 192), expected, atol=1e-5
  )
  np.testing.assert_array_equal(loaded.arrays['pos_embed'][0, 0], table[0, 0])
  assert '14 x 14' in ' '.join(loaded.notes)


@pytest.mark.parametrize('rule', ['sum', 'repeat', 'mean'])
def test_other_channels_by_a_declared_rule(tmp_path, rule):
  """A gray image gives what the same image in three channels gives."""
  c = encoder_config('resnet18', stem='imagenet')
  _, rgb, theirs = state_dict(c, library='torchvision')
  channels = 1 if rule == 'sum' else 4
  module, arrays = random_arrays(c.encoder.to_json(), 64, channels)
  with pytest.raises(config_lib.Error, match='init_channels says what to do'):
    read_back(c, module, arrays, theirs, tmp_path)
  c.encoder.init, c.encoder.init_channels = '', rule
  loaded = read_back(c, module, arrays, theirs, tmp_path)
  kernel = loaded.arrays['stem_conv/kernel']
  assert kernel.shape == (7, 7, channels, 64)
  total = rgb['stem_conv/kernel'].sum(2)
  if rule != 'repeat':  # of which the first channel is there twice
    np.testing.assert_allclose(kernel.sum(2), total, rtol=1e-4, atol=1e-5)
  else:
    own = rgb['stem_conv/kernel'][:, :, [0, 1, 2, 0]]
    np.testing.assert_allclose(kernel, 0.75 * own, rtol=1e-6)
  # All else is as it was.
  np.testing.assert_array_equal(
    loaded.arrays['stem_norm/scale'], rgb['stem_norm/scale']
  )


def refused(c, side, stored, tmp_path, channels=3):
  module, arrays = random_arrays(c.encoder.to_json(), side, channels)
  with pytest.raises(config_lib.Error) as error:
    read_back(c, module, arrays, stored, tmp_path)
  return str(error.value)


def test_what_does_not_fit_is_one_sentence(tmp_path):
  c = encoder_config('resnet18', stem='imagenet')
  _, _, theirs = state_dict(c, library='torchvision')
  deeper = encoder_config('resnet34', stem='imagenet')
  said = refused(deeper, 64, theirs, tmp_path)
  assert 'missing in the file, 80: layer1.2. (10)' in said
  _, _, more = state_dict(deeper, library='torchvision')
  c.encoder.init = ''
  said = refused(c, 64, more, tmp_path)
  assert 'in the file alone, 80' in said
  cifar = encoder_config('resnet18', stem='cifar')
  assert 'encoder.stem=imagenet' in refused(cifar, 32, theirs, tmp_path)
  narrow = encoder_config('resnet18', stem='imagenet', width=16)
  said = refused(narrow, 64, theirs, tmp_path)
  assert said.endswith('set encoder.width=64')
  vit = encoder_config('vit_tiny', patch_size=16)
  assert 'holds a resnet' in refused(vit, 64, theirs, tmp_path)
  _, _, tokens = state_dict(vit)
  vit = encoder_config('vit_tiny', patch_size=8)
  assert 'encoder.patch_size=16' in refused(vit, 64, tokens, tmp_path)
  scaled = encoder_config('vit_tiny', patch_size=16, layer_scale=1.0)
  scaled.encoder.registers = 4
  plain = encoder_config('vit_tiny', patch_size=16)
  said = refused(plain, 64, state_dict(scaled)[2], tmp_path)
  assert 'set encoder.layer_scale=1e-5 and encoder.registers to' in said
  said = refused(scaled, 64, tokens, tmp_path)
  assert 'set encoder.layer_scale=0.0 and encoder.registers=0' in said
  fixed = encoder_config('vit_tiny', patch_size=16, positions='sincos')
  assert 'set it to learned' in refused(fixed, 64, tokens, tmp_path)
  nothing = encoder_config('resnet18', stem='imagenet')
  said = refused(nothing, 64, {'a': np.zeros(2, np.float32)}, tmp_path)
  assert 'no ResNet, ViT, ConvNeXt or BERT' in said


@pytest.mark.parametrize('suffix', ['safetensors', 'npz', 'pth'])
def test_no_file_and_no_such_file(tmp_path, suffix):
  path = tmp_path / f'w.{suffix}'
  with pytest.raises(config_lib.Error, match='there is no file of weights'):
    files.read(path)
  path.write_bytes(b'\x08' * 100)
  with pytest.raises(config_lib.Error, match=rf'w\.{suffix}'):
    files.read(path)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('weights') / 'run'
  config = tiny.config()
  config.evaluation.baselines = False
  train.pretrain(config, workdir)
  return workdir


@pytest.mark.parametrize('form', ['safetensors', 'npz', 'run', 'stablehlo'])
def test_a_run_begins_with_what_another_one_has_learned(
  trained, tmp_path, form
):
  """Exported, certified, and read: the features are those of the run."""
  job, state = encoder_lib.load(trained)
  if form == 'run':
    init = f'run:{trained}'
  else:
    done = export.export(trained, form, output=tmp_path / 'out')
    assert done.certificate['largest_relative'] < 1e-5
    stored = json.loads((tmp_path / 'out/certificate.json').read_text())
    assert stored == done.certificate
    init = str(tmp_path / 'out' / f'encoder.{form}')
  if form == 'stablehlo':
    sidecar = json.loads((tmp_path / 'out/encoder.json').read_text())
    assert sidecar['input']['side'] == 8
    function = jax.export.deserialize(
      bytearray((tmp_path / 'out/encoder.stablehlo').read_bytes())
    )
    images = job.source.test.reader.images[:5]
    ours = encoder_lib.load_encoder(trained)(images)
    np.testing.assert_allclose(
      function.call(images), ours, rtol=1e-4, atol=1e-6
    )
    return
  config = tiny.config()
  config.seed, config.steps, config.encoder.init = 1, 1, init
  config.evaluation.baselines = False
  # A step that changes nothing.
  config.optimizer.base_learning_rate = 1e-30
  config.optimizer.weight_decay = 0.0
  train.pretrain(config, tmp_path / 'next')
  _, after = encoder_lib.load(tmp_path / 'next')
  before = towers.arrays_of(job, state)
  for name, array in towers.arrays_of(job, after).items():
    if '/mean' not in name and '/var' not in name:
      np.testing.assert_allclose(array, before[name], rtol=1e-6, atol=1e-6)
  assert (
    config_lib.flat(encoder_lib.read_config(tmp_path / 'next').to_dict())[
      'encoder.init'
    ]
    == init
  )


def test_a_run_is_continued_from_when_its_images_are_gone(trained, tmp_path):
  """Its weights lie in its work folder; of images in memory, too."""
  gone = tmp_path / 'gone'
  shutil.copytree(trained, gone)
  fields = json.loads((gone / 'config.json').read_text())
  fields['data']['source'] = 'arrays'
  (gone / 'config.json').write_text(json.dumps(fields))
  config = tiny.config()
  config.seed, config.encoder.init = 1, f'run:{gone}'
  config.data.mean, config.data.std = (0.5,), (0.2,)
  job = build.build(config)
  state, notes = start.with_weights(job, build.init_state(job))
  assert 'it was trained on pixels as they are' in notes[-1]
  other, theirs = encoder_lib.load(trained)
  jax.tree.map(
    np.testing.assert_array_equal,
    towers.arrays_of(job, state),
    towers.arrays_of(other, theirs),
  )
  with pytest.raises(config_lib.Error, match='given from Python'):
    export.export(gone, 'npz', output=tmp_path / 'out')
  done = export.export(
    gone, 'npz', output=tmp_path / 'out', source=sources.load('digits')
  )
  assert done.certificate['largest_relative'] < 1e-5
  # And what lies beside an export is known.
  config.encoder.init = str(tmp_path / 'out/encoder.npz')
  job = build.build(config)
  _, notes = start.with_weights(job, build.init_state(job))
  assert 'it was trained on pixels as they are' in notes[-1]


def test_positions_go_out_as_the_run_interpolates_them():
  c = encoder_config('vit_tiny', patch_size=16, depth=1, pretrained_size=224)
  module, arrays = random_arrays(c.encoder.to_json(), 96, 3)
  images = np.random.default_rng(0).normal(size=(2, 96, 96, 3))
  images = images.astype(np.float32)

  def features(module, arrays):
    shapes = jax.eval_shape(
      lambda: module.init(jax.random.key(0), images, train=False)
    )
    variables = {k: keymap.filled(v, arrays) for k, v in shapes.items()}
    return module.apply(variables, images, train=False)

  resized = formats.resized(module, arrays, (6, 6))
  np.testing.assert_allclose(
    features(module.clone(grid=(6, 6)), resized),
    features(module, arrays),
    atol=1e-5,
  )


@pytest.mark.parametrize(
  ('name', 'library'), [('resnet18', 'bert'), ('vit_tiny', 'bert')]
)
def test_no_library_takes_what_it_has_not(name, library):
  c = encoder_config(name)
  module, _ = random_arrays(c.encoder.to_json(), 64, 3)
  with pytest.raises(config_lib.Error, match=f'{library} has no encoder that'):
    formats.model(library, c.encoder, module, 3)


def test_an_export_that_differs_fails(trained, tmp_path, monkeypatch):
  monkeypatch.setattr(
    export,
    '_to_stablehlo',
    lambda encode, images, f: (
      (f / 'encoder.stablehlo').write_bytes(b'') or np.ones((32, 16))
    ),
  )
  with pytest.raises(config_lib.Error, match='is not the trained one'):
    export.export(trained, 'stablehlo', output=tmp_path / 'out')
  assert (tmp_path / 'out/certificate.json').exists()


def test_without_torch_the_weights_are_written_and_not_certified(tmp_path):
  workdir = tmp_path / 'run'
  config = tiny.config()
  config.encoder.name, config.encoder.width = 'resnet18', 4
  config.evaluation.baselines = False
  config.steps = 1
  train.pretrain(config, workdir)
  empty = tmp_path / 'python'
  empty.write_text('#!/bin/sh\necho "ModuleNotFoundError: torch" >&2\nexit 1\n')
  empty.chmod(0o755)
  done = export.export(workdir, 'torchvision', python=str(empty))
  assert done.certificate['largest_relative'] is None
  assert 'not certified' in done.notes[0]
  stored = safetensors.numpy.load_file(done.folder / 'encoder.safetensors')
  assert stored['layer4.1.bn2.num_batches_tracked'] == 0
  assert stored['conv1.weight'].shape == (4, 1, 3, 3)
  with pytest.raises(config_lib.Error, match='timm has no resnet18 of width 4'):
    export.export(workdir, 'timm')
