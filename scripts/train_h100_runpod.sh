#!/usr/bin/env bash
# Fine-tunes on a rented machine with an NVIDIA H100, in the background, and watches the start. Run
# setup_runpod_h100.sh first. Starting again continues an unfinished run from its last checkpoint.
#
#   scripts/train_h100_runpod.sh [--config RECIPE] [--init MODEL] [--data FILE]... [--project DIR]
#
#   --config RECIPE        recipe [examples/weather-persona/h100.toml]
#   --init MODEL           base model: a folder in Hugging Face format or a GGUF file [the recipe's]
#   --data FILE            file of examples; can be repeated [the recipe's]
#   --project DIR          folder for the run and its result [training/ of this checkout]
#   --foreground           train in the foreground, without supervisor; ends with the exit code of training
#   --machine MACHINE      h100, or none to train on any device [h100]
#   --minimum-disk-gb GB   free disk space that is needed at least [50]
#   --usd-per-hour USD     price of the machine [that of `text2llm plan --gpu h100`]
#   --wandb                check that WANDB_API_KEY is set
#
# Exit codes: those of text2llm, such as 1 for a failed check and 2 for a crash loop (three starts without a
# newer checkpoint). Environment: TRAINING_USD_PER_HOUR, the price; TRAINING_WATCH_STEPS (100),
# TRAINING_WATCH_S (300) and TRAINING_WATCH_EVERY_S (5), how long and how often the start is watched;
# TEXT2LLM_BINARY, the program.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tag=TRAINING-H100
session=text2llm-h100
machine=h100
config=$root/examples/weather-persona/h100.toml
minimum_disk_gb=50
train "$@"
