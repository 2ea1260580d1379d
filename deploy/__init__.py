"""Ways to run a Lethe of several processes: natively on one machine (native.py), in containers."""
