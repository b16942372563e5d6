"""Noise-contrastive estimation finds a normalizer that nobody computed.

  python -m experiments.theory.nce --workdir=runs/nce

The data are Gaussian in 5 dimensions with an unknown precision matrix P. The
model is ln p(x) = -x'Px/2 + c: nothing says that it integrates to one, P and c
are learned alike. The noise is Gaussian with the data's covariance. Over 10
random problems: the squared error of P and of c, against the number of data
and of noise samples for each, beside maximum likelihood, which needs to know
how to normalize.

Writes nce.csv and nce.png; prints a table in Markdown.

Reference: Gutmann & Hyvarinen 2010 (AISTATS); 2012 (JMLR 13), for the noise
ratio.
"""

import argparse
import csv
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from matplotlib.figure import Figure

from contrastive_jax.losses._nce import noise_contrastive

DIMS = 5
SIZES = (100, 300, 1000, 3000)
RATIOS = (1, 10, 100)
_LOWER = np.tril_indices(DIMS)


def parameters(covariance: np.ndarray) -> np.ndarray:
  """Returns the model's parameters that are a normalized Gaussian.

  Args:
    covariance: [d, d].

  Returns:
    [d(d+1)/2 + 1]: the precision matrix on and below its diagonal, row by row,
    and c = -ln det(2 pi covariance) / 2.
  """
  c = -np.linalg.slogdet(2 * math.pi * covariance)[1] / 2
  return np.append(np.linalg.inv(covariance)[_LOWER], c)


def features(x: np.ndarray) -> np.ndarray:
  """Returns what the model is linear in: features @ theta is -x'Px/2 + c.

  Args:
    x: [n, d].

  Returns:
    [n, d(d+1)/2 + 1], for theta as `parameters`.
  """
  i, j = _LOWER
  products = -x[:, i] * x[:, j] * np.where(i == j, 0.5, 1.0)
  return np.column_stack([products, np.ones(len(x))])


@jax.jit
def _loss_and_gradient(theta, data, noise, log_noise_data, log_noise_noise):
  def loss(theta):
    return noise_contrastive(
      data @ theta,
      log_noise_data,
      noise @ theta,
      log_noise_noise,
      len(noise) / len(data),
    )

  return jax.value_and_grad(loss)(theta)


def fit(data: np.ndarray, ratio: int, rng: np.random.Generator) -> np.ndarray:
  """Returns the noise-contrastive estimate of the parameters.

  Args:
    data: [n, d], of mean 0.
    ratio: nu, noise samples for each of the data.
    rng: of the noise.

  Returns:
    As `parameters`, from a start at P = I and c = 0.
  """
  covariance = data.T @ data / len(data)
  noise = rng.multivariate_normal(
    np.zeros(DIMS), covariance, size=ratio * len(data)
  )
  samples = [features(data), features(noise)]
  log_noise = [sample @ parameters(covariance) for sample in samples]
  arguments = [jnp.asarray(x, jnp.float32) for x in samples + log_noise]

  def value_and_gradient(theta):
    # TPUs multiply float32 matrices in bfloat16 unless told otherwise.
    with jax.default_matmul_precision('highest'):
      value, gradient = _loss_and_gradient(jnp.float32(theta), *arguments)
    return float(value), np.asarray(gradient, np.float64)

  # A logistic regression: the loss is convex, and any start is as good.
  start = np.append(np.eye(DIMS)[_LOWER], 0.0)
  return scipy.optimize.minimize(
    value_and_gradient,
    start,
    jac=True,
    method='L-BFGS-B',
    # What float32 can tell apart.
    options={'ftol': 1e-7},
  ).x


def random_covariance(rng: np.random.Generator) -> np.ndarray:
  """Returns a covariance matrix [d, d] whose condition number is at most 10."""
  rotation = np.linalg.qr(rng.normal(size=(DIMS, DIMS)))[0]
  variances = np.exp(rng.uniform(-math.log(10) / 2, math.log(10) / 2, DIMS))
  return (rotation * variances) @ rotation.T


