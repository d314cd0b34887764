#!/usr/bin/env bash
# Prints, and never runs, the commands that would cap the power or clocks of this machine's devices, and those
# that undo it.
#
#   deploy/tools/power_advice.sh [--cap PERCENT] [--clock PERCENT]
#
#   --cap PERCENT    power cap, in percent of the default limit (default 75)
#   --clock PERCENT  highest SM clock, in percent of the device's highest (default: leave the clocks alone)
#
# Why: while a server waits for its link, its device computes nothing and draws most of its power. A cap costs time
# to first token only where requests are compute-bound. What it would do to yours, says
#   sluice plan --model M --hardware H --workload W --what-if power-cap=300W
# Look at "link-bound" and "TTFT" there first, and at sluice_transfer_stall_seconds_total in production.
#
# GPUs are found by nvidia-smi, CPUs by /sys/class/powercap (RAPL). Neither there: says so, exits 0.
set -euo pipefail

cap=75
clock=
powercap=${SLUICE_POWERCAP_ROOT:-/sys/class/powercap}

usage() { echo "power_advice.sh: $*; see the head of the file" >&2; exit 2; }
percent() { [[ $2 =~ ^[0-9]+$ && $2 -ge 1 && $2 -le 100 ]] || usage "$1: '$2' is not in [1, 100]"; }

while [[ $# -gt 0 ]]; do
  case $1 in
    --cap) [[ $# -ge 2 ]] || usage "--cap wants a number"; percent "$1" "$2"; cap=$2; shift 2 ;;
    --clock) [[ $# -ge 2 ]] || usage "--clock wants a number"; percent "$1" "$2"; clock=$2; shift 2 ;;
    *) usage "unknown argument '$1'" ;;
  esac
done

found=false
undo=()

advise_gpus() {
  local index name draw default least most clock_most watts megahertz
  while IFS=, read -r index name draw default least most clock_most; do
    found=true
    watts=$(awk -v d="$default" -v l="$least" -v m="$most" -v c="$cap" \
      'BEGIN {w = d * c / 100; if (w < l) w = l; if (w > m) w = m; printf "%d", w}')
    echo "# GPU $index:$name; draws$draw W of$default W, settable from$least W to$most W"
    echo "nvidia-smi -i $index -pl $watts"
    undo+=("nvidia-smi -i $index -pl $(awk -v d="$default" 'BEGIN {printf "%d", d}')")
    if [[ -n $clock ]]; then
      megahertz=$(awk -v m="$clock_most" -v c="$clock" 'BEGIN {printf "%d", m * c / 100}')
      echo "nvidia-smi -i $index -lgc 0,$megahertz   # of$clock_most MHz; decoding is bound by memory, not by SM clock"
      undo+=("nvidia-smi -i $index -rgc")
    fi
  done < <(nvidia-smi --format=csv,noheader,nounits \
    --query-gpu=index,name,power.draw,power.default_limit,power.min_limit,power.max_limit,clocks.max.sm)
}

advise_cpus() {
  local zone limit now default micro
  for zone in "$powercap"/intel-rapl:?; do
    limit=$zone/constraint_0_power_limit_uw
    [[ -r $limit ]] || continue
    now=$(<"$limit")
    default=$now
    [[ -r $zone/constraint_0_max_power_uw ]] && default=$(<"$zone/constraint_0_max_power_uw")
    [[ $default -gt 0 ]] || default=$now
    micro=$((default * cap / 100))
    found=true
    echo "# CPU package $(<"$zone/name"): limit is $((now / 1000000)) W of $((default / 1000000)) W"
    echo "echo $micro > $limit"
    undo+=("echo $now > $limit")
  done
}

echo "# Advice only: nothing has been changed. Run as root what you want of it; it does not survive a reboot."
command -v nvidia-smi >/dev/null && advise_gpus
advise_cpus
if ! $found; then
  echo "# Neither nvidia-smi nor RAPL ($powercap) here: nothing to advise."
  exit 0
fi
echo
echo "# To undo:"
printf '%s\n' "${undo[@]}"
