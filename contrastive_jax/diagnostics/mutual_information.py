"""Mutual information of pairs, estimated from a critic's scores, in nats.

Every estimator takes scores [K, K] with scores[i, j] = f(x_i, y_j): the
diagonal is a sample of the joint distribution, the K(K-1) others are one of the
product of the marginals. Rows are the ones that are told apart, so a baseline
is one of x; for one of y give the transpose. All are differentiable, and where
nothing else is said they are to be maximized. Scores may be as large as +-1e4:
whatever cannot overflow by its definition is finite then.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.config import Error


def info_nce(scores: jax.Array) -> jax.Array:
  """Returns the InfoNCE (CPC) lower bound.

    mean_i [ f_ii - ln( (1/K) sum_j exp f_ij ) ],

  with the positive among the K. It is computed as ln K - mean_i softplus(
  ln sum_{j != i} exp(f_ij - f_ii)), and ln K is rounded down, so that no
  rounding takes it above ln K.

  Args:
    scores: [K, K].

  Returns:
    float32 scalar, never above ln K; 0 where all scores are alike.

  Raises:
    ValueError: scores are not square, or of fewer than 2 pairs.

  Reference:
    van den Oord et al. 2018 (arXiv 1807.03748), section 2.3; Poole et al. 2019
    (arXiv 1905.06922), section 2.3.
  """
  scores, off_diagonal = _checked(scores)
  # Differences first: near 1e4 a sum's logarithm is only known to 1e-3.
  differences = scores - jnp.diagonal(scores)[:, None]
  others = jax.nn.logsumexp(differences, axis=1, where=off_diagonal)
  loss = jax.nn.softplus(others)
  ceiling = np.float32(math.log(len(scores)))
  if float(ceiling) > math.log(len(scores)):
    ceiling = np.nextafter(ceiling, np.float32(0))
  return ceiling - jnp.mean(loss)


def nwj(scores: jax.Array) -> jax.Array:
  """Returns the NWJ lower bound, also called f-GAN KL and MINE-f.

    mean_i f_ii - (1/e) mean_{i != j} exp f_ij

  Args:
    scores: [K, K]. The bound is the mutual information where f = 1 + r, with
      r = ln p(x, y) / (p(x) p(y)).

  Returns:
    float32 scalar; -inf, without a usable gradient, where exp f overflows
    (scores above 89): its variance is of the order of exp(I).

  Raises:
    ValueError: scores are not square, or of fewer than 2 pairs.

  Reference:
    Nguyen et al. 2010 (arXiv 0809.0853); Poole et al. 2019, section 2.2.
  """
  return tuba(scores, 1.0)


def tuba(scores: jax.Array, log_baseline: jax.Array | float) -> jax.Array:
  """Returns the lower bound of an unnormalized critic and a baseline a(x).

    1 + mean_i [ f_ii - ln a(x_i) ] - mean_{i != j} exp( f_ij - ln a(x_i) )

  Args:
    scores: [K, K].
    log_baseline: ln a of each row, [K], or one for all; 1 makes it NWJ.

  Returns:
    float32 scalar; -inf as `nwj`.

  Raises:
    ValueError: scores are not square, or of fewer than 2 pairs.

  Reference:
    Poole et al. 2019, section 2.2 (there a is of y; the bound is symmetric).
  """
  scores, off_diagonal = _checked(scores)
  scores = scores - _column(log_baseline, len(scores))
  marginal = jnp.exp(_log_mean_exp(scores, off_diagonal))
  return 1 + jnp.mean(jnp.diagonal(scores)) - marginal


def donsker_varadhan(scores: jax.Array) -> jax.Array:
  """Returns the Donsker-Varadhan estimate.

    mean_i f_ii - ln mean_{i != j} exp f_ij

  Args:
    scores: [K, K].

  Returns:
    float32 scalar. The logarithm of a batch's mean is biased upwards: of a
    batch this is neither a lower nor an upper bound.

  Raises:
    ValueError: scores are not square, or of fewer than 2 pairs.

  Reference:
    Donsker & Varadhan 1983; Belghazi et al. 2018 (arXiv 1801.04062), theorem 1.
  """
  scores, off_diagonal = _checked(scores)
  return jnp.mean(jnp.diagonal(scores)) - _log_mean_exp(scores, off_diagonal)


def mine(
  scores: jax.Array, log_average: jax.Array, *, momentum: float = 0.9
) -> tuple[jax.Array, jax.Array]:
  """Returns the Donsker-Varadhan estimate with MINE's gradient, and an average.

  With m = mean_{i != j} exp f_ij of this batch and the moving average
  a <- momentum a + (1 - momentum) m, the gradient is that of

    mean_i f_ii - m / a,  a held constant,

  whose bias is less than that of a batch's own ln m.

  Args:
    scores: [K, K].
    log_average: ln a of the batches before; 0 at first.
    momentum: share of the old average.

  Returns:
    float32 scalar, `donsker_varadhan` of these scores; and the new ln a, which
    has no gradient.

  Raises:
    ValueError: scores are not square, or of fewer than 2 pairs.

  Reference:
    Belghazi et al. 2018, section 3.2; Song & Ermon 2020 (arXiv 1910.06222),
    ermongroup/smile-mi-estimator, estimators.py, which also keeps a above 1e-4:
    in logarithms there is no need.
  """
  scores, off_diagonal = _checked(scores)
  joint = jnp.mean(jnp.diagonal(scores))
  log_mean = _log_mean_exp(scores, off_diagonal)
  log_average = jax.lax.stop_gradient(
    jnp.logaddexp(
      math.log(momentum) + log_average, math.log1p(-momentum) + log_mean
    )
  )
  objective = joint - jnp.exp(log_mean - log_average)
  return _value_and_gradient_of(joint - log_mean, objective), log_average


def jensen_shannon(scores: jax.Array, *, corrected: bool = False) -> jax.Array:
  """Returns an NWJ value with the gradient of the Jensen-Shannon objective.

    mean_i -softplus(-f_ii) - mean_{i != j} softplus(f_ij)

  is largest at f = r = ln p(x, y) / (p(x) p(y)), where NWJ is at 1 + r.

  Args:
    scores: [K, K].
    corrected: give NWJ f + 1. Without, as the reference implementations have
      it, NWJ gets f itself: at the best critic that is I - 1/e, 0.37 nats low.

  Returns:
    float32 scalar; -inf as `nwj`, but with a gradient also then.

  Raises:
    ValueError: scores are not square, or of fewer than 2 pairs.

  Reference:
    Poole et al. 2019; google-research, vbmi/vbmi_demo.ipynb.
  """
  value = nwj(scores + 1) if corrected else nwj(scores)
  return _value_and_gradient_of(value, jensen_shannon_objective(scores))


def jensen_shannon_objective(scores: jax.Array) -> jax.Array:
  """Returns what `jensen_shannon` and `smile` maximize; it is at most 0.

  Args:
    scores: [K, K].

  Returns:
    float32 scalar: no estimate of mutual information; -2 ln 2 where all scores
    are 0.

  Raises:
    ValueError: scores are not square, or of fewer than 2 pairs.

  Reference:
    Nowozin et al. 2016 (f-GAN, arXiv 1606.00709); Hjelm et al. 2018 (Deep
    InfoMax, arXiv 1808.06670), section 3.1.
  """
  scores, off_diagonal = _checked(scores)
  joint = jnp.mean(-jax.nn.softplus(-jnp.diagonal(scores)))
  return joint - jnp.mean(jax.nn.softplus(scores), where=off_diagonal)


def interpolated(
  scores: jax.Array,
  alpha: float,
  *,
  log_baseline: jax.Array | float = 1.0,
) -> jax.Array:
  """Returns the bound between TUBA (alpha 0) and InfoNCE (alpha 1).

  With the mean of a row without one column and the baseline q,

    m_ij = (1/(K-1)) sum_{k != j} exp f_ik,
    a_ij = alpha m_ij + (1 - alpha) q(x_i),

    1 + mean_{i != j} [ f_ii - ln a_ij ] - mean_{i != j} exp(f_ij) / a_ii.

  The positive is in m_ij, and not in m_ii: each term sees K - 1 samples.

  Args:
    scores: [K, K].
    alpha: from 0, most variance, to 1, most bias: then it is InfoNCE of all
      rows with any one negative left out, at most ln(K-1).
    log_baseline: ln q of each row, [K], or one for all.

  Returns:
    float32 scalar, at most 1 + ln((K-1) / alpha); finite for every alpha but 0,
    where it is -inf as `nwj`.

  Raises:
    ValueError: alpha is not from 0 to 1; scores are not square, or of fewer
      than 2 pairs.

  Reference:
    Poole et al. 2019, section 2.4; vbmi/vbmi_demo.ipynb.
  """
  if not 0 <= alpha <= 1:
    raise Error(f'alpha is {alpha}, not from 0 to 1')
  scores, off_diagonal = _checked(scores)
  log_m = _log_mean_without_one(scores)
  log_q = _column(log_baseline, len(scores))
  log_a = jnp.logaddexp(_log(alpha) + log_m, _log(1 - alpha) + log_q)
  joint = jnp.mean(jnp.diagonal(scores)[:, None] - log_a, where=off_diagonal)
  marginal = scores - jnp.diagonal(log_a)[:, None]
  return 1 + joint - jnp.exp(_log_mean_exp(marginal, off_diagonal))


def smile(scores: jax.Array, clip: float) -> jax.Array:
  """Returns a clipped Donsker-Varadhan value with Jensen-Shannon's gradient.

    mean_i f_ii - ln mean_{i != j} exp( min(max(f_ij, -clip), clip) )

  Args:
    scores: [K, K].
    clip: tau, in nats: small has more bias, large more variance; inf clips
      nothing. The paper has 1, 5 and inf.

  Returns:
    float32 scalar; no bound.

  Raises:
    ValueError: clip is not positive; scores are not square, or of fewer than 2
      pairs.

  Reference:
    Song & Ermon 2020, section 4; ermongroup/smile-mi-estimator.
  """
  if not clip > 0:
    raise Error(f'clip is {clip}, not positive')
  objective = jensen_shannon_objective(scores)
  scores, off_diagonal = _checked(scores)
  clipped = jnp.clip(scores, -clip, clip)
  value = jnp.mean(jnp.diagonal(scores)) - _log_mean_exp(clipped, off_diagonal)
  return _value_and_gradient_of(value, objective)


def gaussian_mutual_information(correlation: float, dims: int) -> float:
  """Returns the mutual information of two Gaussian vectors.

  Args:
    correlation: rho, of each coordinate of x with the same of y; all else is
      independent.
    dims: d, of each.

  Returns:
    -(d/2) ln(1 - rho^2), in nats; also that of any invertible functions of x
    and y.

  Raises:
    ValueError: the correlation is not between -1 and 1.
  """
  if not -1 < correlation < 1:
    raise Error(f'a correlation of {correlation} is not between -1 and 1')
  return -dims / 2 * math.log1p(-(correlation**2))


def gaussian_correlation(nats: float, dims: int) -> float:
  """Returns the correlation at which Gaussians have that mutual information.

  Args:
    nats: I.
    dims: d.

  Returns:
    rho = sqrt(1 - exp(-2 I / d)), the inverse of `gaussian_mutual_information`.

  Raises:
    ValueError: the mutual information is negative.
  """
  if not nats >= 0:
    raise Error(f'a mutual information of {nats} nats is negative')
  return math.sqrt(-math.expm1(-2 * nats / dims))


def _checked(scores):
  """Scores in float32, and which of them are not on the diagonal."""
  if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
    raise Error(f'scores of shape {scores.shape} are not a square matrix')
  if len(scores) < 2:
    raise Error(f'scores of {len(scores)} pairs: at least 2 are needed')
  return scores.astype(jnp.float32), ~np.eye(len(scores), dtype=bool)


def _log_mean_exp(scores, off_diagonal):
  """Ln of the mean of exp f over the pairs of the marginals."""
  total = jax.nn.logsumexp(scores, where=off_diagonal)
  return total - math.log(off_diagonal.sum())


def _log_mean_without_one(scores):
  """[K, K], entry ij: ln of the mean of exp f over row i without column j."""
  total = jax.nn.logsumexp(scores, axis=1, keepdims=True)
  largest = jnp.arange(len(scores)) == jnp.argmax(scores, axis=1)[:, None]
  # Without the largest what is left may be smaller than any rounding of the
  # total; without another it is at least half of it.
  share = jnp.exp(jnp.where(largest, -jnp.inf, scores - total))
  rest = jnp.where(
    largest,
    jax.nn.logsumexp(scores, axis=1, where=~largest, keepdims=True),
    total + jnp.log1p(-share),
  )
  return rest - math.log(len(scores) - 1)


def _column(values, count):
  values = jnp.asarray(values, jnp.float32)
  return jnp.broadcast_to(values, (count,))[:, None]


def _log(value):
  return math.log(value) if value else -math.inf


def _value_and_gradient_of(value, objective):
  stopped = jax.lax.stop_gradient(objective)
  return jax.lax.stop_gradient(value) + (objective - stopped)
