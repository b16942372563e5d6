"""An exported encoder as ONNX, with a certificate of onnxruntime.

  python to_onnx.py WORKDIR/export_torchvision

A program of its own, as `theirs.py` is, for an environment with torch,
torchvision or timm, safetensors, onnx, onnxscript and onnxruntime: the one
maintained converter from JAX cannot share an environment with this package's
Orbax. Takes what `contrastive_jax.export --to=torchvision` or timm has written,
and adds encoder.onnx (float32 [batch, channels, side, side], normalized, any
batch size) and certificate_onnx.json. Fails above the bound of the other one.
"""

# pyright: reportMissingImports=false
import json
import pathlib
import sys


def main(folder):
  """Converts, and compares with the features that were exported.

  Args:
    folder: of the export.
  """
  import numpy as np
  import onnxruntime
  import safetensors.torch
  import torch

  # Beside this file, wherever it was called from.
  sys.path.insert(0, str(pathlib.Path(__file__).parent))
  import theirs

  folder = pathlib.Path(folder)
  about = json.loads((folder / 'encoder.json').read_text(encoding='utf-8'))
  bound = json.loads((folder / 'certificate.json').read_text())['bound']
  net = theirs.build(about['model'])
  net.load_state_dict(safetensors.torch.load_file(folder / about['file']))
  net.eval()
  with np.load(folder / 'reference.npz') as reference:
    images, features = reference['images'], reference['features']
  # Those of more than 8 bits are float32 in [0, 1] already.
  white = 255 if images.dtype == np.uint8 else 1
  pixels = images.astype(np.float32) / white
  if about['input']['mean']:
    mean, std = (np.float32(about['input'][k]) for k in ('mean', 'std'))
    pixels = (pixels - mean) / std
  pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
  path = folder / 'encoder.onnx'
  torch.onnx.export(
    net,
    (torch.from_numpy(pixels[:2]),),
    path,
    input_names=['images'],
    output_names=['features'],
    dynamic_shapes=({0: torch.export.Dim('batch')},),
    external_data=False,
  )
  session = onnxruntime.InferenceSession(path)
  # Two sizes of a batch: that it is free is a part of what is claimed.
  parts = [
    session.run(None, {'images': p})[0] for p in (pixels[:1], pixels[1:])
  ]
  found = np.concatenate([part.reshape(len(part), -1) for part in parts])
  size = float(np.sqrt(np.mean(features**2)))
  apart = np.abs(found - features)
  certificate = {
    'largest': float(apart.max()),
    'mean': float(apart.mean()),
    'largest_relative': float(apart.max()) / size,
    'bound': bound,
    'versions': f'torch {torch.__version__}, '
    f'onnxruntime {onnxruntime.__version__}',
  }
  text = json.dumps(certificate, indent=2) + '\n'
  (folder / 'certificate_onnx.json').write_text(text)
  print(f'{path}: differs by at most {apart.max() / size:.1e} of the features')
  if not certificate['largest_relative'] <= bound:
    sys.exit(f'error: above the bound of {bound:g}')


if __name__ == '__main__':
  main(*sys.argv[1:])
