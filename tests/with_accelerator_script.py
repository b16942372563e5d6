"""The script for an accelerator runs, small, where there is none.

Three minutes: python -m pytest -n0 tests/with_accelerator_script.py
"""

import json
import math
import subprocess
import sys

from tests.train_test import ENVIRONMENT, ROOT


def test_the_small_form(tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.accelerator', '--small']
    + [f'--output={tmp_path}'],
    cwd=ROOT,
    env=ENVIRONMENT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert done.returncode == 0, done.stdout
  sections = json.loads((tmp_path / 'accelerator.json').read_text())['sections']
  assert sections['resume, deterministic']['the same to the bit']
  assert sections['parity, float32']['simclr, against a CPU'] < 1e-5
  for name in ('ResNet-50', 'ViT-S/16'):
    rate = sections[name]['images a second and device']
    assert math.isfinite(rate) and rate > 0
  page = (tmp_path / 'accelerator.md').read_text()
  assert page.count('\n| ') > 15
