"""The sections of the accelerator's page, each in a process of its own.

python -m experiments.accelerator_sections SECTION ARGUMENT FOLDER SMALL
"""

import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import simclr_r50
from contrastive_jax.config import Config
from contrastive_jax.data.split import Source, source_from_arrays
from contrastive_jax.losses._nt_xent import nt_xent_and_statistics
from contrastive_jax.training import build, parity, step
from contrastive_jax.training import memory as needed
from contrastive_jax.training.checkpoint import Checkpoints
from experiments import small_configs

# Images a step and device that are tried, the first that fits is measured.
BATCHES = (512, 256, 128, 64, 32, 16)
TIMED_SECONDS = 8.0


def device(argument: str, folder: pathlib.Path, small: bool) -> dict[str, Any]:
  """What runs here."""
  del argument, folder, small
  first = jax.devices()[0]
  return {
    'devices': f'{jax.device_count()} x {first.device_kind}',
    'platform': first.platform,
    'jax': jax.__version__,
    'memory, GiB': _limit(first) / 2**30,
  }


def parity_of(dtype: str, folder: pathlib.Path, small: bool) -> dict[str, Any]:
  """The gradient here against that of the CPU, and of all devices against one.

  At the highest precision of products; between bfloat16 on two kinds of device
  lies the rounding of bfloat16.
  """
  del folder
  found = {}
  for name in ('simclr',) if small else ('simclr', 'moco', 'byol', 'swav'):
    config = small_configs.tiny(name)
    config.encoder.dtype = dtype
    here, everywhere = (
      _gradient(config, devices)
      for devices in (jax.devices()[:1], jax.devices())
    )
    on_cpu = _gradient(config, jax.devices('cpu')[:1])
    found[f'{name}, against a CPU'] = max(parity.relative_errors(here, on_cpu))
    if jax.device_count() > 1:
      found[f'{name}, {jax.device_count()} devices against one'] = max(
        parity.relative_errors(everywhere, here)
      )
  return found


def _gradient(config: Config, devices: Any) -> Any:
  with jax.default_device(devices[0]), jax.default_matmul_precision('highest'):
    job = build.build(config, step.make_mesh(devices))
    gradient_fn = step.mapped(
      step.make_gradient_fn(job.objective, job.modality),
      job.mesh,
      donate=False,
    )
    state, batch = parity.moved_state(job), build.first_batch(job)
    return jax.device_get(gradient_fn(state, batch)[0][0])


def resume(argument: str, folder: pathlib.Path, small: bool) -> dict[str, Any]:
  """Is a run that was continued from a checkpoint the same to the bit?"""
  del argument, folder
  config = small_configs.tiny('simclr')
  if not small:
    config.encoder.name, config.encoder.width = 'resnet18', 32
    config.batch_size = 256
  config.steps = 8
  job = build.build(config)
  train_step = step.mapped(
    step.make_train_step(job.objective, job.optimizer, job.modality),
    job.mesh,
    donate=False,
  )

  def train(state, first, last):
    batches = build.train_batches(job, first)
    for _ in range(first, last):
      (state, _), _ = train_step(state, next(batches))
    batches.close()
    return state

  whole = train(build.init_state(job), 0, 8)
  with tempfile.TemporaryDirectory() as written:
    place = pathlib.Path(written) / 'checkpoints'
    with Checkpoints(place, every_steps=4, keep=1, log=print) as checkpoints:
      checkpoints.save(4, train(build.init_state(job), 0, 4), force=True)
    with Checkpoints(place, every_steps=4, keep=1, log=print) as checkpoints:
      restored = checkpoints.restore(build.init_state(job))
  assert restored is not None  # it was saved just now
  state, start = restored
  continued = train(state, start, 8)
  pairs = [
    (np.asarray(a), np.asarray(b))
    for a, b in zip(
      jax.tree.leaves((continued.params, continued.model_state)),
      jax.tree.leaves((whole.params, whole.model_state)),
      strict=True,
    )
  ]
  different = sum(not np.array_equal(a, b) for a, b in pairs)
  return {
    'the same to the bit': different == 0,
    'arrays that differ': f'{different} of {len(pairs)}',
    'largest difference': max(float(np.max(np.abs(a - b))) for a, b in pairs),
  }


