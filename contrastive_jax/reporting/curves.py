"""The part of the page that shows how runs went, step by step."""

from collections.abc import Sequence

from contrastive_jax.diagnostics import embedding
from contrastive_jax.evaluation import during
from contrastive_jax.reporting import (
  embeddings,
  figures,
  folder,
  page,
  summaries,
)
from contrastive_jax.reporting.embeddings import Found
from contrastive_jax.reporting.folder import Run


def curves(runs: Sequence[Run], found: Sequence[Found]) -> list[str]:
  """Returns the figures of what changes over the steps, and the spectra.

  Args:
    runs: one, or several in the same figures.
    found: the embeddings of each.
  """
  body = []
  if any(run.reports for run in runs):
    body += [
      page.element('h2', 'Loss against chance'),
      page.figure(
        figures.loss(runs),
        'Loss over steps. ' + _course(runs, 'loss'),
        'Dotted: what an encoder that knows nothing would have. A loss that '
        'stays there has learned nothing.',
      ),
      page.element('h2', 'Health of the embedding'),
      page.figure(
        figures.health(runs),
        'Six measures over steps. Spread: '
        + _course(runs, 'embedding_spread')
        + ' Effective rank: '
        + _course(runs, 'effective_rank'),
        'Of up to 256 embeddings a report. A spread near 0 or a rank near 1 is '
        'a collapse: all images at one point, or on one line.',
      ),
      *_online(runs),
      page.element('h2', 'Learning rate'),
      page.figure(
        figures.learning_rate(runs),
        'Learning rate over steps. ' + _course(runs, 'learning_rate'),
      ),
    ]
  seen = [f.embeddings for f in found]
  if any(seen):
    ranks = '; '.join(
      f'{run.name}: effective rank {embedding.effective_rank(x.unit):.1f} of '
      f'{x.unit.shape[1]}, from {len(x.unit):,} images of {x.split} at step '
      f'{x.step:,}'
      for run, x in zip(runs, seen, strict=True)
      if x is not None
    )
    values = [x and embeddings.spectrum(x) for x in seen]
    body += [
      page.element('h2', 'Spectrum of the features'),
      page.figure(
        figures.spectra(runs, values),
        f'Singular values of the features, log scale. {ranks}.',
        'Singular values of the features of length 1, less their mean. A '
        f'steep fall: few directions are used. {ranks}.',
      ),
    ]
  return body


def _online(runs: Sequence[Run]) -> list[str]:
  """Accuracies and ranks while training, of runs that have measured them."""
  measured = [
    run
    for run in runs
    if any(folder.series(run, key)[1] for key in figures.ONLINE)
  ]
  if not measured:
    return []
  sentences = []
  for run in measured:
    _, sentence = during.verdict(folder.latest(run, 'since_start') or {})
    if sentence:
      name = f'{run.name}: ' if len(runs) > 1 else ''
      sentences.append(page.element('p', f'{name}{sentence}.'))
  return [
    page.element('h2', 'Better than before?'),
    page.figure(
      figures.online(measured),
      'Accuracies and ranks over steps. '
      + ' '.join(
        f'{title}: {course}'
        for key, title in figures.ONLINE.items()
        if (course := _course(measured, key))
      ),
      'Frozen features of at most 2,048 test examples, given 4,096 of training '
      'for the accuracies, where there are labels; the first point is before '
      'the first step.',
    ),
    *sentences,
  ]


def _course(runs: Sequence[Run], key: str) -> str:
  """Where a curve begins and ends, for those who do not see it."""
  sentences = []
  for run in runs:
    steps, values = folder.series(run, key)
    if steps:
      sentences.append(
        f'{run.name}: {summaries.number(values[0])} at step {steps[0]:,}, '
        f'{summaries.number(values[-1])} at step {steps[-1]:,}.'
      )
  return ' '.join(sentences)
