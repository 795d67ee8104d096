#!/usr/bin/env bash
# Tests of onnxq-kernels on AArch64, under qemu.
#
#   tests/aarch64.sh                    all of them
#   tests/aarch64.sh --test product     arguments are those of `cargo test`
#   tests/aarch64.sh in DIR ...         `cargo test` in another folder, such as that of an emitted crate
#   tests/aarch64.sh setup              only fetches what they need
#   tests/aarch64.sh ready              says whether it is there
#
# Needed: an x86-64 machine with apt that reaches Debian's mirror, and the Rust of the workspace. Nothing is
# installed: a compiler with the standard library for both architectures (rustc-web), a linker, a C library and
# qemu are unpacked to target/aarch64 (240 MB to fetch, once) and run from there.
# Exits with 77 and a line "skipped: ..." where that is not possible.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly suite=trixie mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
readonly home=$PWD/target/aarch64
readonly root=$home/root ready=$home/ready-$suite

skip() {
    echo "skipped: $*"
    exit 77
}

# An apt of its own, which knows nothing of this machine's packages.
configure_apt() {
    mkdir -p "$home"/apt/{state/lists/partial,cache/archives/partial,etc/{apt.conf,preferences}.d}
    : >"$home/apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
        >"$home/apt/sources.list"
    cat >"$home/apt/apt.conf" <<EOF
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "$home/apt/state";
Dir::State::status "$home/apt/status";
Dir::Cache "$home/apt/cache";
Dir::Etc "$home/apt/etc";
Dir::Etc::SourceList "$home/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
EOF
    export APT_CONFIG=$home/apt/apt.conf
}

fetch() {
    apt-get -qq update || return
    local compiler
    compiler=$(apt-cache depends libstd-rust-web-dev:amd64 |
        awk '/Depends: libstd-rust-web-[0-9]/ { sub(/:.*/, "", $2); print $2; exit }')
    # With what they depend on.
    apt-get -qq install --download-only "$compiler" binutils-aarch64-linux-gnu >/dev/null || return
    # Without: a C compiler, documents, libraries of the compiler that runs on the other architecture.
    cd "$home/apt/cache/archives"
    apt-get -qq download rustc-web:amd64 libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 \
        libc6-dev-arm64-cross libgcc-14-dev-arm64-cross qemu-user:amd64
}

unpack() {
    local package
    rm -rf "$root"
    mkdir -p "$root"
    for package in "$home"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" |
            tar -x -C "$root" --wildcards --exclude='./usr/share/*' --exclude='./usr/bin/qemu-[!a]*' || return
    done
    rm -rf "$home/apt"
}

# Programs of another Debian run with its loader and libraries.
wrappers() {
    mkdir -p "$home/bin"
    cat >"$home/bin/rustc" <<'EOF'
#!/bin/sh
usr=${0%/*}/../root/usr lib=$usr/lib/x86_64-linux-gnu
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$usr/bin/rustc" "$@"
EOF
    # What a C compiler would add to link a static program.
    cat >"$home/bin/ld" <<'EOF'
#!/bin/sh
root=${0%/*}/../root usr=$root/usr lib=$usr/lib/x86_64-linux-gnu
c=$usr/aarch64-linux-gnu/lib gcc=$usr/lib/gcc-cross/aarch64-linux-gnu/14
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$usr/bin/aarch64-linux-gnu-ld.bfd" "--sysroot=$root" \
    -static "-L$c" "-L$gcc" "$c/crt1.o" "$c/crti.o" "$gcc/crtbeginT.o" "$@" \
    --start-group -lc -lgcc -lgcc_eh --end-group "$gcc/crtend.o" "$c/crtn.o"
EOF
    chmod +x "$home"/bin/*
}

if [ ! -e "$ready" ]; then
    [ "${1:-}" != ready ] || skip "nothing to compile for AArch64 with; tests/aarch64.sh setup fetches it"
    [ "$(uname -m)" = x86_64 ] || skip "x86-64 is needed; on AArch64 'cargo test -p onnxq-kernels' does it"
    for program in apt-get apt-cache dpkg-deb; do
        command -v "$program" >/dev/null || skip "$program is needed"
    done
    configure_apt
    (fetch) || skip "packages of Debian cannot be fetched from $mirror"
    unpack
    wrappers
    touch "$ready"
fi
case ${1:-} in setup | ready) exit 0 ;; esac

target=CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC_WRAPPER
export RUSTC=$home/bin/rustc CARGO_TARGET_DIR=$home/build CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
# Emulation is slow: optimize.
export CARGO_PROFILE_DEV_OPT_LEVEL=2
export ${target}_LINKER="$home/bin/ld" ${target}_RUNNER="$root/usr/bin/qemu-aarch64 -cpu max"
export ${target}_RUSTFLAGS="-C linker-flavor=ld -C target-feature=+crt-static -C relocation-model=static"
if [ "${1:-}" = in ]; then
    cd "$2"
    exec cargo test "${@:3}"
fi
[ $# -gt 0 ] || set -- --lib --tests
cargo test --locked -p onnxq-kernels "$@"
