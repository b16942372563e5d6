"""Whatever stands in the small files of a folder: a sentence, or harmless."""

import json
import os
import pathlib

import pytest

from contrastive_jax import config as config_lib
from contrastive_jax import get_config, train
from contrastive_jax.evaluation import encoder, record
from contrastive_jax.reporting import document, embeddings
from contrastive_jax.sweeping import progress
from contrastive_jax.training import build, sidefiles, workfolder
from contrastive_jax.training.records import Records
from tests import tiny
from tests.sweeping import plan_test

GARBAGE = {
  'empty': b'',
  'binary': b'\x00\xff\xfe\x01' * 9,
  'utf16': '{"step": 1}'.encode('utf-16'),
  'bom': b'\xef\xbb\xbf{"step": 2}',
  'null': b'null',
  'number': b'3',
  'text': b'"x"',
  'list': b'[1, 2]',
  'object': b'{}',
  'deep': b'[' * 100_000,
  'digits': b'1' * 5000,
  'step': b'{"step": "x", "loss": 1}',
  'bool': b'{"step": true, "loss": NaN}',
  'run': b'{"run": 3}',
  'parts': b'{"run": {}, "optimizer": 3}',
  'total': b'{"run": {"total_steps": "x"}, "objective": 4}',
  'rows': b'{"rows": 3, "loss": "x", "step": "y"}',
  'row': b'{"rows": {"a": {"knn": "x"}}, "verdict": []}',
  'results': b'{"results": 3}',
  'result': b'{"results": [{"step": 1}]}',
  'hash': b'{"results": [{"step": [], "protocol": {}, "data": 1}]}',
  'sweep': b'{"config": [], "sweep": 3}',
}
FILES = ('config.json', 'metrics.jsonl', 'summary.json', 'evaluation.json')


@pytest.fixture(scope='module')
def good(tmp_path_factory):
  path = tmp_path_factory.mktemp('good')
  config = tiny.config()
  config.data.held_out = 0.1
  workfolder.write_config(build.build(config), path)
  report = {'step': 2, 'epoch': 0.1, 'loss': 1.0, 'chance_loss': 2.0}
  (path / 'metrics.jsonl').write_text(json.dumps(report) + '\n')
  return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


def folder(path: pathlib.Path, good, name: str, content: bytes) -> pathlib.Path:
  for other, text in good.items():
    (path / other).write_bytes(text)
  (path / name).write_bytes(content)
  return path


def said_or_harmless(function, name: str | None = None) -> None:
  try:
    function()
  except (config_lib.Error, OSError) as error:
    assert name is None or name in str(error)
    assert '\n' not in str(error)


@pytest.mark.parametrize('kind', GARBAGE)
@pytest.mark.parametrize('name', FILES)
def test_readers(tmp_path, good, name, kind, monkeypatch):
  if name != 'config.json':  # views are made by what the config says alone
    monkeypatch.setattr(embeddings.sheet_lib, 'sheet', lambda _: None)
  path = folder(tmp_path, good, name, GARBAGE[kind])
  document.write([str(path)], None)
  said_or_harmless(lambda: encoder.read_config(path), 'config.json')
  said_or_harmless(lambda: record.check(path / 'evaluation.json'), name)


@pytest.mark.parametrize('kind', GARBAGE)
@pytest.mark.parametrize('name', ('config.json', 'unreadable.json'))
def test_a_run_that_continues(tmp_path, good, name, kind, monkeypatch):
  monkeypatch.setattr(train.build, 'init_state', None)  # no work begins
  path = folder(tmp_path, good, name, GARBAGE[kind])
  (path / 'checkpoints' / '2').mkdir(parents=True)
  if (name, kind) == ('unreadable.json', 'object'):
    return  # of no images
  with pytest.raises(config_lib.Error, match=f'{name}|holds a run'):
    train.pretrain(tiny.config(), path)
  open_config = get_config('my_images')
  said_or_harmless(
    lambda: workfolder.take_choices(open_config, path), 'config.json'
  )


@pytest.mark.parametrize('kind', GARBAGE)
def test_metrics(tmp_path, kind):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(GARBAGE[kind] + b'\n')
  said_or_harmless(lambda: sidefiles.end_after(path, 3), 'metrics.jsonl')
  path.write_bytes((GARBAGE[kind] + b'\n') * 2)
  said_or_harmless(lambda: sidefiles.end_after(path, 3), 'metrics.jsonl')
  good = b'{"step": 2}\n'
  # In UTF-16, too, it may end in what is one.
  path.write_bytes(GARBAGE[kind] + b'\n' + good + GARBAGE[kind][:-1])
  assert sidefiles.end_after(path, 3) == {'step': 2}
  assert path.read_bytes().endswith(good)


