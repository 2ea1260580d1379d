"""What the `lethe` command can do, one file a subject. `lethe/cli.py` puts them together."""
