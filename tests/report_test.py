"""The report: what it shows, of whole and of broken runs, and in a browser."""

import html
import json
import math
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
import scipy.stats

from contrastive_jax import report, train
from contrastive_jax.diagnostics import embedding
from contrastive_jax.evaluation import correctness, encoder
from contrastive_jax.reporting import (
  differences,
  document,
  embeddings,
  figures,
  folder,
  summaries,
)
from tests import tiny

_BROWSER = shutil.which('chromium') or shutil.which('google-chrome')
_LOOK = """<script>addEventListener('load', () => {
  const found = document.createElement('pre'); found.id = 'found';
  found.textContent = JSON.stringify({
    images: [...document.images].map(x => [x.alt, x.naturalWidth]),
    compared: document.querySelectorAll('#comparison tbody tr').length,
    best: [...document.querySelectorAll('#comparison strong')].map(
      x => x.textContent)});
  document.body.append(found); })</script>"""


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp('runs') / 'finished'
  config = tiny.config()
  config.evaluation.baselines = False  # they take longer than all the rest
  summary = train.pretrain(config, workdir)
  trained = summary['rows'].pop('trained encoder')
  others = {name: 0.9 * value for name, value in trained.items()}
  summary['rows'] = {'raw pixels': others, 'trained encoder': trained}
  (workdir / 'summary.json').write_text(json.dumps(summary))
  results = [
    {
      'protocol': 'knn',
      'setting': 'k=20, T=0.07',
      'representation': 'random weights',
      'headline': True,
      'metric': 'accuracy',
      'value': 0.87,
      'low': 0.8621,
      'high': 0.8779,
      'data': 'digits test',
      'examples': 10000,
    },
    {'protocol': 'of a grid', 'value': 0.1, 'headline': False},
    {'protocol': 'rank', 'metric': 'effective_rank', 'value': 12.5},
  ]
  text = json.dumps({'step': 4, 'results': results})
  (workdir / 'evaluation.json').write_text(text)
  return workdir


@pytest.fixture(scope='module')
def crashed(finished) -> pathlib.Path:
  """Killed while it wrote its second report, before its first checkpoint."""
  workdir = finished.parent / 'crashed'
  shutil.copytree(finished, workdir)
  shutil.rmtree(workdir / 'checkpoints')
  (workdir / 'summary.json').unlink()
  (workdir / 'evaluation.json').unlink()
  metrics = workdir / 'metrics.jsonl'
  lines = metrics.read_text().splitlines()
  metrics.write_text(lines[0] + '\n' + lines[1][:30])
  config = json.loads((workdir / 'config.json').read_text())
  config['seed'] = 1
  (workdir / 'config.json').write_text(json.dumps(config))
  return workdir


@pytest.fixture(scope='module')
def pages(finished, crashed, tmp_path_factory) -> dict[str, str]:
  """One run, and two; and nothing else was written."""
  before = _tree(finished), _tree(crashed)
  output, gaps = document.write([finished])
  assert output == finished / 'report.html' and gaps == []
  one = output.read_text()
  output.unlink()
  both = tmp_path_factory.mktemp('report') / 'both.html'
  _, gaps = document.write([finished, crashed], both)
  assert (_tree(finished), _tree(crashed)) == before
  return {'one': one, 'two': both.read_text(), 'gaps': '\n'.join(gaps)}


def _tree(path: pathlib.Path) -> dict[str, int]:
  return {str(p): p.stat().st_mtime_ns for p in path.rglob('*') if p.is_file()}


def _text(page: str) -> str:
  return ' '.join(html.unescape(re.sub('<[^>]*>', ' ', page)).split())


def test_one_run(pages, finished):
  page = _text(pages['one'])
  for heading in (
    'Loss against chance',
    'Health of the embedding',
    'Learning rate',
    'Spectrum of the features',
    'Evaluation',
    'Map of the embedding',
    'Nearest neighbors',
    'Augmented views',
    'Config',
  ):
    assert heading in page
  summary = json.loads((finished / 'summary.json').read_text())
  for row in summary['rows'].values():
    right = round(row['linear'] * 359)
    low, high = (
      100 * end
      for end in scipy.stats.binomtest(right, 359).proportion_ci(
        method='wilson'
      )
    )
    linear = 100 * row['linear']
    assert f'{linear:.2f} ({low:.2f} to {high:.2f})' in page
  assert 'points more than raw pixels.' in page
  assert 'simclr trained a _tiny of width 8 on digits: 1,438 images' in page
  assert f'an encoder that knows nothing has {summary["chance_loss"]:.4g}' in (
    page
  )
  assert '86.21 to 87.79' in page  # of evaluation.json, in per cent
  assert 'knn random weights k=20, T=0.07' in page
  assert 'of a grid' not in page
  assert 'effective_rank 12.5' in page
  assert '359 images of digits test' in page
  assert pages['one'].count('<img') == 6 + 8 * 8


