#!/bin/sh
# What a team's scripts do with `heroku borealis-pg:…`, in every spelling that its help shows.
# The test replaces the commands' first words, and nothing else.
set -eu

heroku borealis-pg:info --app sushi | grep 'Status' | head -n 1
heroku borealis-pg:extensions:install --app sushi postgres_fdw
heroku borealis-pg:extensions:install -a sushi -o DATABASE --recursive --suppress-conflict earthdistance
heroku borealis-pg:extensions:install postgres_fdw --app sushi -s 2>/dev/null
heroku borealis-pg:extensions --addon borealis-pg-hex-12345
heroku borealis-pg:extensions:remove --app sushi --confirm postgres_fdw postgres_fdw
heroku borealis-pg:extensions:remove -a sushi -c postgres_fdw -s postgres_fdw 2>/dev/null

heroku borealis-pg:run --app sushi --write-access --db-cmd 'create table migrated (n int, at date)'
heroku borealis-pg:run --app sushi --db-cmd-file ./seed.sql --write-access
heroku borealis-pg:run -a sushi -d 'select * from migrated order by n'
heroku borealis-pg:run -a sushi -o DATABASE -d 'select * from migrated order by n' -f csv
heroku borealis-pg:run --addon=borealis-pg-hex-12345 --db-cmd='select * from migrated order by n' --format=json
heroku borealis-pg:run --app sushi --db-cmd 'select count(*) from migrated' --format yaml
heroku borealis-pg:run --app sushi --shell-cmd 'psql -XAtc "select max(n) from migrated"' --port "$PORT"
heroku borealis-pg:run --app sushi --personal-user -e 'psql -XAtc "select 1" "$DATABASE_URL"'
if heroku borealis-pg:run --app sushi -e 'exit 7'; then :; else echo "ended with $?"; fi
echo "select 'through psql' as way;" | heroku borealis-pg:psql --app sushi --binary-path "$(command -v psql)"

: > tunnel.txt
heroku borealis-pg:tunnel --app sushi --write-access --port "$PORT" >> tunnel.txt 2>&1 &
tunnel=$!
until grep -q 'URL: ' tunnel.txt; do :; done
psql -XAtc "select 'through the tunnel'" "$(sed -n 's/^ *URL: //p' tunnel.txt)"
sed -n 's/^ *\([A-Z][A-Za-z ]*\): .*/\1/p' tunnel.txt
kill -INT "$tunnel"
wait "$tunnel"

heroku borealis-pg:users --app sushi | cut -c 1-15
heroku borealis-pg:users:reset --app sushi --confirm sushi | head -n 1

heroku borealis-pg:integrations:register --app sushi --name etl_1 ssh-ed25519 "$KEY" 2>/dev/null | grep -c Password
heroku borealis-pg:integrations:register -a sushi -n etl_2 -w "ssh-ed25519 $KEY" > /dev/null 2>&1
heroku borealis-pg:integrations --app sushi | cut -d ' ' -f 1
heroku borealis-pg:integrations:remove --app sushi --name etl_1 --confirm etl_1
heroku borealis-pg:integrations:deregister -a sushi -n etl_2 -c etl_2

heroku borealis-pg:restore:capabilities --app sushi | grep Clone
heroku borealis-pg:restore:info -a sushi | grep Clone
heroku borealis-pg:restore:execute --app sushi --as COPY --destination-app udon --new-plan x1-s5 --wait > restore.txt 2>&1
heroku borealis-pg:run -a udon -d 'select count(*) from migrated' -f csv

heroku borealis-pg:upgrade:info --app sushi | grep Status
heroku borealis-pg:upgrade:execute --app sushi > upgrade.txt 2>&1
heroku borealis-pg:upgrade:cancel --app sushi

export HEROKU_APP=sushi
heroku borealis-pg:run -d 'select max(n) from migrated' -f csv
heroku borealis-pg:extensions
