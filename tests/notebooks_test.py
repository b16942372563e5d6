"""The notebooks are committed without outputs; with_notebooks.py runs them."""

import pathlib
import re

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'experiments' / 'notebooks').glob('*.ipynb'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_clean(path):
  notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
  nbformat.validate(notebook)
  assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
  assert list(notebook.metadata) == ['kernelspec']
  for cell in notebook.cells:
    assert not cell.metadata
    if cell.cell_type == 'code':
      assert cell.execution_count is None
      assert not cell.outputs
  text = path.read_text()
  assert not re.search(r'/(home|root|tmp|work|Users)/', text)
