"""The notebooks run from a clean kernel: some five minutes.

python -m pytest tests/with_notebooks.py
"""

import os

import nbclient
import nbformat
import pytest

from tests.notebooks_test import NOTEBOOKS

# At least so many of the cells' outputs are pictures.
PICTURES = {
  'from_images_to_a_classifier': 4,
  'mutual_information': 1,
  'search_sentences': 2,
  'temperature_batch_size': 2,
}
_LONGEST_CELL = 600  # seconds; one takes a minute and a half on idle cores


def test_all_notebooks_are_here():
  assert [path.stem for path in NOTEBOOKS] == list(PICTURES)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
  # Work folders are temporary ones; a kernel's own files would lie at home.
  monkeypatch.setenv('TMPDIR', str(tmp_path))
  monkeypatch.setenv('IPYTHONDIR', str(tmp_path / 'ipython'))
  # conftest.py has XLA compile fast and badly: notebooks train, which then
  # takes several times as long. Its patience with late devices they need.
  xla_flags = os.environ['XLA_FLAGS'].split()
  monkeypatch.setenv(
    'XLA_FLAGS', ' '.join(f for f in xla_flags if 'timeout' in f)
  )
  notebook = nbformat.read(path, as_version=4)
  # From its own folder, as Jupyter starts it. A cell that raises is an error.
  nbclient.NotebookClient(
    notebook,
    timeout=_LONGEST_CELL,
    resources={'metadata': {'path': str(path.parent)}},
  ).execute()
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
  ]
  pictures = [o for o in outputs if 'image/png' in o.get('data', {})]
  assert len(pictures) >= PICTURES[path.stem]
  printed = ''.join(o.text for o in outputs if o.output_type == 'stream')
  assert 'Warning' not in printed
