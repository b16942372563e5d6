"""Estimators of mutual information where the truth is known: a staircase.

  python -m experiments.theory.gaussian --workdir=runs/gaussian
  python -m experiments.theory.gaussian --workdir=runs/gaussian --seeds=3 \
      --critics=separable --data=gaussian

x is standard normal in 20 dimensions, y has correlation rho with it, a
coordinate each; rho rises in steps, so that the mutual information is 2, 4, 6,
8 and 10 nats. Each estimator trains a critic on fresh batches of 64 and is
plotted as it goes: InfoNCE cannot pass ln 64 = 4.16, the others trade bias for
variance. `cubic` shows the critic y^3, which changes no information. The critic
`optimal` is the logarithm of the true density ratio, and not trained: what an
estimator says of it is the estimator's, what is missing beside it the critic's.

Writes estimates/*.npy, gaussian.csv, gaussian.png and cubic.png, and prints a
table in Markdown: of everything in the work folder, so that a run that was
killed goes on where it stood, and a later one may add to it.

Reference: Poole et al. 2019 (arXiv 1905.06922), section 3.1 and figure 2; Song
& Ermon 2020 (arXiv 1910.06222), section 6.1.
"""

import argparse
import csv
import functools
import itertools
import pathlib
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastive_jax.diagnostics import mutual_information as mi
from experiments.theory import staircase

DIMS = 20
BATCH_SIZE = 64
LEVELS = (2.0, 4.0, 6.0, 8.0, 10.0)
CRITICS = ('separable', 'concat', 'optimal')
DATA = ('gaussian', 'cubic')
# Of the interpolated bound: it is at most 1 + ln(63 / 0.01), 9.7 nats.
ALPHA = 0.01
# Of each estimator, what the table and the plot call it.
ESTIMATORS = {
  'info_nce': 'InfoNCE',
  'nwj': 'NWJ',
  'tuba': 'TUBA',
  'interpolated': f'interpolated, α = {ALPHA}',
  'donsker_varadhan': 'DV',
  'mine': 'MINE',
  'jensen_shannon': 'JS',
  'smile_1': 'SMILE, τ = 1',
  'smile_5': 'SMILE, τ = 5',
  'smile_inf': 'SMILE, τ = ∞',
}
_LEARNED_BASELINE = ('tuba', 'interpolated')
_LEARNING_RATE = 5e-4
# Estimator, critic, data and seed.
Name = tuple[str, str, str, int]
_COLUMNS = ('estimator', 'critic', 'data', 'seed', 'true_nats', 'mean', 'std')


def train(
  estimator: str,
  critic: str,
  levels: Sequence[float],
  steps: int,
  seed: int,
  *,
  data: str = 'gaussian',
  batch_size: int = BATCH_SIZE,
  dims: int = DIMS,
) -> np.ndarray:
  """Trains a critic up the staircase.

  Args:
    estimator: one of ESTIMATORS. TUBA and the interpolated bound also learn
      their baseline.
    critic: 'separable', g(x) . h(y), or 'concat', of each pair; or 'optimal',
      the best there is, as which nothing is trained.
    levels: the true mutual information of each step of the staircase, in nats.
    steps: Adam steps a level.
    seed: of the critic and the samples.
    data: 'gaussian', or 'cubic': the critic sees y^3.
    batch_size: K, pairs a step.
    dims: d, of x and of y.

  Returns:
    float32 [len(levels) * steps], the estimate of each step's batch in nats,
    before that step.

  Raises:
    ValueError: an unknown estimator, critic or data.
  """
  for name, known in (
    (estimator, ESTIMATORS),
    (critic, CRITICS),
    (data, DATA),
  ):
    if name not in known:
      raise ValueError(f'{name} is none of {", ".join(known)}')
  correlations = [mi.gaussian_correlation(level, dims) for level in levels]
  # TPUs multiply float32 matrices in bfloat16 unless told otherwise.
  with jax.default_matmul_precision('highest'):
    correlations = jnp.repeat(jnp.asarray(correlations, jnp.float32), steps)
    options = {'estimator': estimator, 'batch_size': batch_size, 'dims': dims}
    rng = jax.random.key(seed)
    if critic == 'optimal':
      return np.asarray(_optimal(correlations, rng, **options))
    cubic = data == 'cubic'
    estimates = _train(correlations, rng, critic=critic, cubic=cubic, **options)
  return np.asarray(estimates)


