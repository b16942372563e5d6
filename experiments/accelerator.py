"""What holds on an accelerator, and how fast: one script for a GPU or a TPU.

  python -m experiments.accelerator --minutes=8 --output=runs/accelerator
  python -m experiments.accelerator --small   # seconds, on any machine

Each section is a process of its own, so that one that runs out of memory leaves
the others alone; what is in them is in accelerator_sections.py. Writes
accelerator.json, accelerator.md (a page with a table), the log of each section,
and profiles. Ends with 1 if a section failed or had no time left.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

DETERMINISTIC = '--xla_gpu_deterministic_ops=true'
# Name; section and its argument; flags of XLA.
SECTIONS = (
  ('device', ('device', ''), ''),
  ('parity, float32', ('parity', 'float32'), ''),
  ('parity, bfloat16', ('parity', 'bfloat16'), ''),
  ('resume', ('resume', ''), ''),
  ('resume, deterministic', ('resume', ''), DETERMINISTIC),
  ('ResNet-50', ('throughput', 'resnet50'), ''),
  ('ViT-S/16', ('throughput', 'vit_small'), ''),
  ('loss', ('loss', ''), ''),
)
PAGE = """# On an accelerator

`python -m experiments.accelerator`, {minutes:.1f} minutes. A ratio of gradients
is ||g - h|| / ||h||, the largest of any parameter; images are of 224 pixels,
two views of each, in bfloat16, with the whole augmentation on the device;
anchor: 871 images a second of a two-view ViT-S/16 on one H200, in
stable-pretraining's published table.

| section | | |
|---|---|---|
{rows}
"""


def run(
  name: str, section: tuple[str, str], flags: str, options: argparse.Namespace
) -> dict[str, Any]:
  """Runs one section in a process.

  Returns:
    What it found; {'failed': why} if it did not end well.
  """
  left = options.ends - time.monotonic()
  if left < 5:
    return {'failed': 'no time was left'}
  environment = dict(os.environ)
  # Of one blank alone XLA makes a file's name.
  flags = f'{environment.get("XLA_FLAGS", "")} {flags}'.strip()
  environment['XLA_FLAGS'] = flags
  found = options.output / 'section.json'
  found.unlink(missing_ok=True)
  log = options.output / f'{name.replace(", ", "_").replace("/", "_")}.log'
  with log.open('w') as file:
    command = [sys.executable, '-m', 'experiments.accelerator_sections']
    command += [*section, str(options.output), str(int(options.small))]
    try:
      code = subprocess.run(
        command, stdout=file, stderr=file, env=environment, timeout=left
      ).returncode
    except subprocess.TimeoutExpired:
      return {'failed': f'it had not ended after {left:.0f} s'}
  if code:
    return {'failed': f'exit code {code}, see {log.name}'}
  return json.loads(found.read_text())


def page(results: dict[str, dict[str, Any]], minutes: float) -> str:
  """Returns the page, in Markdown."""
  rows = [
    f'| {name} | {what} | {_shown(value)} |'
    for name, found in results.items()
    for what, value in found.items()
  ]
  return PAGE.format(minutes=minutes, rows='\n'.join(rows))


def _shown(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.3g}' if abs(value) < 100 else f'{value:,.0f}'
  return str(value)


def main() -> int:
  """Runs the sections, and writes what they found after each."""
  parser = argparse.ArgumentParser(prog='python -m experiments.accelerator')
  parser.add_argument('--minutes', type=float, default=8.0)
  parser.add_argument(
    '--output', type=pathlib.Path, default=pathlib.Path('runs/accelerator')
  )
  parser.add_argument(
    '--small', action='store_true', help='tiny encoders: does it run at all?'
  )
  options = parser.parse_args()
  options.output = options.output.resolve()
  options.output.mkdir(parents=True, exist_ok=True)
  began = time.monotonic()
  options.ends = began + 60 * options.minutes
  results: dict[str, dict[str, Any]] = {}
  for name, section, flags in SECTIONS:
    results[name] = run(name, section, flags, options)
    print(name, results[name], flush=True)
    minutes = (time.monotonic() - began) / 60
    (options.output / 'accelerator.json').write_text(
      json.dumps({'minutes': minutes, 'sections': results}, indent=2)
    )
    (options.output / 'accelerator.md').write_text(page(results, minutes))
  return int(any('failed' in found for found in results.values()))


if __name__ == '__main__':
  sys.exit(main())
