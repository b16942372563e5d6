"""Each setting of a sweep less the best one, on the same images."""

from collections.abc import Sequence

from contrastive_jax.evaluation import correctness
from contrastive_jax.sweeping.plan import setting_text
from contrastive_jax.sweeping.scores import SCORES, Setting

_NOTE = (
  'Each setting less the one whose mean over the seeds is best, in points. The '
  'images are the same for both, so that a difference is known better than the '
  'accuracies are. The interval (95 %) covers the images and the seeds; where '
  'either setting has one seed alone, the images alone. It is not corrected '
  'for the best having been picked among all: that one is partly lucky, and '
  'its lead is less on other images. A setting whose interval reaches 0 is not '
  'told apart from the best.'
)


def markdown(settings: Sequence[Setting]) -> list[str]:
  """Returns lines: a table for each accuracy; none without two settings.

  Args:
    settings: with the runs that are done; each has its `seed`, and as `right`
      what `correctness.of_summary` finds, which earlier versions have not.
  """
  lines = []
  for key, (title, _, _) in SCORES.items():
    if not key.endswith('accuracy'):
      continue
    runs = [
      {
        run['seed']: run['right'][key]
        for run in setting.runs
        if key in run['right']
      }
      for setting in settings
    ]
    found = correctness.less_best(runs)
    if not any(found.differences):
      continue
    head = [*settings[0].setting, title.replace('%', 'points'), '95 %', 'seeds']
    lines += [f'| {" | ".join(head)} |', '|' + '---|' * len(head)]
    left_out = []
    for number, (setting, of_seeds) in enumerate(
      zip(settings, runs, strict=True)
    ):
      difference = found.differences[number]
      if difference is not None:
        value, *ends = (f'{100 * share:+.2f}' for share in difference)
        cells = [value, ' to '.join(ends)]
      elif number == found.best:
        cells = ['best', '']
      else:
        if setting.scores(key):
          left_out.append(setting_text(setting.setting))
        continue
      values = map(str, setting.setting.values())
      lines.append(f'| {" | ".join([*values, *cells, str(len(of_seeds))])} |')
    lines.append('')
    if left_out:
      lines += [
        f'Without {"; ".join(left_out)}: measured on other images, or by a '
        'version that did not store which of them are right.',
        '',
      ]
  return ['## Differences', '', _NOTE, '', *lines] if lines else []