def test_several_runs_side_by_side(pages):
  page, gaps = _text(pages['two']), pages['gaps']
  assert 'Comparison' in page and 'Where their configs differ' in page
  assert 'With so few test images an accuracy may be off by up to ±' in page
  assert all(gap.partition(': ')[2] in page for gap in gaps.splitlines())
  assert 'crashed: The last line of metrics.jsonl is cut off' in gaps
  assert 'the run stands at step 2 of 4; it is still running, or was' in gaps
  assert 'crashed: No features: there is no checkpoint yet' in gaps
  assert page.count('Augmented views') == 2  # they need no checkpoint
  assert page.count('Nearest neighbors') == 1


def test_protocols_side_by_side(finished, tmp_path):
  text = json.loads((finished / 'evaluation.json').read_text())
  runs = []
  for name, step, value in (('a', 2, 0.5), ('b', 4, 0.6)):
    copy = tmp_path / name
    copy.mkdir()
    for file in ('config.json', 'metrics.jsonl', 'summary.json'):
      shutil.copy(finished / file, copy)
    results = [r | {'step': step} for r in text['results']]
    results[0] |= {'value': value, 'low': value - 0.01, 'high': value + 0.01}
    (copy / 'evaluation.json').write_text(json.dumps({'results': results}))
    runs.append(folder.read(copy))
  header, rows = summaries.measured_together(runs, spread=False)
  assert header == ['protocol', 'encoder', 'data', 'a', 'b']
  assert rows == [
    [
      'knn',
      'random weights',
      'digits test',
      '50.00 (49.00 to 51.00)',
      '60.00 (59.00 to 61.00)',
    ]
  ]
  header, ((*_, spread),) = summaries.measured_together(runs, spread=True)
  assert header[-1] == 'mean ± deviation over runs'
  assert spread == '55.00 ± 7.07 of 2'
  assert summaries.measured_together(runs[:1], spread=True) == ([], [])
  # Of a checkpoint that is not the last one, which is said.
  assert 'Some results are of step 2, not of the last one, 4.' in runs[0].gaps
  assert not any('Some results' in gap for gap in runs[1].gaps)


def _answered(name: str, right: np.ndarray, images: str = 'a') -> folder.Run:
  """A run with answers to test images, by the probe and by two subsets."""
  value, packed = float(np.mean(right)), correctness.pack(right)
  summary = {
    'linear_accuracy': value,
    'test_images': len(right),
    'test_sha256': images,
    'right': {'trained encoder': {'linear': packed}},
  }
  row = {
    'step': 4,
    'protocol': 'linear_few',
    'representation': 'trained encoder',
    'data': 'digits test',
    'metric': 'accuracy',
    'value': value,
    'examples': len(right),
    'test_sha256': images,
    'headline': False,
    'right': packed,
  }
  mean = {k: v for k, v in row.items() if k not in ('headline', 'right')}
  config = {'data': {'source': 'digits'}}
  results = [mean, row, {**row, 'right': correctness.pack(right[::-1])}]
  return folder.Run(pathlib.Path(), name, config, [], summary, results, ())


