#!/usr/bin/env bash
# A sweep on Slurm: sbatch deploy/slurm.sh SPACE STORAGE [more options of orchestrator.sweep]
# One Ray node per Slurm node. Slurm runs the job again when it is preempted or a machine fails
# (--requeue), and this script asks for it 3 minutes before the time is over; the same command then
# goes on from the storage.
#SBATCH --job-name=bridgesweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
# More GPUs per node: sbatch --gpus-per-node=8 deploy/slurm.sh ..., as of all options here.
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@180
# The loss of a machine does not end the others.
#SBATCH --no-kill
#SBATCH --open-mode=append
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: sbatch deploy/slurm.sh SPACE STORAGE [OPTION ...]" >&2
    exit 2
fi
space=$1 storage=$2
shift 2

# A token of this job alone, in a file that only its owner can read, on a disk that all nodes see.
export RAY_AUTH_MODE=token
token="${SLURM_SUBMIT_DIR:?}/.ray-token-${SLURM_JOB_ID:?}"
rm -f "$token".* # of a run of this job that was killed
# A new file: one that somebody else made beforehand would be theirs to read.
RAY_AUTH_TOKEN_PATH=$(mktemp "$token.XXXXXXXXXX")
export RAY_AUTH_TOKEN_PATH
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
python -c "import secrets; print(secrets.token_hex(32))" > "$RAY_AUTH_TOKEN_PATH"

# `head -n 1` would end before scontrol has written all, and so end this script.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
# Of several jobs on one machine, each has its own port.
port=$((20000 + SLURM_JOB_ID % 20000))
cpus=${SLURM_CPUS_PER_TASK:-1}
# Each node says how many GPUs the job has there: they may differ.
start='exec ray start "$@" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --block'

# srun does not take the number of CPUs from sbatch.
srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --nodelist="$head" \
    sh -c "$start" ray-start --head --node-ip-address="$head" --port="$port" \
    --dashboard-host=127.0.0.1 --num-cpus="$cpus" &
for _ in $(seq 60); do
    ray status --address="$head:$port" > /dev/null 2>&1 && break
    sleep 2
done
ray status --address="$head:$port" > /dev/null || {
    echo "Ray did not start on $head within two minutes" >&2
    exit 1
}
if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
    srun --no-kill --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) \
        --cpus-per-task="$cpus" --exclude="$head" \
        sh -c "$start" ray-start --address="$head:$port" --num-cpus="$cpus" &
    sleep 20
fi

RAY_ADDRESS="$head:$port" python -m orchestrator.sweep "$space" --storage "$storage" "$@" &
sweep=$!
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1
# The signal ends the first wait; Slurm then ends the job.
code=0
wait "$sweep" || code=$?
if [ "$code" -eq 138 ]; then
    code=0
    wait "$sweep" || code=$?
fi
exit "$code"