def squared_errors(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
  """Returns the squared error of P, a mean over its parameters, and of c."""
  squared = np.square(found - truth)
  return float(squared[:-1].mean()), float(squared[-1])


def measure(sizes: tuple[int, ...], ratios: tuple[int, ...], problems: int):
  """Returns a row of nce.csv for each problem, size and estimator.

  Args:
    sizes: numbers of data.
    ratios: of noise to data.
    problems: random ones, of seeds 0, 1, ...

  Returns:
    Lists of problem, estimator, number of data, and both squared errors.
  """
  rows = []
  for problem in range(problems):
    rng = np.random.default_rng(problem)
    covariance = random_covariance(rng)
    truth = parameters(covariance)
    for size in sizes:
      data = rng.multivariate_normal(np.zeros(DIMS), covariance, size=size)
      estimates = {'maximum likelihood': parameters(data.T @ data / size)}
      for ratio in ratios:
        estimates[f'NCE, ν = {ratio}'] = fit(data, ratio, rng)
      rows += [
        [problem, name, size, *squared_errors(found, truth)]
        for name, found in estimates.items()
      ]
  return rows


def _of_estimators(rows):
  """[problems, sizes, 2] of each: the errors of P and of c."""
  names = dict.fromkeys(row[1] for row in rows)
  problems = 1 + max(row[0] for row in rows)
  return {
    name: np.array([row[3:] for row in rows if row[1] == name]).reshape(
      problems, -1, 2
    )
    for name in names
  }


def plot(rows: list[list]) -> Figure:
  """Draws the medians over problems, and the quarters beside them.

  Args:
    rows: of `measure`.

  Returns:
    The figure: a panel for P, one for c.
  """
  figure = Figure((9, 3.8), layout='constrained')
  axes = figure.subplots(1, 2)
  sizes = sorted({row[2] for row in rows})
  for name, errors in _of_estimators(rows).items():
    black = name == 'maximum likelihood'
    for i, axis in enumerate(axes):
      low, middle, high = np.quantile(errors[..., i], (0.25, 0.5, 0.75), axis=0)
      (line,) = axis.loglog(
        sizes,
        middle,
        marker='.',
        label=name,
        color='black' if black else None,
        linestyle='--' if black else '-',
      )
      axis.fill_between(sizes, low, high, color=line.get_color(), alpha=0.1)
  for axis, title in zip(
    axes, ('precision matrix P', 'log normalizer c'), strict=True
  ):
    axis.set_title(title)
    axis.set_xlabel('data')
  axes[0].set_ylabel('squared error')
  axes[0].legend()
  return figure


def table(rows: list[list]) -> str:
  """Returns Markdown: what each estimator's errors are, and how they fall.

  Args:
    rows: of `measure`.

  Returns:
    A line an estimator: the medians at most data; and the slopes of the log
    median error against the log number of data: -1 is what theory says.
  """
  sizes = sorted({row[2] for row in rows})
  lines = [
    f'| estimator | error of P at {sizes[-1]:,} | slope | of c | slope |',
    '|' + '---|' * 5,
  ]
  for name, errors in _of_estimators(rows).items():
    median = np.median(errors, axis=0)
    slope = np.polyfit(np.log(sizes), np.log(median), 1)[0]
    lines.append(
      f'| {name} | {median[-1, 0]:.2e} | {slope[0]:.2f} '
      f'| {median[-1, 1]:.2e} | {slope[1]:.2f} |'
    )
  return '\n'.join(lines)


def main() -> None:
  """Measures, and writes table and plot."""
  parser = argparse.ArgumentParser(description='NCE of a known model.')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--problems', type=int, default=10)
  args = parser.parse_args()
  args.workdir.mkdir(parents=True, exist_ok=True)
  rows = measure(SIZES, RATIOS, args.problems)
  with (args.workdir / 'nce.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(
      ['problem', 'estimator', 'data', 'squared_error_p', 'squared_error_c']
    )
    writer.writerows(rows)
  plot(rows).savefig(args.workdir / 'nce.png', dpi=120)
  print(table(rows))


if __name__ == '__main__':
  main()
