#!/bin/sh
# Makes every secret of the deployment once, on its first start; there are no default ones. Each file can be read by the
# one user that needs it: 999 runs PostgreSQL and Redis, 10001 Lethe, 10002 the object store.
set -eu
umask 077
cd /secrets

random() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }

keep() { # NAME OWNER: what stdin says, unless it is there already
    if [ ! -s "$1" ]; then
        cat > "$1.new"
        chown "$2:$2" "$1.new"
        chmod 400 "$1.new"
        mv "$1.new" "$1"
    else
        cat > /dev/null
    fi
}

random 24 | keep lethe_postgres 10001
random 24 | keep lethe_redis 10001
{ printf GK; random 12; } | keep lethe_objects_key 10001
random 32 | keep lethe_objects_secret 10001
random 32 | keep objects_rpc 10002

# The same secrets, for the servers that check them.
keep postgres 999 < lethe_postgres
keep objects_key 10002 < lethe_objects_key
keep objects_secret 10002 < lethe_objects_secret
printf 'requirepass %s\nappendonly yes\nmaxmemory-policy noeviction\nsave ""\ndir /data\n' "$(cat lethe_redis)" \
    | keep redis.conf 999
