#!/usr/bin/env bash
# Under Slurm, jax.distributed.initialize() gives each task one GPU: the one whose
# number is the task's number on its node, of all that the task can see.
#
# Expected: all GPUs that the task was given, as without Slurm; or, of several
# tasks with a GPU each (--gpus-per-task=1, so that every task sees one, number
# 0), that one.
# Seen with jax 0.10.2 on Python 3.11: SLURM_LOCALID becomes
# jax_cuda_visible_devices, whatever CUDA_VISIBLE_DEVICES holds; its log says so
# ("initialized with visible devices: 1"). The second task of a node asks for GPU 1
# of the single one that it sees; and one task on a node of eight GPUs leaves seven
# idle. (No GPU is needed to see the setting; what CUDA then does was not tried.)
# Another way: all GPUs of the node visible to each task (--gpus-per-node), one
# task a GPU; or JAX_LOCAL_DEVICE_IDS=0,1,... for a task that is to have several.
set -euo pipefail
place=$(mktemp -d)
trap "rm -rf $place" EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install -q jax==0.10.2 numpy==2.3.5
cat > "$place/task.py" <<PY
import logging

import jax

logging.basicConfig(level=logging.INFO, format='%(message)s')
jax.distributed.initialize()
PY
# As srun sets them for two tasks on one node, each with a GPU of its own.
export JAX_PLATFORMS=cpu SLURM_JOB_ID=1 SLURM_STEP_NODELIST=localhost
export SLURM_NTASKS=2 CUDA_VISIBLE_DEVICES=0
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task \
    "$place/env/bin/python" "$place/task.py" > "$place/$task" 2>&1 &
done
wait
said='JAX distributed initialized with visible devices:'
grep "$said" "$place/0" "$place/1"
grep -qx "$said 0" "$place/0"
grep -qx "$said 1" "$place/1"
# Told which, it takes them.
SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 JAX_LOCAL_DEVICE_IDS=0,1,2,3 \
  "$place/env/bin/python" "$place/task.py" 2>&1 | grep -x "$said 0,1,2,3"
