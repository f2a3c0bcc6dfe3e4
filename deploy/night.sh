#!/usr/bin/env bash
# A night on a cluster, run by `ray job submit` or a RayJob: get nodes, look, label what is new, report.
# VIDPIPE_BUCKET says where; CPUS, GPUS how much. Every step may be run again: what is done stays done.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${VIDPIPE_BUCKET:?is the bucket, without s3://}"
videos="s3://$VIDPIPE_BUCKET/videos" out="s3://$VIDPIPE_BUCKET/vidpipe"

trap 'python deploy/nodes.py --cpus 0' EXIT
python deploy/nodes.py --cpus "${CPUS:-64}" --gpus "${GPUS:-1}"
python jobs/doctor.py --input "$videos" --output "$out/doctor"

# Exit codes: 1 something broke, a bug among it (a rerun does what is missing); 2, what the command or its files ask for
# cannot be done, and 3 are for a person to look at.
for attempt in 1 2 3; do
    code=0
    python jobs/predict.py "$videos" --checkpoint "$out/model" --output "$out/predictions" || code=$?
    [ "$code" -eq 1 ] || break
    echo "attempt    $attempt of 3 broke; again in a minute"
    sleep "${PAUSE_S:-60}"
done
# A night with too many bad videos (3) has all its results: the page says which.
if [ "$code" -eq 0 ] || [ "$code" -eq 3 ]; then
    python jobs/evaluate.py "$out/predictions" --output "$out/report" || code=$?
fi
exit "$code"
