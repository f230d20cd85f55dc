#!/usr/bin/env bash
# What only a GPU can show: whether samples depend on their batch there, how fast searches are, what the time goes into.
#
#     bash tests/gpu/check.sh OUT MODEL DATA [PART ...]
#
# OUT takes check.log, a JSON file for each part and GSM8K's journals. MODEL is SmolLM2-135M-Instruct (a GGUF file or a
# folder), DATA GSM8K's test problems; only `smollm2` and `loop` need them. PART is exact, micromath, smollm2 or loop;
# all of them unless given, meant for 8 minutes on an H100. One that fails or takes too long doesn't stop the others.
# `python3` and `tts-eval` are those of the PATH. DEVICE=cpu TINY=1 tries the script itself.
set -u
out=$1 model=$2 data=$3
shift 3
parts=${*:-exact micromath smollm2 loop}
device=${DEVICE:-cuda} tiny=${TINY:-}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
log=$out/check.log

run() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 started=$SECONDS
  shift 2
  [ -z "$tiny" ] || limit=600
  printf '\n== %s: %s\n' "$name" "$*" >>"$log"
  timeout "$limit" "$@" >>"$log" 2>&1
  echo "$name: status $?, $((SECONDS - started)) of $limit s" | tee -a "$log"
}

check() { # PART SECONDS ARGUMENTS...
  run "$1" "$2" python3 "$here/check.py" "$1" "$out/$1.json" --device "$device" ${tiny:+--tiny} "${@:3}"
}

search() { # NAME SECONDS BUDGET PROBLEMS MODEL ARGUMENTS OPTIONS...
  local budget=$3 problems=$4
  [ -z "$tiny" ] || budget=4 problems=2
  run "$1" "$2" tts-eval run --model "$5" --model_args "$6,budget=$budget,journal=$work/$1.jsonl" \
    --device "$device" --limit "$problems" --output_path "$work/$1.json" ${tiny:+--gen_kwargs max_gen_toks=40} "${@:7}"
}

micromath() {
  local arguments='pretrained=micromath/base,dtype=float32,temperature=1,step_delimiter=\n'
  search micromath-best-of-n 130 256 150 tts-best-of-n "$arguments" --tasks tts_micromath
  search micromath-beam 100 256 60 tts-beam "$arguments,verifier=micromath/prm,width=16" --tasks tts_micromath
}

smollm2() {
  local options=(--tasks tts_gsm8k --metadata "gsm8k_file=$data" --apply_chat_template)
  search gsm8k-bfloat16 140 16 100 tts-best-of-n "pretrained=$model,dtype=bfloat16,answer_fallback=last_number" "${options[@]}"
  search gsm8k-float32 110 16 50 tts-best-of-n "pretrained=$model,dtype=float32,answer_fallback=last_number" "${options[@]}"
  gzip -c "$work/gsm8k-bfloat16.jsonl" >"$out/gsm8k-bfloat16.jsonl.gz"
}

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader >>"$log" 2>&1
for part in $parts; do
  case $part in
    exact) check exact 110 ;;
    loop) check loop 100 --model "$model" --data "$data" ;;
    micromath | smollm2) "$part" ;;
  esac
done
[ -z "$(ls "$work")" ] || check searches 60 --journals "$work"
grep -E '^\{"|^tts-eval|sampled through lm-eval' "$log" # the numbers, and why there are none
