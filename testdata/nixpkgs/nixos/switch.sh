#!/bin/sh
# The switch-to-configuration of the stand-in: it makes the users of the system, puts its units where no other unit of
# the host is, and restarts those that changed. It ends as NixOS's does: 4 where units failed.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
self=$(dirname "$(dirname "$(readlink -f "$0")")")
into=/usr/local/lib/systemd/system
[ "$1" = boot ] && exit 0

while read -r group; do groupadd --force --system "$group"; done <"$self/groups"
while read -r user group home create extra; do
	id "$user" >/dev/null 2>&1 || useradd --system --no-create-home --home-dir "$home" --gid "$group" --groups "$extra" --shell /usr/sbin/nologin "$user"
	if [ "$create" = true ]; then mkdir -p "$home" && chown "$user:$group" "$home" && chmod 700 "$home"; fi
done <"$self/users"

mkdir -p "$into"
for unit in "$into"/*.service "$into"/*.path; do
	name=$(basename "$unit")
	if [ -e "$unit" ] && [ ! -e "$self/units/$name" ]; then
		systemctl stop "$name"
		rm "$unit"
	fi
done

restart=
for unit in "$self"/units/*.service "$self"/units/*.path; do
	name=$(basename "$unit")
	if [ ! -e "$unit" ] || cmp -s "$unit" "$into/$name"; then continue; fi
	was=$(test -e "$into/$name" && echo yes)
	cp "$unit" "$into/$name"
	if [ -n "$was" ] && ! grep -q '^X-RestartIfChanged=false' "$unit"; then restart="$restart $name"; fi
done
rm -rf "$into"/*.wants
cp -r "$self"/units/*.wants "$into/" 2>/dev/null

ln -sfn "$self" /run/current-system.new && mv -T /run/current-system.new /run/current-system
systemctl daemon-reload
code=0
if [ -n "$restart" ]; then systemctl try-restart $restart || code=4; fi
for link in "$self"/units/paths.target.wants/* "$self"/units/multi-user.target.wants/*; do
	if [ -L "$link" ]; then systemctl start "$(basename "$link")" || code=4; fi
done
[ "$code" = 0 ] || echo "warning: the following units failed" >&2
exit "$code"