@functools.partial(
  jax.jit,
  static_argnames=('estimator', 'critic', 'cubic', 'batch_size', 'dims'),
)
def _train(correlations, rng, *, estimator, critic, cubic, batch_size, dims):
  init_rng, data_rng = jax.random.split(rng)
  params = _init(init_rng, estimator, critic, dims)
  optimizer = optax.adam(_LEARNING_RATE)

  def loss_fn(params, log_average, x, y):
    scores = _scores(params, critic, x, y)
    log_baseline = None
    if estimator in _LEARNED_BASELINE:
      log_baseline = _mlp(params['baseline'], x)[:, 0]
    estimate, log_average = _estimate(
      estimator, scores, log_baseline, log_average
    )
    return -estimate, log_average

  def step(carry, inputs):
    params, opt_state, log_average = carry
    index, rho = inputs
    x, y = _pairs(jax.random.fold_in(data_rng, index), rho, (batch_size, dims))
    (loss, log_average), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
      params, log_average, x, y**3 if cubic else y
    )
    updates, opt_state = optimizer.update(gradient, opt_state)
    params = optax.apply_updates(params, updates)
    return (params, opt_state, log_average), -loss

  carry = params, optimizer.init(params), jnp.zeros(())
  steps = jnp.arange(len(correlations))
  return jax.lax.scan(step, carry, (steps, correlations))[1]


@functools.partial(jax.jit, static_argnames=('estimator', 'batch_size', 'dims'))
def _optimal(correlations, rng, *, estimator, batch_size, dims):
  def step(log_average, inputs):
    index, rho = inputs
    x, y = _pairs(jax.random.fold_in(rng, index), rho, (batch_size, dims))
    squares = jnp.sum(x**2, 1)[:, None] + jnp.sum(y**2, 1)
    log_ratio = rho * (2 * x @ y.T - rho * squares) / (2 * (1 - rho**2))
    log_ratio -= dims / 2 * jnp.log1p(-(rho**2))
    # NWJ is TUBA with the baseline e in place of 1.
    scores = log_ratio + (estimator == 'nwj')
    estimate, log_average = _estimate(estimator, scores, 0.0, log_average)
    return log_average, estimate

  steps = jnp.arange(len(correlations))
  return jax.lax.scan(step, jnp.zeros(()), (steps, correlations))[1]


def _pairs(rng, rho, shape):
  """Correlated Gaussians x and y, each [K, d]."""
  x, other = jax.random.normal(rng, (2, *shape))
  return x, rho * x + jnp.sqrt(1 - rho**2) * other


def _estimate(estimator, scores, log_baseline, log_average):
  """The estimate, and the average that only MINE changes."""
  match estimator:
    case 'mine':
      return mi.mine(scores, log_average)
    case 'tuba':
      return mi.tuba(scores, log_baseline), log_average
    case 'interpolated':
      estimate = mi.interpolated(scores, ALPHA, log_baseline=log_baseline)
      return estimate, log_average
    case 'smile_1' | 'smile_5' | 'smile_inf':
      clip = float(estimator.removeprefix('smile_'))
      return mi.smile(scores, clip), log_average
  return getattr(mi, estimator)(scores), log_average


def _init(rng, estimator, critic, dims):
  rng_a, rng_b, rng_baseline = jax.random.split(rng, 3)
  if critic == 'separable':
    params = {
      'x': _init_mlp(rng_a, (dims, 256, 256, 32)),
      'y': _init_mlp(rng_b, (dims, 256, 256, 32)),
    }
  else:
    params = {'pair': _init_mlp(rng_a, (2 * dims, 256, 256, 1))}
  if estimator in _LEARNED_BASELINE:
    params['baseline'] = _init_mlp(rng_baseline, (dims, 512, 512, 1))
  return params