def throughput(
  encoder: str, folder: pathlib.Path, small: bool
) -> dict[str, Any]:
  """Images a second of SimCLR, two views, and the memory that it takes."""
  for batch in (8,) if small else BATCHES:
    try:
      return _throughput(encoder, batch, folder, small)
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      print(f'{batch} images a device do not fit')
  raise MemoryError(f'{encoder}: not even {BATCHES[-1]} images fit')


def _throughput(encoder, batch, folder, small) -> dict[str, Any]:
  config = simclr_r50.get_config()
  config.encoder.name, config.encoder.dtype = encoder, 'bfloat16'
  if encoder != 'resnet50':
    config.optimizer.name, config.optimizer.weight_decay = 'adamw', 0.1
    config.optimizer.base_learning_rate = 1.5e-4
  if small:
    config.data.image_size = 32
    config.encoder.name = '_tiny' if encoder == 'resnet50' else '_vit_micro'
  config.batch_size = batch * jax.device_count()
  mesh = step.make_mesh()
  source = _noise(config.batch_size, config.data.image_size)
  planned = needed.needs(config, source, mesh)
  job = build.build(config, mesh, source)
  train_step = step.over_shards(
    step.make_train_step(job.objective, job.optimizer, job.modality),
    mesh,
    donate=True,
  )
  rows = step.shard(build.first_batch(job), mesh)
  state = build.init_state(job)

  def take_step():
    nonlocal state
    (state, metrics), _ = train_step(state, rows)
    return metrics['loss']

  views = jax.jit(job.modality.views)
  seconds = _seconds(take_step, small)
  augmentation = _seconds(lambda: views(rows), small)
  with jax.profiler.trace(str(folder / f'profile_{encoder}')):
    jax.block_until_ready([take_step() for _ in range(3)])
  used = (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use')
  found = {
    'images a second and device': batch / seconds,
    'images a device': batch,
    'share of the augmentation': augmentation / seconds,
    'operations a second': (planned.operations or 0) / seconds,
    'planned, GiB': planned.total / 2**30,
  }
  if used:
    found['peak, GiB'] = used / 2**30
    found['planned over peak'] = planned.total / used
  return found


def _noise(images: int, side: int) -> Source:
  shape = (max(images, 2), side, side, 3)
  pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
  return source_from_arrays(pixels)


def loss(argument: str, folder: pathlib.Path, small: bool) -> dict[str, Any]:
  """NT-Xent with its statistics and gradient at 65,536 pairs of 128."""
  del argument, folder
  pairs = 512 if small else 65_536
  z = [
    jax.random.normal(key, (pairs, 128))
    for key in jax.random.split(jax.random.key(0))
  ]
  value_and_grad = (
    jax.jit(
      jax.value_and_grad(
        lambda a, b: nt_xent_and_statistics(a, b, temperature=0.1),
        argnums=(0, 1),
        has_aux=True,
      )
    )
    .lower(*z)
    .compile()
  )
  memory = value_and_grad.memory_analysis()
  return {
    'pairs': pairs,
    'seconds': _seconds(lambda: value_and_grad(*z), small),
    'temporary, MiB': memory.temp_size_in_bytes / 2**20 if memory else None,
  }


def _seconds(fn: Callable[[], Any], small: bool) -> float:
  """Of one call: the mean of those that fit into some seconds, after two."""
  jax.block_until_ready([fn() for _ in range(2)])
  calls, began = 0, time.perf_counter()
  last = jnp.zeros(())
  while time.perf_counter() - began < (0.1 if small else TIMED_SECONDS):
    last = fn()
    calls += 1
    if calls % 4 == 0:
      jax.block_until_ready(last)
  jax.block_until_ready(last)
  return (time.perf_counter() - began) / calls


def _limit(first: Any) -> float:
  return (first.memory_stats() or {}).get('bytes_limit', 0)


def main() -> None:
  """Runs the section, and leaves what it found in FOLDER/section.json."""
  section, argument, folder, small = sys.argv[1:]
  found = {
    'device': device,
    'parity': parity_of,
    'resume': resume,
    'throughput': throughput,
    'loss': loss,
  }[section](argument, pathlib.Path(folder), small == '1')
  path = pathlib.Path(folder) / 'section.json'
  path.write_text(json.dumps(found))


if __name__ == '__main__':
  main()
