"""Every objective that must collapse is called so: some ten minutes.

python -m pytest -n0 tests/diagnostics/with_every_objective.py
"""

import pytest

from experiments import alarms
from tests.diagnostics import collapse_test


@pytest.mark.parametrize('name', alarms.BROKEN)
def test_a_broken_objective_is_noticed(name, tmp_path, capsys):
  collapse_test.check_that_it_is_noticed(name, tmp_path, capsys)


@pytest.mark.parametrize('name', ['byol', 'simsiam', 'dinov2'])
def test_a_healthy_one_is_not(name, tmp_path):
  collapse_test.check_that_it_is_healthy(name, tmp_path)