def _init_mlp(rng, sizes):
  init = jax.nn.initializers.glorot_uniform()
  keys = jax.random.split(rng, len(sizes) - 1)
  shapes = zip(sizes[:-1], sizes[1:], strict=True)
  return [
    (init(key, shape), jnp.zeros(shape[1]))
    for key, shape in zip(keys, shapes, strict=True)
  ]


def _mlp(layers, x):
  for w, b in layers[:-1]:
    x = jax.nn.relu(x @ w + b)
  w, b = layers[-1]
  return x @ w + b


def _scores(params, critic, x, y):
  """[K, K], of each x with each y."""
  if critic == 'separable':
    return _mlp(params['x'], x) @ _mlp(params['y'], y).T
  (w, b), *rest = params['pair']
  # The first layer of [x, y] is a sum: K rows of each instead of K^2 pairs.
  w_x, w_y = jnp.split(w, 2)
  hidden = jax.nn.relu((x @ w_x)[:, None] + (y @ w_y)[None] + b)
  return _mlp(rest, hidden)[..., 0]


def _train_once(path: pathlib.Path, name: Name, steps: int) -> None:
  """Writes the estimates of a training, where no earlier run did."""
  if path.exists():
    return
  estimator, critic, data, seed = name
  start = time.perf_counter()
  estimates = train(estimator, critic, LEVELS, steps, seed, data=data)
  seconds = time.perf_counter() - start
  # Renamed when it is whole: a killed run leaves no half of a file.
  part = path.with_suffix('.part')
  with part.open('wb') as file:
    np.save(file, estimates)
  part.rename(path)
  print(f'{path.stem}: {seconds:.0f} s', flush=True)


def main() -> None:
  """Trains what has not been trained; table and plots of all that has."""
  parser = argparse.ArgumentParser(description='Mutual information staircase.')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--steps_a_level', type=int, default=4000)
  parser.add_argument('--seeds', type=int, default=1)
  parser.add_argument('--estimators', default=','.join(ESTIMATORS))
  parser.add_argument('--critics', default=','.join(CRITICS))
  parser.add_argument('--data', default=','.join(DATA))
  args = parser.parse_args()
  folder = args.workdir / 'estimates'
  folder.mkdir(parents=True, exist_ok=True)

  def path_of(name: Name) -> pathlib.Path:
    text = '_'.join(map(str, name))
    return folder / f'{text}_{args.steps_a_level}.npy'

  lists = (
    text.split(',') for text in (args.estimators, args.critics, args.data)
  )
  for name in itertools.product(*lists, range(args.seeds)):
    _train_once(path_of(name), name, args.steps_a_level)

  rows = []
  # Of all seeds that there are, not of this call's alone.
  pattern = f'*_{args.steps_a_level}.npy'
  seeds = sorted({int(p.stem.split('_')[-2]) for p in folder.glob(pattern)})
  for data in DATA:
    curves: dict[str, dict[str, np.ndarray]] = {}
    for name in itertools.product(ESTIMATORS, CRITICS, [data], seeds):
      if path_of(name).exists():
        estimates = np.load(path_of(name))
        # The plot shows the first seed.
        of_critic = curves.setdefault(ESTIMATORS[name[0]], {})
        of_critic.setdefault(name[1], estimates)
        rows += [
          dict(zip(_COLUMNS, (*name, *plateau), strict=True))
          for plateau in staircase.plateaus(estimates, LEVELS)
        ]
    if curves:
      figure = staircase.plot(curves, LEVELS, BATCH_SIZE)
      figure.savefig(args.workdir / f'{data}.png', dpi=120)
  with (args.workdir / 'gaussian.csv').open('w', newline='') as file:
    writer = csv.DictWriter(file, _COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
  print(staircase.table(rows, ESTIMATORS))


if __name__ == '__main__':
  main()
