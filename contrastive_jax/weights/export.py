"""A run's encoder as a file for others, with a certificate that it is the same.

Which part of a state is the encoder says its objective: DINO's is the teacher.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from contrastive_jax.config import Config, Error, flat
from contrastive_jax.data.split import Source
from contrastive_jax.evaluation import encoder as encoder_lib
from contrastive_jax.models import positions, vit
from contrastive_jax.training import build
from contrastive_jax.training.sidefiles import atomic_write
from contrastive_jax.weights import formats, keymap, towers
from contrastive_jax.weights.keymap import Arrays

FORMATS = ('torchvision', 'timm', 'bert', 'safetensors', 'npz', 'stablehlo')
IMAGES = 32
# Of the largest difference, in root mean squares of the features. The tanh form
# of GELU would cost some 1e-3, LayerNorm's other epsilon 1e-2.
BOUND = 1e-4


class Exported(NamedTuple):
  """What was written, and how far it is from what was trained.

  Attributes:
    folder: of the files.
    certificate: as in certificate.json.
    notes: what a user has to know, one line each.
  """

  folder: pathlib.Path
  certificate: dict[str, Any]
  notes: tuple[str, ...]


def export(
  workdir: str | pathlib.Path,
  to: str,
  *,
  layer: str = 'encoder',
  step: int | None = None,
  output: str | pathlib.Path | None = None,
  source: Source | None = None,
  python: str = sys.executable,
  bound: float = BOUND,
) -> Exported:
  """Writes the encoder of a run's checkpoint, and compares it with ours.

  Args:
    workdir: of the run; written to is `output` alone.
    to: of `FORMATS`. The first three are a torch state dict as safetensors,
      which `load_state_dict(strict=True)` takes; the next two our own names;
      the last a function of uint8 images, or tokens, of any batch size.
    layer: of `towers.NAMES`: of images with texts there are two encoders. Or a
      head behind one, with what lies before it: as a function alone.
    step: of the checkpoint; None: the newest.
    output: folder; None: WORKDIR/export_FORMAT, of another layer
      WORKDIR/export_FORMAT_LAYER.
    source: of a run that was given its data in memory.
    python: an interpreter that has torch, and torchvision, timm or
      transformers.
    bound: of the largest difference, in root mean squares of the features.

  Returns:
    What was written. Without torch the weights are, but not certified: the
    certificate's `largest_relative` is then None.

  Raises:
    Error: no run, no such layer there or not in this format, or a difference
      above the bound; the files stay, for a look at them.
  """
  config: Config = encoder_lib.read_config(workdir)
  config.encoder.dtype = config.text_encoder.dtype = 'float32'
  job = build.build(
    config,
    encoder_lib.fitting_mesh(config),
    source,
    folder=pathlib.Path(workdir),
  )
  if layer not in towers.NAMES and to != 'stablehlo':
    raise Error(f'{to} takes an encoder alone: --to=stablehlo has {layer}, too')
  make_encode = encoder_lib.frozen(job, layer)
  own = towers.before(job, layer)
  state = encoder_lib.restore(job, workdir, step)
  name = f'export_{to}' + (f'_{layer}' if layer != 'encoder' else '')
  folder = pathlib.Path(output or pathlib.Path(workdir) / name)
  folder.mkdir(parents=True, exist_ok=True)
  arrays = towers.arrays_of(job, state, own.name)
  images = towers.inputs(job, own, IMAGES)
  encode = make_encode(state)
  ours = np.asarray(jax.jit(_call)(encode, images))
  # For whoever takes the encoder further: what it is to make of these images.
  named: Any = images if isinstance(images, dict) else {'images': images}
  np.savez(folder / 'reference.npz', **named, features=ours)
  for name, text in job.modality.files.items():
    atomic_write(folder / name, text)
  notes: list[str] = []
  if to in ('torchvision', 'timm', 'bert'):
    theirs, versions, model = _to_torch(
      job, own, arrays, images, to, folder, python, notes
    )
  elif to == 'stablehlo':
    theirs, versions, model = _to_stablehlo(encode, images, folder), '', {}
  else:
    theirs, versions, model = _to_ours(
      job, state, own, arrays, images, to, folder
    )
  sidecar = _sidecar(job, own, layer, int(state.step), to, model)
  _write_json(folder / 'encoder.json', sidecar)
  certificate = {
    **_difference(ours, theirs),
    'bound': bound,
    'images': f'the first {len(ours)} of {towers.split(job).name}',
    'step': int(state.step),
    'format': to,
    'weights_sha256': _sha256(folder / sidecar['file']),
    'config_sha256': sidecar['config_sha256'],
    'parameters': int(sum(a.size for a in arrays.values())),
    'platform': jax.default_backend(),
    'versions': ', '.join(
      [
        *(f'{p} {importlib.metadata.version(p)}' for p in _PACKAGES),
        *filter(None, [versions]),
      ]
    ),
  }
  _write_json(folder / 'certificate.json', certificate)
  relative = certificate['largest_relative']
  if relative is not None and not relative <= bound:
    raise Error(
      f'the exported encoder is not the trained one: on {len(ours)} examples '
      f'its features differ by up to {relative:.2g} of their size, and at most '
      f'{bound:g} is allowed; see {folder}/certificate.json'
    )
  return Exported(folder, certificate, tuple(notes))


_PACKAGES = ('contrastive_jax', 'jax', 'flax', 'numpy')


def _call(encode, images):
  return encode(images)


def _to_torch(job, tower, arrays, images, to, folder, python, notes):
  """Writes a state dict; returns torch's features, versions, and the model."""
  config, module = tower.config, tower.module
  channels = 0 if isinstance(images, dict) else images.shape[-1]
  if isinstance(module, vit.ViT):
    # For images of the run's size; timm would interpolate otherwise.
    grid = positions.grid_of(images.shape[1:], module.patch_size)
    arrays = formats.resized(module, arrays, grid)
    module = module.clone(grid=grid)
  model = formats.model(to, config, module, channels)
  state_dict = keymap.to_theirs(
    formats.rules(to, config), formats.fitted(to, module, arrays)
  )
  for name in [n for n in state_dict if n.endswith('running_var')]:
    count = name.replace('running_var', 'num_batches_tracked')
    state_dict[count] = np.zeros((), np.int64)
  if to == 'bert':  # that of a first sentence is in the positions
    types = 'embeddings.token_type_embeddings.weight'
    state_dict[types] = np.zeros((2, module.width), np.float32)
  model['weights'] = str(folder / 'encoder.safetensors')
  _save_safetensors(state_dict, folder / 'encoder.safetensors')
  if config.get('norm', 'global') != 'global' and config.name[0] == 'r':
    notes.append(
      f'it was trained with encoder.norm={config.norm}; frozen, that is a '
      'batch norm like any other, but what trains it on there has another norm'
    )
  found = job.modality.frozen_input(images)
  named: Any = found
  if not isinstance(found, dict):
    named = {'own': np.asarray(found)}
  with tempfile.TemporaryDirectory() as name:
    there = pathlib.Path(name)
    np.savez(there / 'images.npz', **named)
    _write_json(there / 'model.json', model)
    program = pathlib.Path(__file__).with_name('theirs.py')
    done = subprocess.run(
      [
        python,
        program,
        there / 'model.json',
        there / 'images.npz',
        there / 'features.npz',
      ],
      capture_output=True,
      text=True,
    )
    if done.returncode:
      last = (done.stderr.strip().splitlines() or ['no word'])[-1]
      if 'ModuleNotFoundError' in done.stderr or 'ImportError' in done.stderr:
        notes.append(
          f'not certified: {python} has not what it takes ({last}); '
          '--python=PATH names an interpreter with torch, torchvision, timm '
          'and safetensors'
        )
        return None, '', model
      raise Error(f'torch does not take the weights: {last}')
    with np.load(there / 'features.npz') as found:
      return found['own'], str(found['versions']), model


