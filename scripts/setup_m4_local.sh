#!/usr/bin/env bash
# Prepares a Mac with an Apple chip for fine-tuning on its CPU: finds or builds the program, and checks chip,
# memory, disk, data and base model. Running it again repeats the checks only.
#
#   scripts/setup_m4_local.sh [--config RECIPE] [--init MODEL] [--data FILE]... [--project DIR]
#
#   --config RECIPE        recipe [examples/weather-persona/m4.toml]
#   --init MODEL           base model: a folder in Hugging Face format or a GGUF file [the recipe's]
#   --data FILE            file of examples; can be repeated [the recipe's]
#   --project DIR          folder for the run and its result [training/ of this checkout]
#   --machine MACHINE      mac, or none to check no Mac [mac]
#   --minimum-disk-gb GB   free disk space that is needed at least [5]
#   --wandb                check that WANDB_API_KEY is set
#
# TEXT2LLM_BINARY names a binary to use instead of building one; it must have this checkout's version.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tag=SETUP-M4
machine=mac
config=$root/examples/weather-persona/m4.toml
next_script=train_m4_local.sh
setup "$@"