def test_each_run_less_the_best_on_the_same_images():
  """40 and 20 of 100 images discordant; half an image more in each cell."""
  right = np.repeat([True, False, True], [20, 40, 40])
  best = np.repeat([False, True, True], [20, 40, 40])
  runs = [_answered('a', right), _answered('b', best)]
  page = _text(''.join(document._comparison(runs)))
  center = (20.5 - 40.5) / 102
  half = 1.96 * math.sqrt((20.5 + 40.5) - (20.5 - 40.5) ** 2 / 102) / 102
  low, high = 100 * (center - half), 100 * (center + half)
  assert (
    f'run linear, points a -20.00 ({low:+.2f} to {high:+.2f}) b ★ best'
    in (page)
  )
  # Of few labels: over two subsets, which are as far apart in both runs.
  d = ((right * 1.0 - best) + (right * 1.0 - best)[::-1]) / 2
  center = np.sum(d) / 102
  variance = ((np.sum(d**2) + 1) / 102 - center**2) / 102
  half = scipy.stats.t.ppf(0.975, 99) * math.sqrt(variance)
  low, high = 100 * (center - half), 100 * (center + half)
  assert 'linear_few trained encoder digits test -20.00 ' in page
  assert f'({low:+.2f} to {high:+.2f}) ★ best' in page
  assert 'are told apart, or not, by their differences' in page
  assert 'Not all accuracies' not in page


def test_runs_on_other_images_or_without_answers_are_not_compared():
  right = np.arange(100) < 60
  older = _answered('older', right)
  older.summary['right'] = None
  for row in older.results:
    row.pop('right', None)
    row.pop('test_sha256')
  runs = [_answered('a', right), _answered('b', ~right, 'b'), older]
  page = _text(''.join(document._comparison(runs)))
  assert 'No accuracies are compared: the runs were tested on different' in page
  assert 'the best of two that are closer is a guess' in page
  page = _text(''.join(document._comparison([*runs, _answered('c', right)])))
  assert 'Not all accuracies of b, older are compared' in page
  assert 'a ★ best b – older – c +0.00 (' in page
  for run in runs:
    run.summary.clear()
    run.results.clear()
  assert differences.section(runs) == ([], False)


def test_nothing_comes_from_elsewhere(pages):
  for page in (pages['one'], pages['two']):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(('data:', '#run-')) for source in sources)
    assert not re.search(r'<script|<iframe|@import|url\(', page)


@pytest.mark.skipif(_BROWSER is None, reason='there is no chromium')
def test_in_a_browser(pages, tmp_path):
  control = '<html><body><img alt="x" src="x.png"><script>nix()</script></body>'
  found, console = _browse(tmp_path, control)
  assert found['images'] == [['x', 0]] and 'nix is not defined' in console
  for name, compared in (('one', 0), ('two', 2)):
    found, console = _browse(tmp_path, pages[name])
    assert console == ''
    assert len(found['images']) == pages[name].count('<img')
    assert all(alt and width > 0 for alt, width in found['images'])
    assert found['compared'] == compared
    assert all(text.startswith('★') for text in found['best'])
    assert len(found['best']) >= compared


