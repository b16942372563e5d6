"""HTML: the few kinds of element that a report has, all in one file."""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.figure import Figure

_CSS = """
body { font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif;
  color: #1c1f23; background: #fff; max-width: 1060px; margin: 0 auto;
  padding: 24px 20px 80px; }
h1 { font-size: 27px; margin: 8px 0 4px; }
h1[id] { margin-top: 70px; padding-top: 14px;
  border-top: 4px solid #1c1f23; }
h2 { font-size: 21px; margin: 44px 0 8px; padding-top: 10px;
  border-top: 1px solid #d9dde2; }
h3 { font-size: 17px; margin: 30px 0 6px; }
p { margin: 8px 0; max-width: 46em; }
a { color: #0b5394; }
nav { font-size: 14px; margin: 10px 0; }
nav a { margin-right: 14px; }
.quiet, figcaption { color: #59616b; font-size: 14px; }
.gaps { border-left: 3px solid #c77700; background: #fff8ec; margin: 14px 0;
  padding: 6px 14px; }
.gaps p { margin: 4px 0; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
.tile { border: 1px solid #d9dde2; border-radius: 6px; padding: 8px 14px;
  min-width: 120px; }
.tile b { display: block; font-size: 21px; font-weight: 600; }
.tile span { display: block; color: #59616b; font-size: 13px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 10px 0; font-size: 14px; }
th { font-weight: 600; text-align: left; border-bottom: 2px solid #aab2bb;
  padding: 4px 10px; vertical-align: bottom; }
td { padding: 4px 10px; border-bottom: 1px solid #e6e9ec;
  vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
figure { margin: 10px 0; }
figure img { max-width: 100%; height: auto; }
.sheet td { text-align: center; padding: 5px 4px; font-size: 13px;
  border: 0; }
.sheet img { width: 84px; height: 84px; object-fit: contain; display: block;
  margin: 0 auto 2px; border: 3px solid transparent; }
.sheet .sentence { width: 11em; margin: 0 0 4px; font-size: 13px; }
.sheet .wrong .sentence { border-left: 3px dashed #b3402a; padding-left: 4px; }
.sheet .pixels { image-rendering: pixelated; }
.sheet .right img { border-color: #2a7d4f; }
.sheet .wrong img { border: 3px dashed #b3402a; }
.sheet td:first-child { padding-right: 22px; }
summary { cursor: pointer; }
"""


def document(title: str, body: Sequence[str]) -> str:
  """Returns a whole page; nothing in it points outside of it."""
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    # Without one, a browser would ask for a favicon.
    '<link rel="icon" href="data:,">\n'
    f'<title>{html.escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n'
    f'<body>\n{chr(10).join(body)}\n</body>\n</html>\n'
  )


def element(name: str, text: str, **attributes: str) -> str:
  """Returns <name>text</name>; the text is escaped, `kind` is the class."""
  return f'<{name}{_attributes(attributes)}>{html.escape(text)}</{name}>'


def group(name: str, inner: Sequence[str], **attributes: str) -> str:
  """Returns <name> around elements, which are HTML already."""
  return f'<{name}{_attributes(attributes)}>{"".join(inner)}</{name}>'


def table(
  header: Sequence[str],
  rows: Sequence[Sequence[str]],
  *,
  best: Sequence[tuple[int, int]] = (),
  name: str = '',
) -> str:
  """Returns a table.

  Args:
    header: titles of the columns.
    rows: texts of the cells.
    best: (row, column) of the cells that are marked.
    name: its id.

  Returns:
    HTML; columns of numbers are flush right.
  """
  numeric = [
    all(_is_number(row[column]) for row in rows)
    for column in range(len(header))
  ]

  def cells(kind, texts, row):
    made = []
    for column, text in enumerate(texts):
      cell = html.escape(text)
      if (row, column) in best:
        cell = f'<strong>★ {cell}</strong>'
      right = _attributes({'kind': 'number' if numeric[column] else ''})
      made.append(f'<{kind}{right}>{cell}</{kind}>')
    return '<tr>' + ''.join(made) + '</tr>'

  lines = [cells('td', texts, row) for row, texts in enumerate(rows)]
  return (
    f'<div class="scroll"><table{_attributes({"id": name})}><thead>'
    f'{cells("th", header, -1)}</thead><tbody>{"".join(lines)}</tbody></table>'
    '</div>'
  )


def figure(
  drawn: Figure, alt: str, caption: str = '', *, points: bool = False
) -> str:
  """Returns a figure as a picture inside the page.

  Args:
    drawn: the figure.
    alt: what it shows, for those who do not see it.
    caption: the line under it.
    points: draws a bitmap: of thousands of points it is the smaller one.

  Returns:
    HTML.
  """
  buffer = io.BytesIO()
  if points:
    drawn.savefig(buffer, format='png', dpi=150)
  else:
    # The same figure is the same file.
    with matplotlib.rc_context({'svg.hashsalt': 'report'}):
      drawn.savefig(buffer, format='svg', metadata={'Date': None})
  form = 'png' if points else 'svg+xml'
  width = str(round(100 * drawn.get_figwidth()))  # pixels
  picture = _img(buffer.getvalue(), form, alt, width=width)
  below = element('figcaption', caption) if caption else ''
  return f'<figure>{picture}{below}</figure>'


def thumbnail(image: Any, alt: str) -> str:
  """Returns an image [side, side, channels] as a small picture, or a text."""
  if isinstance(image, str):
    return element('p', image, kind='sentence')
  buffer = io.BytesIO()
  if image.dtype != np.uint8:
    image = np.round(255 * image).astype(np.uint8)
  pixels = shown(image)
  PIL.Image.fromarray(pixels).save(buffer, 'PNG')
  kind = 'pixels' if len(image) <= 42 else ''
  return _img(buffer.getvalue(), 'png', alt, kind=kind)


def shown(image: np.ndarray) -> np.ndarray:
  """Returns what is drawn of an image: its first three channels, or its first.

  Args:
    image: [height, width, channels].

  Returns:
    [height, width, 3], or [height, width] of less than three channels.
  """
  return image[..., 0] if image.shape[-1] < 3 else image[..., :3]


def _img(data: bytes, form: str, alt: str, **attributes: str) -> str:
  text = base64.b64encode(data).decode()
  return (
    f'<img{_attributes({**attributes, "alt": alt})} '
    f'src="data:image/{form};base64,{text}">'
  )


def _attributes(attributes: dict[str, str]) -> str:
  """`kind` is the class, which is a word of Python's; empty ones are not."""
  return ''.join(
    f' {"class" if name == "kind" else name}="{html.escape(value)}"'
    for name, value in attributes.items()
    if value
  )


def _is_number(text: str) -> bool:
  return text[:1].isdigit() or text[:1] in '–-' or text == 'not finite'
