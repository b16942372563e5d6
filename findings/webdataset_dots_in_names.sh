#!/usr/bin/env bash
# webdataset 1.0.2: how members of a tar file become samples.
#
# Expected: the key of img_0.5_1.png is img_0.5_1 (the name without its last
# extension, as in os.path.splitext), and files of one key form one sample.
#
# Seen: the name is cut at its FIRST dot. img_0.5_1.png and img_0.5_2.png both
# have the key img_0, so different images are merged into one sample with the
# fields 5_1.png and 5_2.png, and none of them has a field png. No error: of
# six images two samples come out, and a pipeline that skips samples without
# png sees just one. Dots in a folder name do not count.
# Files of a sample must also be neighbors: with all images first and then all
# labels, each file becomes a sample of its own.
#
# Why it matters here: names with coordinates, scales, dates or hashes
# (tile_12.75_3.png) are common in unlabeled collections, and shards made from
# them with plain tar lose most of their images silently; without labels
# nothing notices the smaller data set.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q webdataset==1.0.2 pillow==13.0.0 numpy==2.4.6
cd "$dir"
"$dir/venv/bin/python" - <<'PY'
import importlib.metadata
import io
import tarfile

import webdataset
from PIL import Image

print('webdataset', importlib.metadata.version('webdataset'))
buffer = io.BytesIO()
Image.new('RGB', (8, 8)).save(buffer, 'png')
png = buffer.getvalue()


def samples(*names):
  with tarfile.open('shard.tar', 'w') as tar:
    for name in names:
      data = png if name.endswith('png') else b'0'
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  read = webdataset.WebDataset('shard.tar', shardshuffle=False)
  result = [
    (s['__key__'], sorted(k for k in s if not k.startswith('__')))
    for s in read
  ]
  print(len(names), 'files:', names)
  print('  samples:', result)
  return result


names = [f'img_0.{i}_1.png' for i in range(5)]
dotted = samples(*names, 'plain.png')
assert dotted == [
  ('img_0', [f'{i}_1.png' for i in range(5)]),
  ('plain', ['png']),
]
assert sum('png' in fields for _, fields in dotted) == 1

folder = samples('v1.0/a.png', 'v1.0/a.cls')
assert folder == [('v1.0/a', ['cls', 'png'])]

apart = samples('a.png', 'b.png', 'a.cls', 'b.cls')
assert apart == [('a', ['png']), ('b', ['png']), ('a', ['cls']), ('b', ['cls'])]
PY
