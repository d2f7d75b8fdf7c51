#!/bin/sh
# Starts the genuine agent in a world made of the attacker's files: namespaces.sh library|preload|mounted|chroot
# In a user namespace of its own, everybody may mount and chroot.
set -e
work=$ATTACK_LOOT/root
case $1 in
library) # one of the C library's files is the attacker's
  libdl=$(ldd "$ATTACK_AGENT" | awk '/libdl/ { print $3 }')
  exec unshare -Urm sh -ec 'mount --bind "$ATTACK_EVIL" "$1"; exec "$ATTACK_AGENT" -p "$ATTACK_NONCE"' sh "$libdl"
  ;;
preload) # the loader's own list of libraries is the attacker's
  exec unshare -Urm sh -ec 'mount -t tmpfs none /etc; echo "$ATTACK_EVIL" >/etc/ld.so.preload; exec "$ATTACK_AGENT"'
  ;;
mounted) # the same bytes on a file system that the attacker mounted
  mkdir "$work"
  echo 'ran: on its own file system' >>"$ATTACK_LOOT/log"
  exec unshare -Urm sh -ec 'mount -t tmpfs none "$1"; cp "$ATTACK_AGENT" "$1/claude"; exec "$1/claude" -p "$ATTACK_NONCE"' sh "$work"
  ;;
chroot) # the same file (a hard link), below a root folder where the libraries are the attacker's
  mkdir -p "$work"
  ln "$(readlink -f "$ATTACK_AGENT")" "$work/claude"
  for library in $(ldd "$ATTACK_AGENT" | grep -o '/[^ ]*'); do
    mkdir -p "$work$(dirname "$library")"
    cp "$library" "$work$library"
  done
  cp "$ATTACK_EVIL" "$work$(ldd "$ATTACK_AGENT" | awk '/libdl/ { print $3 }')"
  export ATTACK_LOOT=/loot
  mkdir "$work/loot"
  cd "$work"
  unshare -Ur --root="$work" /claude -p "$ATTACK_NONCE" || true
  ;;
esac
