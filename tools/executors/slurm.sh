#!/usr/bin/env bash
# `data prepare --executor slurm` on a real Slurm of one node, which this script sets up from Debian's
# packages: 1, 2 and 8 ranks, one of them killed in the middle (scancel), one put back in the queue (scontrol
# requeue), and all bytes compared with the plain run.
#
#   tools/executors/slurm.sh PROGRAM      as root, in a container; leaves nothing running
set -euo pipefail
program=$(realpath "${1:?usage: slurm.sh PROGRAM}")
source "$(dirname "$0")/project.sh"
need_programs

if ! command -v slurmctld slurmd munged >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    skip "there is no Slurm, and only root of a Debian can install one"
  fi
  (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends slurm-wlm munge) >/dev/null 2>&1 ||
    skip "apt brought no Slurm"
fi

work=$(mktemp -d)
daemons=()
cleanup() {
  for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
host=$(hostname -s)

# Munge tells the daemons who asks.
mkdir -p /run/munge "$work/spool" "$work/state"
# A key that is there is somebody's.
[ -s /etc/munge/munge.key ] || { dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 2>/dev/null && chmod 400 /etc/munge/munge.key && chown munge: /etc/munge/munge.key; }
chown munge: /run/munge
if ! munge -n >/dev/null 2>&1; then
  setpriv --reuid=munge --regid=munge --init-groups munged --foreground >"$work/munged.log" 2>&1 &
  daemons+=($!)
  until_says sh -c 'munge -n 2>/dev/null' || skip "munge does not come up on this machine"
fi

# Eight processors on paper, so that eight ranks run at once; nothing is bound or contained.
cat >"$work/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
# No control groups: a container may not make any. Before 23.02 there is no word for that, but the first kind
# touches none unasked.
case $(slurmd -V) in
  *" 22."*) cgroups=cgroup/v1 ;;
  *) cgroups=disabled ;;
esac
echo "CgroupPlugin=$cgroups" >"$work/cgroup.conf"
export SLURM_CONF=$work/slurm.conf
slurmctld -D >"$work/slurmctld.out" 2>&1 &
daemons+=($!)
slurmd -D >"$work/slurmd.out" 2>&1 &
daemons+=($!)
until_says sh -c 'sinfo --noheader --format=%T 2>/dev/null | grep idle' ||
  { cat "$work"/*.out "$work"/*.log; skip "Slurm's daemons do not come up on this machine"; }
echo "Slurm $(sinfo --version | cut -d' ' -f2) on $host (${SECONDS}s)"

folder="$work/a project"     # with a space: scripts must quote
make_project "$folder"
plain=$work/plain
"$program" data prepare "$folder" --output-dir "$plain" >/dev/null 2>&1
echo "plain run done (${SECONDS}s)"

for ranks in 1 2 8; do
  "$program" data prepare "$folder" --output-dir "$work/by $ranks" --executor slurm --ranks "$ranks" --sbatch-option=--time=10 >/dev/null 2>"$work/by-$ranks.log" ||
    { cat "$work/by-$ranks.log"; exit 1; }
  echo "$ranks ranks (${SECONDS}s)"
  compare "$plain" "$work/by $ranks"
done

echo "a task is ended and one is put back while they work"
out=$work/killed
mkdir -p "$out"
hold "$out" 1 4
"$program" data prepare "$folder" --output-dir "$out" --executor slurm --ranks 4 >/dev/null 2>"$work/killed.log" 9>&- &
launcher=$!
until_says rank_processes "$out" 1 4
job=$(squeue --noheader --array --format=%F | head -n 1)
before=$(rank_processes "$out" 1 4)
scontrol requeue "${job}_1"
until_says sh -c "squeue --noheader --array --format='%K %T' | grep '^1 PENDING' || true"
# A task that was put back waits for two minutes at least, unless it is told to begin.
scontrol update JobId="${job}_1" StartTime=now
until_says bash -c "$(declare -f rank_processes); rank_processes '$out' 1 4 | grep -vx '$before'"
scancel "${job}_1"
release
wait "$launcher" || { cat "$work/killed.log"; exit 1; }
grep -q "rank 1 of 4 of job $job failed or was cancelled" "$work/killed.log" || { cat "$work/killed.log"; exit 1; }
compare "$plain" "$out"
echo "done (${SECONDS}s)"
