#!/usr/bin/env bash
# Installs what building needs and this machine lacks (--for-demo, --for-tests, --for-vm, --for-peers: those too). Quick when nothing is missing.
# Debian, Ubuntu: apt-get. Fedora: dnf. Elsewhere it says what is needed.
set -euo pipefail

missing=()
have() { command -v "$1" >/dev/null 2>&1; }
want() { # want CHECK... -- DEBIAN-PACKAGE FEDORA-PACKAGE
  local check=()
  while [ "$1" != -- ]; do check+=("$1"); shift; done
  "${check[@]}" >/dev/null 2>&1 || { have dnf && missing+=("$3") || missing+=("$2"); }
}
library() { ldconfig -p | grep "$1" >/dev/null; } # -q would end ldconfig early, which counts as a failure
new_python() { /usr/bin/python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; }
any_font() { find /usr/share/fonts -name '*.ttf' -print -quit | grep -q .; }
static_libc() { echo 'int main(void){return 0;}' | cc -static -x c - -o /dev/null; }

installable_kernel() { # what the meta package asks for may not be on the mirror yet: then the newest that is there
  local name
  for name in linux-image-amd64 linux-image-generic; do
    apt-get install -s --no-install-recommends "$name" >/dev/null 2>&1 && echo "$name" && return
  done
  apt-cache search --names-only '^linux-image-[0-9.]+-[0-9]+-(amd64|generic)$' | cut -d' ' -f1 | sort -V | tail -1
}

vm_kernel() { # the release that tests/vm boots
  ls -t /boot/vmlinuz-* 2>/dev/null | head -1 | sed 's|^/boot/vmlinuz-||'
}

vm_headers() { # of the kernel that is there, if they still are to be had; else of the one that is installed with them
  if apt-cache show "linux-headers-$(vm_kernel)" >/dev/null 2>&1; then
    echo "linux-headers-$(vm_kernel)"
  else
    echo "$(installable_kernel) $(installable_kernel | sed 's/^linux-image/linux-headers/')"
  fi
}

docker_client() { # a package of its own, where there is one
  apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli || echo docker.io
}

keep_sshd_off() { # the tests start their own: what is installed for them must not open the machine to anybody, at the next boot neither
  [ -d /run/systemd/system ] && systemctl mask --quiet ssh.service ssh.socket sshd.service || true
}

want have clang -- clang clang
want have llvm-strip -- llvm llvm
want have cc -- gcc gcc
want static_libc -- libc6-dev glibc-static
want test -f /usr/include/bpf/bpf_helpers.h -- libbpf-dev libbpf-devel
want library libbpf.so.1 -- libbpf1 libbpf
want new_python -- python3-venv python3
case "${1:-}" in
  --for-demo) want have npm -- npm npm ;;
  --for-tests)
    want have npm -- npm npm
    want have dbus-daemon -- dbus dbus-daemon
    want have dunst -- dunst dunst
    want have Xvfb -- xvfb xorg-x11-server-Xvfb
    want test -x /lib/systemd/systemd-journald -- systemd systemd
    want have gnome-keyring-daemon -- gnome-keyring gnome-keyring
    want have systemd-creds -- systemd systemd
    want have openssl -- openssl openssl
    want have chromium -- chromium chromium
    want any_font -- fonts-dejavu-core dejavu-sans-fonts
    want have git -- git git-core
    want have curl -- curl curl
    want have setfacl -- acl acl
    want have perl -- perl perl
    want have ruby -- ruby ruby
    want have fuse2fs -- fuse2fs fuse2fs
    want have stow -- stow stow
    want have ssh-keygen -- openssh-client openssh
    want have mkfs.ext4 -- e2fsprogs e2fsprogs
    want have gh -- gh gh
    want test -x /usr/bin/gdb -- gdb gdb
    want have rpmbuild -- rpm rpm-build
    want test -f /usr/lib/python3/dist-packages/bcc/__init__.py -- python3-bpfcc python3-bcc
    # what tests/e2e/noise runs: programs that read whole homes, and those that own credential files
    want have rg -- ripgrep ripgrep
    want test -x /usr/sbin/updatedb.plocate -- plocate plocate
    want have rsync -- rsync rsync
    want test -x /usr/bin/ssh-add -- openssh-client openssh-clients
    test -x /usr/sbin/sshd || keep_sshd_off
    want test -x /usr/sbin/sshd -- openssh-server openssh-server
    want test -x /usr/bin/aws -- awscli awscli2
    want test -x /usr/bin/docker -- docker.io moby-engine
    want test -x /usr/bin/kubectl -- kubernetes-client kubernetes-client
    want test -x /usr/bin/cargo -- cargo-web cargo
    ;;
  --for-peers)
    want test -x /usr/sbin/auditctl -- auditd audit
    want test -x /usr/sbin/fatrace -- fatrace fatrace
    want have bpftrace -- bpftrace bpftrace
    ;;
  --for-vm)
    want have qemu-system-x86_64 -- qemu-system-x86 qemu-system-x86-core
    want have busybox -- busybox-static busybox
    want have script -- bsdutils util-linux
    want have mkfs.ext4 -- e2fsprogs e2fsprogs
    want have mkfs.btrfs -- btrfs-progs btrfs-progs
    want have modprobe -- kmod kmod
    want compgen -G '/boot/vmlinuz-*' -- linux-image-amd64 kernel-core
    want test -d "/lib/modules/$(vm_kernel)/build/include" -- linux-headers-amd64 kernel-devel
    ;;
esac

[ "${#missing[@]}" -eq 0 ] && exit 0
echo "installing: ${missing[*]}"
if have apt-get; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  [[ " ${missing[*]} " == *" linux-image-amd64 "* ]] && missing=("${missing[@]/#linux-image-amd64/$(installable_kernel)}")
  # shellcheck disable=SC2207 # names of packages
  [[ " ${missing[*]} " == *" linux-headers-amd64 "* ]] && missing=("${missing[@]/#linux-headers-amd64}" $(vm_headers))
  [[ " ${missing[*]} " == *" docker-cli "* ]] && missing=("${missing[@]/#docker-cli/$(docker_client)}")
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
elif have dnf; then
  dnf install -y -q "${missing[@]}"
else
  echo "install these by hand, they are needed: ${missing[*]}" >&2
  exit 1
fi
