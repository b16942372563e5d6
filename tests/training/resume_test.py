"""What a run may be continued with, what it says of it, and what it refuses."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import event_file_loader

from contrastive_jax import config as config_lib
from contrastive_jax import train
from contrastive_jax.data import sources
from contrastive_jax.data.split import source_from_arrays
from contrastive_jax.diagnostics import health
from contrastive_jax.training import build, identity, workfolder
from tests import tiny

TIMES = ('images_per_second', 'data_wait', 'seconds_left')


def config_of(**fields):
  config = tiny.config()
  config.update_from_flattened_dict(
    {
      'steps': 8,
      'log.every_steps': 4,
      'checkpoint.every_steps': 3,
      'evaluation.baselines': False,
    }
    | fields
  )
  return config


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run of 8 steps, with reports of 4 and 8, checkpoints of 6 and 8."""
  path = tmp_path_factory.mktemp('whole')
  train.pretrain(config_of(), path)
  return path


@pytest.fixture
def run(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / 'run')


def stop_at(folder: pathlib.Path, step: int) -> None:
  """Takes away the checkpoints after a step, as if they had not been made."""
  for path in (folder / 'checkpoints').glob('[0-9]*'):
    if int(path.name) > step:
      shutil.rmtree(path)


def reports(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if k not in TIMES}
    for line in lines
  ]


def events(folder):
  """(tag, step) of every event, in the order in which TensorBoard reads."""
  found = []
  for path in sorted(folder.glob('events.out.tfevents*')):
    for event in event_file_loader.EventFileLoader(str(path)).Load():
      found += [(v.tag, event.step) for v in event.summary.value]
  return sorted(found)


def change(folder, edit):
  path = folder / 'config.json'
  config = json.loads(path.read_text())
  edit(config)
  path.write_text(json.dumps(config))


