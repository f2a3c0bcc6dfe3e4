# Sourced by the recipes: `. common.sh NAME LAYOUT`. Environment (make recipe-N VIDEOS=… works, too):
#
#   VIDEOS   the data set as it was unpacked, a folder or s3:// (default: a small generated set with the same names)
#   SPLITS   the folder of its official lists
#   OUT      where results go (default: build/recipes/NAME); the same command again goes on where it stopped
#   VIDEO    the one video to label at the end (default: the first that was not trained on)
#
# With VIDEOS, a recipe runs with the published settings. Without, flags of small[JOB] are added, which win: a trial of
# every step that takes a minute or two on a CPU, without internet, and whose accuracy means nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
declare -A small=()

OUT=${OUT:-build/recipes/$1}
is_small=; if [[ -z ${VIDEOS-} ]]; then is_small=yes; fi
if [[ -n $is_small ]]; then
    python -m vidpipe.synthetic "build/recipes/$2" --layout "$2" --num-videos 96 --num-frames 72
    case $2 in
    ucf101) VIDEOS=build/recipes/ucf101/UCF-101 generated_lists=build/recipes/ucf101/ucfTrainTestlist ;;
    hmdb51) VIDEOS=build/recipes/hmdb51 generated_lists=build/recipes/hmdb51/testTrainMulti_7030_splits ;;
    esac
fi

# Show a job's command, and run it.
run() {
    local job=$1 flags=()
    shift
    if [[ -n $is_small ]]; then read -ra flags <<<"${small[$job]-}"; fi
    echo "\$ python jobs/$job.py $* ${flags[*]-}"
    python "jobs/$job.py" "$@" "${flags[@]}"
}

# The first video that the model was not trained on.
unseen_video() {
    python - "$OUT/manifest.parquet" <<'PYTHON'
import sys
from vidpipe.manifest import read_manifest
print(next(row["url"] for row in read_manifest(sys.argv[1]).to_pylist() if row["split"] in ("test", "val")))
PYTHON
}
