"""The subcommands of `tts-eval`, one module each.

A command module offers `configure(parser: argparse.ArgumentParser) -> None` and `run(args: argparse.Namespace) -> int`,
whose return value is the exit status. `tts_eval.cli.COMMANDS` lists them and imports only the one that is called.
"""
