# Completion for bash: source this from ~/.bashrc, or install it as /usr/share/bash-completion/completions/dvc-fanout.
# The program itself completes targets, runs and work items of the project at hand.
source <(COMPLETE=bash dvc-fanout)
