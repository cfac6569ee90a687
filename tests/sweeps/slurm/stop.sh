#!/usr/bin/env bash
# Stop what start.sh started in DIRECTORY; its jobs are cancelled.
set -uo pipefail
directory=$(cd "$1" && pwd)
SLURM_CONF="$directory/slurm.conf" timeout 20 scancel --user="$(id -un)" --full 2> /dev/null
for daemon in slurmctld slurmd munged; do
  if [ -s "$directory/$daemon.pid" ]; then
    process=$(cat "$directory/$daemon.pid")
    kill "$process"
    for _ in $(seq 100); do
      kill -0 "$process" 2> /dev/null || break
      sleep 0.1
    done
  fi
done
