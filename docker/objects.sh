#!/bin/sh
# One node of Garage with one bucket, its key taken from files: Garage itself reads them from the environment only.
set -eu
GARAGE_DEFAULT_ACCESS_KEY="$(cat /secrets/objects_key)"
GARAGE_DEFAULT_SECRET_KEY="$(cat /secrets/objects_secret)"
export GARAGE_DEFAULT_ACCESS_KEY GARAGE_DEFAULT_SECRET_KEY
exec /usr/local/bin/garage -c /etc/garage.toml server --single-node --default-bucket
