"""A disk that is full: one sentence, and nothing that was there is lost."""

import errno
import os

import pytest

from contrastive_jax import config as config_lib
from contrastive_jax import train
from contrastive_jax.training import sidefiles
from contrastive_jax.training.checkpoint import Checkpoints
from contrastive_jax.training.records import Records
from tests import tiny

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full(*_, **__):
  raise FULL


def test_a_side_file(tmp_path, monkeypatch):
  path = tmp_path / 'summary.json'
  sidefiles.atomic_write(path, 'before')
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(
    OSError, match=r"No space left on device: '.*summary.json"
  ):
    sidefiles.atomic_write(path, 'after')
  assert path.read_text() == 'before'
  assert list(tmp_path.iterdir()) == [path]


def test_reports(tmp_path, monkeypatch):
  records = Records(tmp_path, 0, tiny.config())
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(config_lib.Error, match=r'metrics.jsonl .*disk is full'):
    records.write({'step': 1, 'loss': 1.0})
  monkeypatch.setattr(records._writer, 'close', full)
  records.close()


@pytest.mark.parametrize('step', [2, 4])
def test_checkpoints(tmp_path, monkeypatch, step):
  """Orbax says it at the next one, or at the end; it is said once."""
  save = Checkpoints.save

  def failing(self, number, *args, **kwargs):
    if number == step:
      monkeypatch.setattr(self._manager, 'save', full)
      monkeypatch.setattr(self._manager, 'close', full)
    return save(self, number, *args, **kwargs)

  monkeypatch.setattr(Checkpoints, 'save', failing)
  with pytest.raises(config_lib.Error, match='checkpoint .*disk is full'):
    train.pretrain(tiny.config(), tmp_path)
  monkeypatch.undo()
  assert not list(tmp_path.glob('summary.json'))
  assert train.pretrain(tiny.config(), tmp_path)['step'] == 4


def test_the_close_of_checkpoints_hides_no_error(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, every_steps=1, keep=1)
  monkeypatch.setattr(checkpoints._manager, 'close', full)
  with pytest.raises(ZeroDivisionError), checkpoints:
    raise ZeroDivisionError
  with pytest.raises(config_lib.Error, match='disk is full'), checkpoints:
    pass


@pytest.mark.parametrize(
  ('error', 'said'),
  [
    (FULL, 'the disk is full'),
    (ValueError('RESOURCE_EXHAUSTED: Error\nmore'), 'the disk is full'),
    (OSError(errno.EDQUOT, 'Disk quota exceeded'), 'the disk is full'),
    (ValueError('one\ntwo'), 'one'),
    (KeyError(), 'KeyError()'),
  ],
)
def test_reasons(error, said):
  assert sidefiles.reason(error) == said