def _to_ours(job, state, tower, arrays, images, to, folder):
  """Writes arrays under our names; returns features of what is read back."""
  named = {f'encoder/{name}': array for name, array in arrays.items()}
  if to == 'npz':
    np.savez(folder / 'encoder.npz', **named)
    with np.load(folder / 'encoder.npz', allow_pickle=False) as file:
      read = {name: file[name] for name in file.files}
  else:
    _save_safetensors(named, folder / 'encoder.safetensors')
    read = safetensors.numpy.load_file(folder / 'encoder.safetensors')
  own = {n.removeprefix('encoder/'): a for n, a in read.items()}
  params, model_state = job.objective.evaluated(state.params, state.model_state)
  variables = {
    'params': keymap.filled(params[tower.name], own),
    'batch_stats': keymap.filled(model_state['batch_stats'][tower.name], own),
  }
  pixels = job.modality.frozen_input(images)
  found = jax.jit(lambda v, x: tower.module.apply(v, x, train=False))(
    variables, pixels
  )
  return np.asarray(found), '', {}


_PARTS = slice(1), slice(1, None)


def _to_stablehlo(encode, images, folder) -> np.ndarray:
  """Writes a function of uint8 images; returns the features of what is read."""
  encode = jax.tree.map(np.asarray, encode)
  (batch,) = jax.export.symbolic_shape('batch')
  shape = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), images
  )
  platforms = ('cpu', 'cuda', 'tpu')
  exported = jax.export.export(
    jax.jit(lambda x: encode(x)), platforms=platforms
  )(shape)
  path = folder / 'encoder.stablehlo'
  path.write_bytes(exported.serialize())
  read = jax.export.deserialize(bytearray(path.read_bytes()))
  # Two sizes of a batch: that it is free is a part of what is claimed.
  parts = [jax.tree.map(lambda x, s=s: x[s], images) for s in _PARTS]
  return np.concatenate([np.asarray(read.call(part)) for part in parts])