def _browse(tmp_path: pathlib.Path, page: str) -> tuple[dict, str]:
  """Returns what a script sees in a page, and what the console says."""
  path = tmp_path / 'page.html'
  path.write_text(page.replace('</body>', f'{_LOOK}</body>'))
  assert _BROWSER is not None
  done = subprocess.run(
    [
      _BROWSER,
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      f'--user-data-dir={tmp_path / "profile"}',
      '--host-resolver-rules=MAP * ~NOTFOUND',
      '--enable-logging=stderr',
      '--v=0',
      '--virtual-time-budget=2000',
      '--dump-dom',
      path.as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=60,
    check=True,
  )
  seen = re.search('<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
  assert seen, done.stderr
  lines = [x for x in done.stderr.splitlines() if 'CONSOLE' in x]
  return json.loads(html.unescape(seen[1])), '\n'.join(lines)


def test_features_are_the_trained_encoders(finished):
  run = folder.read(finished)
  found = embeddings.load(run)
  assert found.gaps == () and found.embeddings is not None
  job, state = encoder.load(finished)
  wanted, labels, _ = encoder.encode(
    job, encoder.frozen(job)(state), job.source.test
  )
  wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
  np.testing.assert_allclose(found.embeddings.unit, wanted, atol=1e-5)
  np.testing.assert_array_equal(found.embeddings.labels, labels)
  np.testing.assert_array_equal(
    found.embeddings.images, job.source.test.reader.images
  )


def _random(n: int, d: int, labels: bool = False) -> embeddings.Embeddings:
  rng = np.random.default_rng(0)
  x = rng.normal(size=(n, d)).astype(np.float32) + 0.5
  return embeddings.Embeddings(
    step=1,
    split='random',
    unit=x / np.linalg.norm(x, axis=1, keepdims=True),
    labels=np.arange(n) % 3 if labels else None,
    class_names=('a', 'b', 'c'),
    images=rng.integers(0, 255, (n, 8, 8, 3), np.uint8),
  )


def test_spectrum_has_the_effective_rank():
  some = _random(40, 12)
  values = embeddings.spectrum(some)
  assert values[0] == 1 and np.all(np.diff(values) <= 0)
  share = values / values.sum()
  np.testing.assert_allclose(
    np.exp(-(share * np.log(share)).sum()),
    embedding.effective_rank(some.unit),
    rtol=1e-5,
  )


def test_neighbors_by_brute_force():
  some = _random(30, 5)
  rows, nearest, similarity = embeddings.neighbors(some)
  assert len(rows) == 8 and rows[0] == 0 and rows[-1] == 29
  for query, found, cosines in zip(rows, nearest, similarity, strict=True):
    all_cosines = [
      float(np.dot(some.unit[query], other)) for other in some.unit
    ]
    others = sorted(
      (i for i in range(30) if i != query), key=lambda i: -all_cosines[i]
    )
    assert list(found) == others[:7]
    np.testing.assert_allclose(
      cosines, [all_cosines[i] for i in found], rtol=1e-5
    )


@pytest.mark.parametrize('n', [1, 2, 5])
def test_few_images_without_labels(n):
  some = _random(n, 4)
  page = ''.join((*document._map(some), *document._neighbors(some)))
  assert page.count('<img') == 1 + min(n, 8) * min(n, 8)
  assert '✓' not in page and '✗' not in page


def test_a_collapsed_encoder_is_shown_too():
  some = _random(20, 4, labels=True)
  some = some._replace(unit=np.full((20, 4), 0.5, np.float32))
  assert embeddings.maps(some)[1] is None
  page = ''.join((*document._map(some), *document._neighbors(some)))
  assert '1.00 · b ✗' in page
  run = folder.Run(pathlib.Path(), 'x', {}, [], {}, [], ())
  figures.spectra([run], [embeddings.spectrum(some)]).savefig(
    '/dev/null', format='svg'
  )


def test_a_damaged_folder_is_shown_as_far_as_it_goes(crashed, tmp_path):
  workdir = tmp_path / 'damaged'
  shutil.copytree(crashed, workdir)
  (workdir / 'config.json').write_text('{"seed": ')
  (workdir / 'summary.json').write_text('[]')
  (workdir / 'evaluation.json').write_text('{"results": ["x", {}]}')
  output, gaps = document.write([workdir])
  page = _text(output.read_text())
  assert 'config.json is damaged and left out (Expecting value' in gaps[0]
  assert 'summary.json is damaged' in ' '.join(gaps)
  assert 'No pictures: the run cannot be built again' in gaps[-1]
  assert all(gap in page for gap in gaps)
  assert 'Loss against chance' in page and 'Config' not in page
  # It only has a config: nothing was reported yet.
  workdir = tmp_path / 'begun'
  workdir.mkdir()
  shutil.copy(crashed / 'config.json', workdir)
  run = folder.read(workdir)
  assert run.gaps == (
    'There are no reports yet: the run has not come to its first one, every '
    '2 steps.',
  )
  (workdir / 'metrics.jsonl').write_text('x\n{"step": 2, "loss": NaN}\n[]\n')
  run = folder.read(workdir)
  assert '2 of 3 lines of metrics.jsonl are damaged' in run.gaps[0]
  assert folder.series(run, 'loss') == ([], [])


def test_no_work_folder_is_one_sentence(tmp_path, capsys):
  for path, sentence in (
    (tmp_path, 'is not a work folder: there is no config.json in it'),
    (tmp_path / 'nix', 'there is no work folder'),
  ):
    with pytest.raises(SystemExit, match=sentence) as stopped:
      report.main(['report', f'--workdir={path}'])
    assert str(stopped.value).startswith('error: ')
  assert list(tmp_path.iterdir()) == []
  assert capsys.readouterr().out == ''


def test_folders_of_one_name_are_told_apart(crashed, tmp_path):
  shutil.copytree(crashed, tmp_path / 'crashed')
  runs = folder.read_all([crashed, tmp_path / 'crashed'])
  assert [run.name for run in runs] == [
    str(crashed),
    str(tmp_path / 'crashed'),
  ]
