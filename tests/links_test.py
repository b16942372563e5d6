"""What the documents point to is there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [
  path
  for path in sorted(ROOT.rglob('*.md'))
  if not any(
    part[0] == '.' or part in ('runs', 'build')
    for part in path.relative_to(ROOT).parts
  )
]
_LINK = re.compile(r'\]\(([^)\s]+)\)')


def _anchors(path):
  """As GitHub makes them of headings: lower case, no marks, hyphens."""
  lines = path.read_text().splitlines()
  headings = [line.lstrip('#').strip() for line in lines if line[:1] == '#']
  return {
    re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
    for heading in headings
  }


@pytest.mark.parametrize(
  'document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_link_leads_somewhere(document):
  for link in _LINK.findall(document.read_text()):
    if '://' in link:
      continue
    name, _, anchor = link.partition('#')
    target = (document.parent / name).resolve() if name else document
    assert target.exists(), link
    if anchor:
      assert anchor in _anchors(target), link
