"""TensorFlow, as the host uses it: to read, and nothing else."""

import contextlib
import ctypes
import os

# Its start-up lines are of no use to the reader of a training log.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
import tensorflow as tf  # noqa: E402

# For functions that map over data sets: theirs are written in TensorFlow's
# operations, so there is nothing to convert, and on Python 3.13 AutoGraph says
# so of each in five lines.
no_autograph = tf.autograph.experimental.do_not_convert


def _hide_accelerators() -> None:
  """Keeps TensorFlow off the accelerator, whose memory belongs to JAX."""
  for kind in ('GPU', 'TPU'):
    try:
      tf.config.set_visible_devices([], kind)
    except RuntimeError:
      # TensorFlow was in use before us: harmless where it sees no device.
      if tf.config.get_visible_devices(kind):
        raise


def _keep_freed_memory() -> None:
  """Lets glibc's malloc keep freed buffers instead of unmapping them.

  Every image passes through several buffers of a megabyte. With glibc's
  defaults each of them is mapped anew: 1,300 page faults and half of the time
  for an image of 500 x 375 pixels (260 images/s on one core instead of 600).
  """
  mmap_threshold, top_pad = -3, -2  # M_... in malloc.h
  # Other C libraries have no mallopt.
  with contextlib.suppress(AttributeError, OSError, TypeError):
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(mmap_threshold, 32 * 2**20)
    mallopt(top_pad, 64 * 2**20)


_hide_accelerators()
_keep_freed_memory()
