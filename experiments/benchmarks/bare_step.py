"""Our step against the barest step of the same model that one can write.

  python -m experiments.benchmarks.bare_step

The bare step has no augmentation, no mapping, no metrics, no schedule: forward
and backward pass of the same encoder and head on two given views, the loss in
six lines, one fused SGD update, under jit on one device. Ours is the whole step
of the main job, on the same device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import simclr_small
from contrastive_jax.commands import command_line
from contrastive_jax.models import encoders, heads
from contrastive_jax.training import build, step
from experiments.benchmarks import timing

BATCH = 256


def main() -> None:
  """Prints both throughputs and their ratio."""
  config = simclr_small.get_config('digits')
  config.data.image_size = 28
  config.encoder.width = 16
  config.batch_size = BATCH
  config.optimizer.name = 'sgd'
  job = build.build(config, step.make_mesh(jax.devices()[:1]))
  batch = build.first_batch(job)
  encoder = encoders.make(job.config.encoder, job.run).module
  head = heads.MLP((encoder.features, 128), output_norm='scale')
  views = [jnp.asarray(v, jnp.float32) / 255 for v in batch['views']]
  views = jnp.concatenate(views)
  variables = {'encoder': encoder.init(jax.random.key(0), views, train=False)}
  features = jnp.zeros((1, encoder.features))
  variables['head'] = head.init(jax.random.key(0), features, train=False)

  def loss_fn(params, statistics, images):
    updated = {}
    x = images
    for name, module in (('encoder', encoder), ('head', head)):
      x, updated[name] = module.apply(
        {'params': params[name], **statistics[name]},
        x,
        train=True,
        views=2,
        mutable=['batch_stats'],
      )
    u = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    logits = u @ u.T / 0.5 - 1e9 * jnp.eye(2 * BATCH)
    positive = jnp.roll(jnp.arange(2 * BATCH), BATCH)
    chosen = logits[jnp.arange(2 * BATCH), positive]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - chosen), updated

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def bare_step(params, statistics, images):
    gradient, statistics = jax.grad(loss_fn, has_aux=True)(
      params, statistics, images
    )
    params = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient)
    return params, statistics

  bare = [
    {k: v['params'] for k, v in variables.items()},
    {k: {'batch_stats': v['batch_stats']} for k, v in variables.items()},
  ]

  def theirs():
    bare[:] = bare_step(*bare, views)
    return bare

  np.testing.assert_equal(len(views), 2 * BATCH)
  timing.compare(
    'images a step (two views each)',
    timing.stepper(job),
    theirs,
    items=BATCH,
    rounds=25,  # a round varies by a tenth
    target=0.95,
  )


if __name__ == '__main__':
  command_line.set_up_cpu(1)
  main()
