#!/bin/sh
# Prints the secrets of a Lethe, made anew, as YAML for `kubectl apply -f -`. Nothing is kept: run it once, and make
# the namespace `lethe` before.
#   DATABASE=user:password@host:5432/lethe REDIS=:password@host:6379/0 STORE_KEY=… STORE_SECRET=… ./make-secrets.sh
set -eu
: "${DATABASE:?user:password@host:5432/lethe}" "${REDIS:?:password@host:6379/0}" "${STORE_KEY:?}" "${STORE_SECRET:?}"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
umask 077
head -c 32 /dev/urandom > "$folder/master.key"
head -c 32 /dev/urandom > "$folder/pepper.key"
openssl genpkey -algorithm ed25519 -out "$folder/log.key"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$folder/model.key"
printf 'postgresql+psycopg://%s?sslmode=verify-full&sslrootcert=system' "$DATABASE" > "$folder/LETHE_DATABASE_URL"
printf 'postgresql://%s?sslmode=require' "$DATABASE" > "$folder/KEDA_DATABASE_URL"
printf 'rediss://%s?ssl_cert_reqs=CERT_REQUIRED' "$REDIS" > "$folder/LETHE_BROKER_URL"
printf '%s' "$STORE_KEY" > "$folder/LETHE_STORE_ACCESS_KEY"
printf '%s' "$STORE_SECRET" > "$folder/LETHE_STORE_SECRET_KEY"

secret() { # NAME FILE…
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: lethe\ndata:\n' "$1"
    shift
    for name in "$@"; do
        printf '  %s: %s\n' "$name" "$(base64 < "$folder/$name" | tr -d '\n')"
    done
}

secret lethe-keys master.key pepper.key log.key model.key
secret lethe-secrets LETHE_DATABASE_URL LETHE_BROKER_URL LETHE_STORE_ACCESS_KEY LETHE_STORE_SECRET_KEY
secret lethe-keda KEDA_DATABASE_URL