def _difference(ours: np.ndarray, theirs: np.ndarray | None) -> dict[str, Any]:
  """How far two sides are from each other; None where one is not known."""
  names = ('largest', 'mean', 'largest_relative', 'mean_relative')
  if theirs is None:
    return dict.fromkeys(names)
  apart = np.abs(ours.astype(np.float64) - theirs)
  size = float(np.sqrt(np.mean(np.square(ours, dtype=np.float64))))
  values = float(apart.max()), float(apart.mean())
  relative = (x / size if size else float('nan') for x in values)
  return dict(zip(names, (*values, *relative), strict=True))


def _sidecar(
  job: build.Job,
  tower: towers.Tower,
  layer: str,
  step: int,
  to: str,
  model: dict,
) -> dict[str, Any]:
  """What somebody has to know who feeds images to the encoder."""
  config = json.loads(job.config.to_json())
  data = config['data']
  text = json.dumps(flat(config), sort_keys=True)
  suffix = {'npz': 'npz', 'stablehlo': 'stablehlo'}.get(to, 'safetensors')
  model = {k: v for k, v in model.items() if k != 'weights'}
  return {
    'file': f'encoder.{suffix}',
    'format': to,
    'layer': layer,
    'input': _sentences(job)
    if tower.reads_text
    else {
      'side': job.run.input_shape[0],
      'channels': job.run.input_shape[2],
      'crop': data['eval_crop'],
      'interpolation': data['interpolation'],
      'antialias': data['antialias'],
      'pixels': (
        np.dtype(job.source.train.dtype).name
        if to == 'stablehlo'
        else '[0, 1], less mean, over std'
      ),
      'maximum': data['maximum'],  # of more than 8 bits; 0: they are 8
      'mean': data['mean'],
      'std': data['std'],
      'layout': 'NCHW' if model else 'NHWC',
    },
    **({'model': model} if model else {}),
    'encoder': config[tower.name],
    'objective': config['objective']['name'],
    'data': data['source'],
    'step': step,
    'config_sha256': hashlib.sha256(text.encode()).hexdigest(),
  }


def _sentences(job: build.Job) -> dict[str, Any]:
  """What somebody has to know who feeds sentences to the encoder."""
  return {
    'tokenizer': ', '.join(job.modality.files),
    'max_length': job.config.text.max_length,
    'tokens': 'int32 [b, max_length]; what follows a sentence is not looked at',
    'length': 'int32 [b], the tokens of each sentence',
  }


def _save_safetensors(arrays: Arrays, path: pathlib.Path) -> None:
  # Of an array that is not contiguous safetensors writes other values.
  arrays = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
  safetensors.numpy.save_file(arrays, path)
  read = safetensors.numpy.load_file(path)
  for name, array in arrays.items():
    if not np.array_equal(read[name], array):
      raise Error(f'{path}: {name} was not written as it is')


def _sha256(path: pathlib.Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path: pathlib.Path, fields: dict[str, Any]) -> None:
  atomic_write(path, json.dumps(fields, indent=2) + '\n')
