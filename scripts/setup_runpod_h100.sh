#!/usr/bin/env bash
# Prepares a rented machine with an NVIDIA H100 for fine-tuning: finds or builds the program with CUDA, and
# checks GPU, driver, disk, data, base model and memory. Running it again repeats the checks only.
#
#   scripts/setup_runpod_h100.sh [--config RECIPE] [--init MODEL] [--data FILE]... [--project DIR]
#
#   --config RECIPE        recipe [examples/weather-persona/h100.toml]
#   --init MODEL           base model: a folder in Hugging Face format or a GGUF file [the recipe's]
#   --data FILE            file of examples; can be repeated [the recipe's]
#   --project DIR          folder for the run and its result [training/ of this checkout]
#   --machine MACHINE      h100, or none to check no GPU [h100]
#   --minimum-disk-gb GB   free disk space that is needed at least [50]
#   --wandb                check that WANDB_API_KEY is set
#
# TEXT2LLM_BINARY names a binary to use instead of building one; it must have this checkout's version.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tag=SETUP-H100
machine=h100
config=$root/examples/weather-persona/h100.toml
minimum_disk_gb=50
next_script=train_h100_runpod.sh
setup "$@"
