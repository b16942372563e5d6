"""The rules of each family of encoders: torch's names, and ours.

Sources: torchvision models/resnet.py; timm models/vision_transformer.py, whose
names DINO and DINOv2 have, too; models/convnext.py of both; BERT's of
google-research/bert, as transformers models/bert/modeling_bert.py has them.
"""

from contrastive_jax.weights.keymap import Rule, conv, dense, reshaped, same


def _norm(ours: str, theirs: str) -> list[Rule]:
  """Scale and bias."""
  return [
    same(f'{ours}/scale', f'{theirs}.weight'),
    same(f'{ours}/bias', f'{theirs}.bias'),
  ]


def _batch_norm(ours: str, theirs: str) -> list[Rule]:
  """With running statistics.

  The variance that torch keeps is the unbiased one, n / (n - 1) times ours of n
  positions a batch; but in evaluation it takes it for the variance, as we do.
  """
  return [
    *_norm(ours, theirs),
    same(f'{ours}/mean', f'{theirs}.running_mean'),
    same(f'{ours}/var', f'{theirs}.running_var'),
  ]


def _third(part: int, name: str) -> list[Rule]:
  """Query, key or value: a third of the rows of qkv, cut into heads."""
  ours, theirs = f'block{{block}}/attn/{name}', 'blocks.{block0}.attn.qkv'
  return [
    Rule(
      f'{ours}/kernel',
      f'{theirs}.weight',
      lambda a: a.reshape(len(a), -1).T,
      lambda a, shape: reshaped(a.T, shape),
      part,
      3,
    ),
    Rule(
      f'{ours}/bias',
      f'{theirs}.bias',
      lambda a: a.reshape(-1),
      reshaped,
      part,
      3,
    ),
  ]


_BLOCK, _STAGE = 'stage{stage}_block{block}', 'layer{stage}.{block0}'
RESNET = [
  conv('stem_conv/kernel', 'conv1.weight'),
  *_batch_norm('stem_norm', 'bn1'),
  conv(f'{_BLOCK}/conv{{i}}/kernel', f'{_STAGE}.conv{{i}}.weight'),
  *_batch_norm(f'{_BLOCK}/norm{{i}}', f'{_STAGE}.bn{{i}}'),
  conv(f'{_BLOCK}/shortcut_conv/kernel', f'{_STAGE}.downsample.0.weight'),
  *_batch_norm(f'{_BLOCK}/shortcut_norm', f'{_STAGE}.downsample.1'),
]

_VIT = [
  conv('patch_embed/kernel', 'patch_embed.proj.weight'),
  same('patch_embed/bias', 'patch_embed.proj.bias'),
  same('cls_token', 'cls_token'),
  same('pos_embed', 'pos_embed'),
  same('registers', 'reg_token'),
  *_third(0, 'query'),
  *_third(1, 'key'),
  *_third(2, 'value'),
  Rule(
    'block{block}/attn/out/kernel',
    'blocks.{block0}.attn.proj.weight',
    lambda a: a.reshape(-1, a.shape[-1]).T,
    lambda a, shape: reshaped(a.T, shape),
  ),
  same('block{block}/attn/out/bias', 'blocks.{block0}.attn.proj.bias'),
  *_norm('block{block}/norm{i}', 'blocks.{block0}.norm{i}'),
  dense('block{block}/mlp/dense{i}/kernel', 'blocks.{block0}.mlp.fc{i}.weight'),
  same('block{block}/mlp/dense{i}/bias', 'blocks.{block0}.mlp.fc{i}.bias'),
  same('block{block}/scale{i}', 'blocks.{block0}.ls{i}.gamma'),
]

# timm names the norm by where it is; DINO, DINOv2 and MoCo v3 pool the token.
VIT_TOKEN = [*_VIT, *_norm('norm', 'norm')]
VIT_MEAN = [*_VIT, *_norm('norm', 'fc_norm')]


def _convnext(
  stem: str,
  smaller: str,
  block: str,
  parts: tuple[str, ...],
  last: str,
  trailing: tuple[int, ...],
) -> list[Rule]:
  """Of timm and torchvision, which differ in names alone.

  Args:
    stem: what the names of the first convolution and norm begin with.
    smaller: likewise, of norm and convolution between two stages.
    block: of a block.
    parts: in a block: convolution, norm, two dense layers, scale.
    last: the norm behind the mean.
    trailing: dimensions of 1 behind the channels of a scale.
  """
  ours = 'stage{stage}_block{block}'
  conv_name, norm_name, dense1, dense2, scale = (f'{block}.{p}' for p in parts)
  return [
    conv('stem_conv/kernel', f'{stem}.0.weight'),
    same('stem_conv/bias', f'{stem}.0.bias'),
    *_norm('stem_norm', f'{stem}.1'),
    *_norm('stage{stage}_norm', f'{smaller}.0'),
    conv('stage{stage}_conv/kernel', f'{smaller}.1.weight'),
    same('stage{stage}_conv/bias', f'{smaller}.1.bias'),
    conv(f'{ours}/conv/kernel', f'{conv_name}.weight'),
    same(f'{ours}/conv/bias', f'{conv_name}.bias'),
    *_norm(f'{ours}/norm', norm_name),
    dense(f'{ours}/mlp/dense1/kernel', f'{dense1}.weight'),
    same(f'{ours}/mlp/dense1/bias', f'{dense1}.bias'),
    dense(f'{ours}/mlp/dense2/kernel', f'{dense2}.weight'),
    same(f'{ours}/mlp/dense2/bias', f'{dense2}.bias'),
    Rule(
      f'{ours}/scale',
      scale,
      lambda a: a.reshape(-1, *trailing),
      reshaped,
    ),
    *_norm('norm', last),
  ]


CONVNEXT_TIMM = _convnext(
  'stem',
  'stages.{stage0}.downsample',
  'stages.{stage0}.blocks.{block0}',
  ('conv_dw', 'norm', 'mlp.fc1', 'mlp.fc2', 'gamma'),
  'head.norm',
  (),
)
CONVNEXT_TORCHVISION = _convnext(
  'features.0',
  'features.{even}',
  'features.{odd}.{block0}',
  ('block.0', 'block.2', 'block.3', 'block.5', 'layer_scale'),
  'classifier.0',
  (1, 1),
)

_LAYER = 'encoder.layer.{block0}'


def _linear(ours: str, theirs: str) -> list[Rule]:
  """Kernel and bias."""
  return [
    dense(f'{ours}/kernel', f'{theirs}.weight'),
    same(f'{ours}/bias', f'{theirs}.bias'),
  ]


BERT = [
  same('token_embed', 'embeddings.word_embeddings.weight'),
  same('pos_embed', 'embeddings.position_embeddings.weight'),
  *_norm('embed_norm', 'embeddings.LayerNorm'),
  *(
    rule
    for name in ('query', 'key', 'value')
    for rule in _linear(
      f'block{{block}}/attn/{name}', f'{_LAYER}.attention.self.{name}'
    )
  ),
  *_linear('block{block}/attn/out', f'{_LAYER}.attention.output.dense'),
  *_norm('block{block}/norm1', f'{_LAYER}.attention.output.LayerNorm'),
  *_linear('block{block}/mlp/dense1', f'{_LAYER}.intermediate.dense'),
  *_linear('block{block}/mlp/dense2', f'{_LAYER}.output.dense'),
  *_norm('block{block}/norm2', f'{_LAYER}.output.LayerNorm'),
]