def test_lines_of_later_steps_and_cut_off_lines_go(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  lines = [json.dumps({'step': s, 'x': 'é' * s}) + '\n' for s in range(1, 2000)]
  for cut in ('', '{"step": 2000, "x', '{"step": 7}'):
    for step in (0, 1, 999, 1999, 5000):
      path.write_text(''.join(lines) + (cut if step < 5000 else ''))
      last = sidefiles.end_after(path, step)
      assert last.get('step', 0) == (
        7 if cut[-1:] == '}' and step in (999, 1999) else min(step, 1999)
      )


def test_a_long_file_is_read_from_its_end(tmp_path, monkeypatch):
  path = tmp_path / 'metrics.jsonl'
  with path.open('w') as file:
    for step in range(100_000):
      file.write(json.dumps({'step': step, 'loss': 0.5}) + '\n')
  read, report_of = [], sidefiles._report
  monkeypatch.setattr(
    sidefiles, '_report', lambda line: read.append(line) or report_of(line)
  )
  assert sidefiles.end_after(path, 99_990)['step'] == 99_990
  assert len(read) <= 11
  assert path.read_text().endswith('{"step": 99990, "loss": 0.5}\n')


def test_a_report_of_a_long_run_is_thinned(tmp_path, good, monkeypatch):
  from contrastive_jax.reporting import folder as reporting

  monkeypatch.setattr(reporting, '_MOST_REPORTS', 100)
  lines = ''.join(f'{{"step": {s}}}\n' for s in range(1, 1001))
  found = reporting.read(
    folder(tmp_path, good, 'metrics.jsonl', lines.encode())
  )
  assert len(found.reports) <= 102
  assert [found.reports[0]['step'], found.reports[-1]['step']] == [1, 1000]
  assert any('Of 1,000 reports' in gap for gap in found.gaps)


@pytest.mark.parametrize('name', sidefiles._WRITTEN)
def test_what_cannot_be_written_is_said_before_work(
  tmp_path, name, monkeypatch
):
  monkeypatch.setattr(train.build, 'init_state', None)
  (tmp_path / name).mkdir()
  with pytest.raises(config_lib.Error, match=f'{name} is no file'):
    train.pretrain(tiny.config(), tmp_path)
  (tmp_path / name).rmdir()
  (tmp_path / name).write_text('{}')
  # Whoever is root may write everything.
  monkeypatch.setattr(os, 'access', lambda path, _: path.name != name)
  with pytest.raises(config_lib.Error, match=f'{name} cannot be written'):
    train.pretrain(tiny.config(), tmp_path)


def test_events_that_are_none(tmp_path):
  for i, content in enumerate((b'', b'\x00' * 50, b'\xff' * 50)):
    (tmp_path / f'events.out.tfevents.{i}').write_bytes(content)
  (tmp_path / 'events.out.tfevents.x').mkdir()
  Records(tmp_path, 3, tiny.config()).close()


@pytest.mark.parametrize('kind', GARBAGE)
@pytest.mark.parametrize(
  'name', ('sweep.json', 'config.json', 'summary.json', 'failed.json')
)
def test_sweeps(tmp_path, good, name, kind):
  points = plan_test.make_plan(plan_test.TEMPERATURES, tmp_path)
  point = points[0].folder
  point.mkdir(parents=True)
  (point / 'summary.json').write_text('{"loss": 1.0}')
  folder(point, good, name, GARBAGE[kind])
  (tmp_path / 'sweep.json').write_bytes(GARBAGE[kind])
  said_or_harmless(lambda: progress.list_plan(points), '.json')
  said_or_harmless(
    lambda: progress.pin(
      tmp_path, plan_test.TEMPERATURES, tiny.config(), write=False
    ),
    'sweep.json',
  )


def test_a_config_of_an_earlier_version_is_read(tmp_path):
  config = tiny.get_config()
  fields = config.to_dict() | {'run': {'total_steps': 4}}
  fields['evaluation']['probe_epochs'] = 50
  fields['data']['shuffle_buffer'] = 50_000
  (tmp_path / 'config.json').write_text(json.dumps(fields))
  read = encoder.read_config(tmp_path)
  assert json.dumps(read.to_dict(), sort_keys=True) == json.dumps(
    config.to_dict(), sort_keys=True
  )
