"""Tokens and pairs a second of SimCSE, CLIP and SigLIP, beside bare passes.

  python -m experiments.benchmarks.text [--only=clip] \
      [--text=csv:wordnet.csv] [--pairs=csv:openclipart.csv]

The bare passes are forward and backward of the encoders, dropout included: no
heads, no loss, no optimizer, no augmentation of images. Configs as they are
shipped, but for the batch, and images of 32 pixels for a ResNet-18 of width 16;
the tables are those of `experiments.data`, and without them small ones are
made. One device. A token is one of a sentence, not of what its batch is padded
with.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from contrastive_jax.commands import command_line
from contrastive_jax.models import branches
from contrastive_jax.training import build, step
from experiments import small_configs
from experiments.benchmarks import timing

_ONLY = flags.DEFINE_list(
  'only', small_configs.TEXTS + small_configs.PAIRS, 'Objectives.'
)
_TEXT = flags.DEFINE_string('text', None, 'Source of sentences.')
_PAIRS = flags.DEFINE_string('pairs', None, 'Source of images with texts.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 128, 'Rows of a step.')


def make_job(name: str) -> build.Job:
  """Returns the objective's job on its table."""
  source = _TEXT if name in small_configs.TEXTS else _PAIRS
  config = small_configs.load(name, source.value)
  config.batch_size = _BATCH_SIZE.value
  if name in small_configs.PAIRS:
    config.data.image_size, config.encoder.width = 32, 16
  return build.build(config, step.make_mesh(jax.devices()[:1]))


def bare_passes(job: build.Job, batch: dict[str, Any]) -> Callable[[], Any]:
  """Returns a call that does the encoders' passes and nothing else.

  Args:
    job: whose encoders they are.
    batch: what they are given.

  Returns:
    The call; it handles one batch.
  """
  views = job.modality.views(batch)
  images, texts = job.objective.modules, job.objective.text_modules
  parts = [({'encoder': images['encoder']}, views)]
  if texts:
    text_encoder = {'text_encoder': texts['text_encoder']}
    parts = [(parts[0][0], views[:1]), (text_encoder, views[1:])]
  state = build.init_state(job)

  @jax.jit
  def gradient(params, rng):
    def total(params):
      outputs = []
      for modules, inputs in parts:
        found, _ = branches.run_branch(
          modules,
          params,
          state.model_state['batch_stats'],
          inputs,
          train=True,
          rng=rng,
        )
        outputs += [jnp.sum(x) for xs in found.values() for x in xs]
      return sum(outputs)

    return jax.grad(total)(params)

  names = [name for modules, _ in parts for name in modules]
  params = {name: state.params[name] for name in names}
  return lambda: gradient(params, jax.random.key(0))


def main(argv: list[str]) -> None:
  """Prints a ratio an objective."""
  del argv
  for name in _ONLY.value:
    job = make_job(name)
    batch = build.first_batch(job)
    sentences = [v for v in job.modality.views(batch) if isinstance(v, dict)]
    tokens = int(sum(np.sum(v['length']) for v in sentences))
    padded = sum(v['tokens'].size for v in sentences)
    print(f'{name}: {tokens:,} tokens a step, {tokens / padded:.2f} of places')
    unit, items = 'tokens', tokens
    if name in small_configs.PAIRS:
      unit, items = 'pairs', _BATCH_SIZE.value
    timing.compare(
      f'{unit}, {name} against its bare passes',
      timing.stepper(job),
      bare_passes(job, batch),
      items=items,
      rounds=5,
      target=0.9,
    )


if __name__ == '__main__':
  command_line.set_up_cpu(1)
  app.run(main)
