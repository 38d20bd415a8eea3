#!/bin/sh
# The switch-to-configuration of a stand-in for a NixOS system. Its units lie in $self/units, and it puts
# them where no other unit of the host is. It ends as NixOS's does: 4 where units failed.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
self=$(dirname "$(dirname "$(readlink -f "$0")")")
into=/usr/local/lib/systemd/system
if [ "$1" = dry-activate ]; then
	for unit in "$self"/units/*.service; do
		cmp -s "$unit" "$into/$(basename "$unit")" || echo "would restart $(basename "$unit")"
	done
	exit 0
fi
if [ "$1" = switch ] && [ -e "$self/holds" ]; then
	touch /srv/held
	until [ -e /srv/goes ]; do sleep 0.1; done
fi
[ "$1" = test ] || ln -sfn "$self" /nix/boots
[ "$1" = boot ] && exit 0
if [ -e "$self/exit" ]; then exit "$(cat "$self/exit")"; fi

# Users are the system's own, as on NixOS: made before units start, and gone with a system that does not name them.
for user in $(cat "$self/users" 2>/dev/null); do
	id "$user" >/dev/null 2>&1 || useradd --system --user-group "$user"
done
for user in $(cat /nix/users 2>/dev/null); do
	grep -qx "$user" "$self/users" 2>/dev/null || userdel -f "$user"
done
cat "$self/users" 2>/dev/null >/nix/users

mkdir -p "$into"
for unit in "$into"/*.service; do
	name=$(basename "$unit")
	if [ -e "$unit" ] && [ ! -e "$self/units/$name" ]; then
		systemctl stop "$name"
		rm "$unit"
	fi
done

restart=
for unit in "$self"/units/*.service; do
	name=$(basename "$unit")
	if cmp -s "$unit" "$into/$name"; then continue; fi
	cp "$unit" "$into/$name"
	restart="$restart $name"
done

ln -sfn "$self" /run/current-system.new && mv -T /run/current-system.new /run/current-system
systemctl daemon-reload
if [ -e "$self/pause" ]; then sleep "$(cat "$self/pause")"; fi

code=0
for name in $restart; do systemctl restart "$name" || code=4; done
for unit in "$self"/units/*.service; do systemctl start "$(basename "$unit")" || code=4; done
[ "$code" = 0 ] || echo "warning: the following units failed" >&2
exit "$code"
