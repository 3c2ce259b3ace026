#!/usr/bin/env bash
# Fine-tunes on the CPU of a Mac, in the background, and watches the start. Run setup_m4_local.sh first.
# Starting again continues an unfinished run from its last checkpoint.
#
#   scripts/train_m4_local.sh [--config RECIPE] [--init MODEL] [--data FILE]... [--project DIR]
#
#   --config RECIPE        recipe [examples/weather-persona/m4.toml]
#   --init MODEL           base model: a folder in Hugging Face format or a GGUF file [the recipe's]
#   --data FILE            file of examples; can be repeated [the recipe's]
#   --project DIR          folder for the run and its result [training/ of this checkout]
#   --foreground           train in the foreground, without supervisor; ends with the exit code of training
#   --machine MACHINE      mac, or none to train on any device [mac]
#   --minimum-disk-gb GB   free disk space that is needed at least [5]
#   --usd-per-hour USD     price of the machine, if it has one
#   --wandb                check that WANDB_API_KEY is set
#
# Exit codes: those of text2llm, such as 1 for a failed check and 2 for a crash loop (three starts without a
# newer checkpoint). Environment: TRAINING_USD_PER_HOUR, the price; TRAINING_WATCH_STEPS (100),
# TRAINING_WATCH_S (300) and TRAINING_WATCH_EVERY_S (5), how long and how often the start is watched;
# TEXT2LLM_BINARY, the program.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tag=TRAINING-M4
session=text2llm-m4
machine=mac
config=$root/examples/weather-persona/m4.toml
train "$@"
