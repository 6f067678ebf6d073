# Completion for fish: copy this to ~/.config/fish/completions/. The program itself completes targets, runs and work
# items of the project at hand.
COMPLETE=fish dvc-fanout | source
