#!/usr/bin/env bash
# Start a Slurm of this machine alone, on loopback, with all its files in one directory.
#
#   apt-get install slurm-wlm munge        # Debian 12 has Slurm 22.05
#   tests/sweeps/slurm/start.sh DIRECTORY  # as root; DIRECTORY must not exist yet
#   export SLURM_CONF=DIRECTORY/slurm.conf
#   sinfo
#   tests/sweeps/slurm/stop.sh DIRECTORY
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir "$1"
directory=$(cd "$1" && pwd)
host=$(hostname -s)

# munged wants its directory to itself.
chmod 755 "$directory"
mkdir "$directory/state" "$directory/spool"
(umask 077 && head -c 1024 /dev/urandom > "$directory/munge.key")
munged --force --socket="$directory/munge.socket" --key-file="$directory/munge.key" \
  --pid-file="$directory/munged.pid" --log-file="$directory/munged.log" \
  --seed-file="$directory/munge.seed" 2> "$directory/munged.err"

free_port='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
sed -e "s|DIRECTORY|$directory|g" -e "s|HOST|$host|g" \
  -e "s|CONTROLLER_PORT|$(python3 -c "$free_port")|" -e "s|NODE_PORT|$(python3 -c "$free_port")|" \
  "$here/slurm.conf" > "$directory/slurm.conf"
export SLURM_CONF="$directory/slurm.conf"
slurmctld
slurmd

for _ in $(seq 60); do
  if sinfo --noheader --format=%T 2> /dev/null | grep --quiet idle; then
    sinfo
    exit 0
  fi
  sleep 0.5
done
echo "no node is idle after 30 s; see the logs in $directory" >&2
"$here/stop.sh" "$directory"
exit 1