def test_reports_and_events_are_those_of_the_uninterrupted_run(run, whole):
  stop_at(run, 6)
  # What a killed process may leave: half a line, half an event.
  with (run / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 9, "lo')
  (path,) = run.glob('events.out.tfevents*')
  path.write_bytes(path.read_bytes() + b'\x18\x00\x00\x00half')
  train.pretrain(config_of(), run)
  assert reports(run) == reports(whole)
  assert events(run) == events(whole)
  assert len(set(events(run))) == len(events(run)) > 0
  ours, theirs = (
    json.loads((folder / 'summary.json').read_text()) for folder in (run, whole)
  )
  assert {k: v for k, v in ours.items() if k not in TIMES} == {
    k: v for k, v in theirs.items() if k not in TIMES
  }


def test_a_run_from_its_beginning_drops_what_there_was(run, whole):
  shutil.rmtree(run / 'checkpoints')
  train.pretrain(config_of(), run)
  assert reports(run) == reports(whole)
  assert events(run) == events(whole)


def test_a_run_is_extended_and_says_what_that_does(run, capsys):
  train.pretrain(config_of(steps=12), run)
  said = capsys.readouterr().out
  assert 'was to have 8 steps and has 12 now: from step 8' in said
  rate = float(np.asarray(build.build(config_of(steps=12)).learning_rate(8)))
  assert f'learning rate there goes from 0 to {rate:.3g}' in said
  assert [r['step'] for r in reports(run)] == [4, 8, 12]
  assert json.loads((run / 'summary.json').read_text())['step'] == 12
  assert json.loads((run / 'config.json').read_text())['steps'] == 12
  with pytest.raises(config_lib.Error, match='step 12, and 8 steps are asked'):
    train.pretrain(config_of(), run)
  assert json.loads((run / 'config.json').read_text())['steps'] == 12
  # By epochs as well: of 22 steps each.
  train.pretrain(config_of(steps=None, epochs=1), run)
  assert 'was to have 12 steps and has 22 now' in capsys.readouterr().out


def test_a_run_that_goes_on_has_no_summary(run, monkeypatch):
  """Of a run that is extended, and killed on its way."""
  monkeypatch.setattr(train.loop, 'train', lambda *_, **__: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    train.pretrain(config_of(steps=12), run)
  assert not (run / 'summary.json').exists()


def test_what_changes_no_more_than_rounding_is_said(run, capsys):
  stop_at(run, 6)
  train.pretrain(config_of(mapping='pmap', on_collapse='stop'), run)
  said = capsys.readouterr().out
  assert 'mapping: shard_map before, pmap now' in said
  assert 'rounding' in said
  other = json.loads((run / 'config.json').read_text())
  other['run']['devices'] = 3
  assert identity.compare(
    run,
    json.loads(json.dumps(identity.sealed(other))),
    {**other, 'run': other['run'] | {'devices': 4}},
  ) == ['devices: 3 before, 4 now; the numbers are the same but for rounding']


@pytest.mark.parametrize(
  'edit',
  [
    lambda c: c.pop('optimizer'),
    lambda c: c['objective'].pop('temperature'),
    lambda c: c['data'].pop('eval_crop'),
    lambda c: c['run'].pop('total_steps'),
    lambda c: c['run'].pop('data'),
    lambda c: c.pop('run'),
    lambda c: c.clear(),
    lambda c: c.update(seed='0'),
    lambda c: c['data'].update(more=1),
  ],
)
def test_a_config_that_lost_or_changed_something_is_not_the_same(run, edit):
  change(run, edit)
  with pytest.raises(config_lib.Error, match=r'config.json|holds a run with'):
    train.pretrain(config_of(), run)


def test_a_config_of_an_earlier_version_is_completed(run):
  """It has no hash; a field that came later did what is the default now."""

  def older(c):
    for key in ('sha256', 'data', 'devices'):
      c['run'].pop(key)
    c['encoder'].pop('kernel_init')

  change(run, older)
  workfolder.write_config(build.build(config_of()), run)
  change(run, older)
  with pytest.raises(config_lib.Error, match='encoder.kernel_init=fan_in'):
    workfolder.write_config(
      build.build(config_of(**{'encoder.kernel_init': 'fan_out'})), run
    )


def test_a_checkpoint_under_another_number_is_noticed(run, capsys):
  stop_at(run, 6)
  (run / 'checkpoints' / '6').rename(run / 'checkpoints' / '7')
  with pytest.raises(config_lib.Error, match='step 7: it is of another step'):
    train.pretrain(config_of(), run)


def test_what_goes_with_a_state_is_hashed(run):
  stop_at(run, 6)
  (path,) = (run / 'checkpoints' / '6' / 'more').glob('metadata')
  path.write_text(path.read_text().replace('[', '[1.0, ', 1))
  with pytest.raises(config_lib.Error, match='what goes with the state'):
    train.pretrain(config_of(), run)


def images(folder: pathlib.Path, count: int = 8) -> pathlib.Path:
  random = np.random.default_rng(0)
  for i in range(count):
    path = folder / 'train' / 'ab'[i % 2] / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)
  return folder


def of_folder(folder) -> str:
  return identity.of_data(sources.load(f'folder:{folder}').train)


def test_data_is_the_same_wherever_it_lies(tmp_path, monkeypatch):
  first = images(tmp_path / 'first')
  before = of_folder(first)
  shutil.copytree(first, tmp_path / 'x' / 'second')
  (tmp_path / 'link').symlink_to(first)
  monkeypatch.chdir(tmp_path)
  for other in (tmp_path / 'x' / 'second', 'first', './first/', 'link'):
    assert of_folder(other) == before


@pytest.mark.parametrize('what', ['renamed', 'size', 'class', 'less', 'swap'])
def test_other_data_is_noticed(tmp_path, what):
  folder = images(tmp_path / 'images')
  before = of_folder(folder)
  path = folder / 'train' / 'a' / '0.png'
  if what == 'renamed':
    path.rename(path.with_name('00.png'))
  elif what == 'size':
    Image.new('RGB', (8, 8)).save(path)
  elif what == 'class':
    path.rename(folder / 'train' / 'b' / '0.png')
  elif what == 'less':
    path.unlink()
  else:
    (folder / 'train' / 'a').rename(folder / 'train' / 'c')
    (folder / 'train' / 'b').rename(folder / 'train' / 'a')
  assert of_folder(folder) != before


def test_images_in_memory_are_told_apart():
  pixels = np.zeros((10, 8, 8, 1), np.uint8)
  labels = np.arange(10) % 2
  found = {
    identity.of_data(source_from_arrays(x, y).train)
    for x, y in (
      (pixels, None),
      (pixels, labels),
      (pixels, 1 - labels),
      (pixels + np.uint8(1), labels),
    )
  }
  assert len(found) == 4


def test_a_run_is_continued_where_its_data_has_moved(run, tmp_path, capsys):
  """The folder's config.json is made to name another place."""
  stop_at(run, 6)
  change(run, lambda c: c['data'].update(source='idx:/old/place'))
  change(run, lambda c: c['run'].update(sha256=identity._seal(c)))
  train.pretrain(config_of(), run)
  said = capsys.readouterr().out
  assert 'the data was at idx:/old/place before and is at digits now' in said
  change(run, lambda c: c['run'].update(data='0' * 64))
  change(run, lambda c: c['run'].update(sha256=identity._seal(c)))
  with pytest.raises(config_lib.Error, match='a run on other data'):
    train.pretrain(config_of(), run)


def test_a_collapsed_run_goes_on_with_a_warning(tmp_path, monkeypatch):
  monkeypatch.setattr(health, 'verdict', lambda *_, **__: 'collapsed')
  with pytest.raises(health.Collapsed):
    train.pretrain(config_of(on_collapse='stop'), tmp_path)
  summary = train.pretrain(config_of(on_collapse='warn'), tmp_path)
  assert summary['step'] == 8
