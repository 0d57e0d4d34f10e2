#!/usr/bin/env bash
# Runs docs/slurm.sbatch on a real SLURM: signals the job, kills one of its two nodes, and waits until the job ends.
#
#   torture/slurm.sh FOLDER PYTHON [train.py's arguments]
#
# Installs Debian's packages (as root), configures two nodes on this machine in FOLDER, and stops them at the end. It
# prints a line `figure NAME SECONDS` for each measured time. If SLURM cannot be run, it prints why and exits with 3.
set -euo pipefail
folder=$(realpath "$1") python=$2
shift 2
root=$(dirname "$(dirname "$(realpath "$0")")")

if [ "$(id -u)" != 0 ] || [ ! -f /etc/debian_version ]; then
    echo "skipped: a real SLURM is only tried as root on Debian" >&2
    exit 3
fi
if ! command -v slurmctld slurmd sbatch munged > /dev/null; then
    packages=(slurmctld slurmd slurm-client munge)
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y --no-install-recommends "${packages[@]}" > "$folder/apt.log" 2>&1 ||
        { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >> "$folder/apt.log" 2>&1 ||
        { echo "skipped: SLURM cannot be installed: $(tail -n 1 "$folder/apt.log")" >&2; exit 3; }
fi

export SLURM_CONF=$folder/slurm.conf
host=$(hostname) hosts="127.0.0.1 n1 n2" log=$folder/job.log
cat > "$SLURM_CONF" << END
ClusterName=loop
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
JobRequeue=1
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdLogFile=$folder/slurmd-%n.log
SlurmdSpoolDir=$folder/spool-%n
StateSaveLocation=$folder/state
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=2 RealMemory=4000
PartitionName=main Nodes=n1,n2 Default=YES State=UP
END

# Lists the processes with this entry in their environment.
having() { { grep -lzx "$1" /proc/[0-9]*/environ || true; } 2> /dev/null | cut --delimiter / --fields 3; }

finish() {
    # shellcheck disable=SC2046 # several numbers
    kill -KILL $(having "SLURM_CONF=$SLURM_CONF") 2> /dev/null || true
    [ -z "${named:-}" ] || sed -i "/^$hosts$/d" /etc/hosts
}
trap finish EXIT
trap 'exit 1' INT TERM

# Waits until a command succeeds; the limit is in seconds.
await() {
    local deadline=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt "$deadline" ] || { echo "waited in vain for: $*; see $folder" >&2; exit 1; }
        sleep 0.2
    done
}
figure() { echo "figure $1 $(echo "$(date +%s.%N) $2" | awk '{ printf "%.1f", $1 - $2 }')"; }
now() { date +%s.%N; }
idle() { [ "$(sinfo --noheader --format '%T %D')" = "idle 2" ]; }
has_lines() { [ "$(grep --count -- "$1" "$log")" -ge "$2" ]; }
is() { [[ $(scontrol show job "$job") == *JobState=$1* ]]; }
requeued() { [[ $(scontrol show job "$job") == *JobState=PENDING*Reason=BeginTime*" Restarts=$1 "* ]]; }
gone() { [ -z "$(having "SLURM_JOB_ID=$job")" ]; }
# SLURM waits two minutes before it starts a requeued job; this one starts when all that it left has ended.
start_again() {
    await 60 gone
    sleep 15 # a node that only now reports the end would be taken from the new start
    await 60 idle
    scontrol update jobid="$job" StartTime=now
}

began=$(now)
if ! munge --no-input > /dev/null 2>&1; then # nobody runs it
    install --directory --owner munge --group munge /run/munge
    setpriv --reuid munge --regid munge --init-groups munged --force
fi
if ! grep --quiet "^$hosts$" /etc/hosts; then # processes find each other by the names of their nodes
    echo "$hosts" >> /etc/hosts
    named=1
fi
mkdir -p "$folder/state"
slurmctld
slurmd -N n1
slurmd -N n2
await 60 idle
figure cluster "$began"

cd "$root"
began=$(now)
touch "$log"
job=$(PATH="$(dirname "$python"):$PATH" sbatch --parsable --nodes=2 --ntasks-per-node=1 --gpus-per-node=0 \
    --cpus-per-task=1 --mem=2000 --time=30 --output="$log" docs/slurm.sbatch "$@" "trainer.runs_dir=$folder/runs")
await 200 has_lines '^epoch' 3
figure start "$began"

began=$(now)
scancel --signal=USR1 "$job"
await 100 requeued 1
has_lines 'Stopped by SIGUSR1' 1
figure signal "$began"
start_again
began=$(now) lines=$(grep --count '^epoch' "$log")
await 200 has_lines '^epoch' $((lines + 3))
figure requeue "$began"

# A node is its daemon, its task, and the daemon's process that leads the task.
tasks=$(having SLURMD_NODENAME=n2)
leaders=$(for task in $tasks; do ps -o ppid= -p "$task"; done)
began=$(now)
# shellcheck disable=SC2086 # several numbers
kill -KILL "$(cat "$folder/slurmd-n2.pid")" $leaders $tasks
await 200 requeued 2
figure loss "$began"
slurmd -N n2
start_again
began=$(now) lines=$(grep --count '^epoch' "$log")
await 200 has_lines '^epoch' $((lines + 1))
figure return "$began"
await 600 is COMPLETED
