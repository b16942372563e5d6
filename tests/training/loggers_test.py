"""A logger of others that fails, or is not there, does nothing to a run."""

import pytest

from contrastive_jax import config as config_lib
from contrastive_jax.training import loggers
from tests import tiny


def test_a_logger_that_fails_ends_nothing(capsys):
  def fail(*_):
    raise OSError('no network')

  logger = loggers._patient('wandb', loggers.Logger(fail, fail))
  logger.write(1, {})
  logger.write(2, {})
  logger.close()
  out = capsys.readouterr().out
  assert out.count('no network') == 1 and 'training goes on' in out


def test_what_cannot_be_opened_is_said(tmp_path, monkeypatch):
  monkeypatch.setitem(loggers._OPEN, 'wandb', lambda *_: 1 / 0)
  config = tiny.config()
  config.log.to = 'wandb'
  with pytest.raises(config_lib.Error, match='cannot be opened'):
    loggers.opened(config, tmp_path)
  monkeypatch.setattr(loggers.importlib.util, 'find_spec', lambda _: None)
  with pytest.raises(config_lib.Error, match=r'contrastive_jax\[wandb\]'):
    loggers.check('wandb')
  loggers.check('none')
