"""The commands, a module for each subject, which adds them to the parser by `add_commands`.

A command imports what it needs only when it runs: TensorFlow takes seconds, and `--help` needs none
of it.
"""
