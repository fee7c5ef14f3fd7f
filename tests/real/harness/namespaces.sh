#!/usr/bin/env bash
# A machine of its own for one test: fresh mount, network, pid, ipc, uts and cgroup namespaces, so that fixed ports and
# paths collide with nothing. Every filesystem of the host is read-only in it, and /tmp, /run, /dev and
# /root are its own; /etc and /var can be written to, and forget it. Whatever is started inside, the host does not notice.
#   namespaces.sh DIR idle       PID 1 does nothing; the test runs prebind and clients inside
#   namespaces.sh DIR systemd    PID 1 is systemd; it loads the units of DIR/units and no others
# DIR/bin is found as /usr/local/sbin. Prints PID 1's pid as it is outside once all is prepared; what PID 1 says goes to
# DIR/console, as services do with StandardOutput=kmsg. All ends with this script's standard input. Needs root.
set -eu
if [ "$1" != --inside ]; then
  dir=$1 kind=$2
  [ "${3-}" = --unshared ] || exec unshare --mount --net --uts --ipc --propagation private "$0" "$dir" "$kind" --unshared
  # systemd logs to a kernel log, or to a terminal; a pipe can stand for the first.
  mkfifo "$dir/kmsg"
  cat <>"$dir/kmsg" >>"$dir/console" &
  log=$!
  tree=$dir/cgroup
  mkdir "$tree"
  mount -t cgroup2 none "$tree"
  own=$tree/$(basename "$dir")
  mkdir "$own"
  echo 0 >"$own/cgroup.procs"
  unshare --mount --propagation private --cgroup --pid --fork --kill-child=SIGKILL "$0" --inside "$dir" "$kind" </dev/null &
  machine=$!
  cat >/dev/null # until the test lets go
  kill -KILL "$machine" "$log" 2>/dev/null || true
  wait "$machine" 2>/dev/null || true
  echo 0 >"$tree/cgroup.procs"
  # Its processes are dead, but the kernel may still be busy with their end.
  for _ in $(seq 500); do
    find "$own" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ -d "$own" ] || break
    sleep .01
  done
  exit
fi

dir=$2 kind=$3
read -r pid _ </proc/self/stat # the old /proc still
umount "$dir/cgroup"
umount -R /sys/fs/cgroup 2>/dev/null || true

# Nothing of the host stays writable. What cannot be made read-only ends the script here.
while read -r _ _ _ _ target _; do
  target=$(printf '%b' "$target") # spaces are written in octal
  case $target in /proc | /proc/* | /dev | /dev/*) continue ;; esac
  [ ! -e "$target" ] || mount -o remount,bind,ro "$target"
done </proc/self/mountinfo
mount -t proc proc /proc
for path in /proc/sys /proc/sysrq-trigger; do
  [ -e "$path" ] || continue
  mount --bind "$path" "$path"
  mount -o remount,bind,ro "$path"
done
mount -t cgroup2 none /sys/fs/cgroup

mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/user /run/.box /run/.dev /run/.over
mount --bind "$dir" /run/.box
mount -o remount,bind,rw /run/.box
for place in etc var; do
  mkdir "/run/.over/$place" "/run/.over/$place.work"
  mount -t overlay -o "lowerdir=/$place,upperdir=/run/.over/$place,workdir=/run/.over/$place.work" overlay "/$place"
done
ln -sfn /run /var/run
mount -t tmpfs -o mode=755 tmpfs /usr/local/sbin
[ ! -d /run/.box/bin ] || cp -a /run/.box/bin/. /usr/local/sbin
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount -t tmpfs -o mode=700 tmpfs /root

mount -t tmpfs -o mode=755 tmpfs /run/.dev
for node in null zero full random urandom tty; do
  : >"/run/.dev/$node"
  mount --bind "/dev/$node" "/run/.dev/$node"
done
mkdir /run/.dev/shm /run/.dev/pts
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /run/.dev/pts
ln -s pts/ptmx /run/.dev/ptmx
: >/run/.dev/kmsg
mount --bind /run/.box/kmsg /run/.dev/kmsg
ln -s /proc/self/fd /run/.dev/fd
mount --rbind /run/.dev /dev
# Not every machine has ip.
ip link set lo up 2>/dev/null || python3 -c "
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14x', b'lo', 0x41))"

if [ "$kind" = systemd ]; then
  units=/run/units
  mkdir "$units"
  cp -a /run/.box/units/. "$units"
  # The least that systemd wants to find. Its own units stay out: they would set up a machine, and clean its /tmp.
  for target in sysinit basic sockets timers paths slices multi-user shutdown umount exit final local-fs network; do
    printf '[Unit]\nDefaultDependencies=no\n' >"$units/$target.target"
  done
  printf '[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n' >"$units/box.target"
fi
umount /run/.box
# What stood at the path of DIR is this machine's own /tmp now, or read-only.
echo "$pid"
exec >/dev/kmsg 2>&1
if [ "$kind" = systemd ]; then
  exec env -i container=box PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    SYSTEMD_UNIT_PATH="$units" SYSTEMD_GENERATOR_PATH=/nonexistent SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nonexistent \
    SYSTEMD_PROC_CMDLINE= /lib/systemd/systemd --system --unit=box.target --log-level=info --log-target=kmsg --show-status=0
fi
trap '' CHLD # survives the exec: orphans are reaped by the kernel
exec sleep infinity
