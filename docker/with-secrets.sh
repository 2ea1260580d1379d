#!/bin/sh
# Runs a program of Lethe with the addresses and secrets of the deployment in its environment.
set -eu
secret() { cat "/secrets/lethe_$1"; }

LETHE_DATABASE_URL="postgresql+psycopg://lethe:$(secret postgres)@postgres:5432/lethe"
LETHE_BROKER_URL="redis://:$(secret redis)@redis:6379/0"
LETHE_STORE_ACCESS_KEY="$(secret objects_key)"
LETHE_STORE_SECRET_KEY="$(secret objects_secret)"
export LETHE_DATABASE_URL LETHE_BROKER_URL LETHE_STORE_ACCESS_KEY LETHE_STORE_SECRET_KEY
exec "$@"
