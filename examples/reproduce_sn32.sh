#!/usr/bin/env bash
# The built-in model sn32 from nothing: simulate, train, calibrate, score. Stopped anywhere, it goes on when started
# again.
#
#   examples/reproduce_sn32.sh OUTPUT                      # the CPU: hours
#   DEVICE=cuda RUNS=1000 STEPS=10000 examples/reproduce_sn32.sh OUTPUT
#
# OUTPUT/sn32.safetensors is the model, OUTPUT/scores/ what it scores on clouds that nothing was trained or chosen on.
set -euo pipefail

output=${1:?where to, such as: examples/reproduce_sn32.sh sn32/}
device=${DEVICE:-cpu}        # of simulation and training: cpu or cuda
runs=${RUNS:-480}            # clouds to train and validate on
test_runs=${TEST_RUNS:-32}   # clouds to score
grid=${GRID:-64}             # cells along each axis of a simulation
voxels=${VOXELS:-32}         # voxels along each axis of the model
steps=${STEPS:-1500}         # of training on windows around the site
window=${WINDOW:-24}         # voxels along each axis of a window

simulate=(mim3d simulate --device "$device" --grid "$grid" --voxels "$voxels" --fields density temperature velocity)
accelerator=$([ "$device" = cuda ] && echo gpu || echo cpu)
more=(--data "$output/sims" --machine.accelerator "$accelerator")

"${simulate[@]}" --runs "$runs" --seed 0 --density 20 100 --mach 3 7 --output "$output/sims"
"${simulate[@]}" --runs "$test_runs" --seed 1000 --output "$output/test"

mim3d train sn32 "${more[@]}" --output "$output/training" --data.window "$window" --training.steps "$steps"
mim3d calibrate "$output/training/model.safetensors" --data "$output/sims" --output "$output/sn32.safetensors" --half
mim3d evaluate "$output/sn32.safetensors" "$output/test" --output "$output/scores"
