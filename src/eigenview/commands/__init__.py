"""One file a verb of the command line: its options and `main(arguments) -> exit code`. cli.py imports just the verb."""
