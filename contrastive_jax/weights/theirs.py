"""Features of an exported encoder, by torch: the other side of a certificate.

  python theirs.py MODEL.json IMAGES.npz FEATURES.npz

A program of its own, that imports nothing of this package: torch, torchvision,
timm or transformers, and safetensors may be those of another environment.
MODEL.json says which model takes which file of weights; `strict=True` holds.
"""

# pyright: reportMissingImports=false
import json
import sys


def resnet(function, width, stem, channels):
  """Returns torchvision's ResNet, of any width, with the stem for small images.

  Args:
    function: its name there, as resnet18.
    width: channels of the first stage; 64 is torchvision's own.
    stem: 'imagenet' (7x7, max-pool), or 'cifar' (3x3, no pool).
    channels: of an image.
  """
  import torch
  import torchvision

  class ResNet(torchvision.models.ResNet):
    def _make_layer(self, block, planes, *args, **kwargs):
      if planes == 64:  # the first stage, behind the stem
        self.inplanes = width
      return super()._make_layer(block, planes * width // 64, *args, **kwargs)

  like = getattr(torchvision.models, function)()
  layers = [len(getattr(like, f'layer{i}')) for i in range(1, 5)]
  net = ResNet(type(like.layer1[0]), layers)
  size, stride = (7, 2) if stem == 'imagenet' else (3, 1)
  net.conv1 = torch.nn.Conv2d(
    channels, width, size, stride, size // 2, bias=False
  )
  net.bn1 = torch.nn.BatchNorm2d(width)
  if stem == 'cifar':
    net.maxpool = torch.nn.Identity()
  net.fc = torch.nn.Identity()
  return net


def build(model):
  """Returns a model without a classifier, at random weights.

  Args:
    model: a dict with `library`, `function`, `arguments` of the function,
      `channels` of an image, and for a ResNet `width` and `stem`.
  """
  import torch

  if model['library'] == 'transformers':
    import transformers

    config = transformers.BertConfig(**model['arguments'])
    return transformers.BertModel(config, add_pooling_layer=False)
  if model['library'] == 'timm':
    import timm

    return timm.create_model(model['function'], **model['arguments'])
  import torchvision

  channels = model['channels']
  if model['function'].startswith('resnet'):
    return resnet(model['function'], model['width'], model['stem'], channels)
  net = getattr(torchvision.models, model['function'])()
  net.classifier[2] = torch.nn.Identity()
  width = net.features[0][0].out_channels
  net.features[0][0] = torch.nn.Conv2d(channels, width, 4, 4)
  return net


def pooled(net, tokens, length, model):
  """Returns the features of sentences, by BERT.

  Args:
    net: of `build`.
    tokens: int32 [b, n].
    length: int32 [b].
    model: see `build`; `pool` is 'token', 'mean' or 'last'.
  """
  import torch

  tokens, length = torch.from_numpy(tokens).long(), torch.from_numpy(length)
  mask = torch.arange(tokens.shape[1]) < length[:, None]
  x = net(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
  if model['pool'] == 'token':
    return x[:, 0].numpy()
  if model['pool'] == 'last':
    return x[torch.arange(len(x)), length.long() - 1].numpy()
  return ((x * mask[..., None]).sum(1) / length[:, None]).numpy()


def main(model_path, images_path, features_path):
  """Loads the weights, and writes what they make of images.

  Args:
    model_path: see `build`; `weights` in it is the file.
    images_path: an npz with one array a size, [n, H, W, C], normalized; or,
      of text, tokens and length.
    features_path: where to, an npz with the features of each, and `versions`.
  """
  import numpy as np
  import safetensors.torch
  import torch

  with open(model_path, encoding='utf-8') as file:
    model = json.load(file)
  net = build(model)
  weights = safetensors.torch.load_file(model['weights'])
  net.load_state_dict(weights, strict=True)
  net.eval()
  found = {}
  with np.load(images_path) as images, torch.inference_mode():
    if model['library'] == 'transformers':
      found['own'] = pooled(net, images['tokens'], images['length'], model)
    else:
      for name in images.files:
        x = torch.from_numpy(images[name].transpose(0, 3, 1, 2).copy())
        found[name] = net(x).flatten(1).numpy()
  library = sys.modules[model['library']]
  versions = f'torch {torch.__version__}, {model["library"]} '
  found['versions'] = np.array(versions + library.__version__)
  np.savez(features_path, **found)


if __name__ == '__main__':
  main(*sys.argv[1:])
