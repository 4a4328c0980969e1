#!/bin/bash
# Makes what is installed elsewhere: a package for Debian, a static program, a container's folder.
#
#   scripts/package.sh deb          target/package/headend_VERSION_ARCH.deb        (cargo-deb)
#   scripts/package.sh static       target/package/headend-static                  (no libraries)
#   scripts/package.sh container    target/package/container/: Containerfile, the static program,
#                                   seccomp.json, names of its user; podman build -t headend DIR
#
#   PACKAGE_DEBUG=1          of the debug build that is there, not stripped: quick, for tests
#   PACKAGE_DIR=DIR          instead of target/package
#
# Man pages, completions and the profile come out of the program itself (headend generate). What is
# missing is named: scripts/test-setup.sh installs cargo-deb.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "package: $*" >&2; }
fail() { say "$*"; exit 1; }

target_dir="${CARGO_TARGET_DIR:-target}"
out="${PACKAGE_DIR:-$target_dir/package}"
if [[ -n ${PACKAGE_DEBUG:-} ]]; then
    profile=dev folder=debug
else
    profile=release folder=release
fi
mkdir -p "$out"

# generate PROGRAM: what the assets of Cargo.toml name.
generate() {
    rm -rf "$target_dir/package/man" "$target_dir/package/completions"
    "$1" generate "$target_dir/package"
    cmp --silent "$target_dir/package/seccomp.json" tuning/seccomp.json ||
        fail "tuning/seccomp.json is not what the program says: copy $target_dir/package/seccomp.json"
}

make_deb() {
    cargo deb --version >/dev/null 2>&1 || fail "cargo-deb is missing: cargo install cargo-deb"
    [[ $profile == dev ]] || cargo build --quiet --release -p headend --bin headend
    generate "$target_dir/$folder/headend"
    local options=(--quiet --package headend --no-build --profile "$profile" --output "$out")
    # Compressed well or soon.
    [[ $profile == release ]] || options+=(--no-strip --fast)
    cargo deb "${options[@]}"
    ls "$out"/*.deb
}

# By glibc: glommio does not compile for musl (its timers are pointers there, which no thread may have).
make_static() {
    local triple
    triple="$(uname -m)-unknown-linux-gnu"
    # --target keeps the flag from macros and build scripts, which are not static.
    RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --quiet --profile "$profile" -p headend --bin headend --target "$triple"
    cp "$target_dir/$triple/$folder/headend" "$out/headend-static"
    [[ $profile == dev ]] || strip "$out/headend-static"
    ls "$out/headend-static"
}

make_container() {
    [[ -x $out/headend-static ]] || make_static
    local image="$out/container"
    rm -rf "$image"
    mkdir -p "$image/etc"
    cp "$out/headend-static" "$image/headend"
    cp tuning/Containerfile "$image/Containerfile"
    "$image/headend" generate "$image/generated"
    mv "$image/generated/seccomp.json" "$image/seccomp.json"
    rm -r "$image/generated"
    echo "nobody:x:65534:65534:nobody:/:/nonexistent" >"$image/etc/passwd"
    echo "nogroup:x:65534:" >"$image/etc/group"
    echo "hosts: files dns" >"$image/etc/nsswitch.conf"
    ls -d "$image"
}

case "${1:-}" in
deb) make_deb ;;
static) make_static ;;
container) make_container ;;
*) fail "scripts/package.sh deb|static|container" ;;
esac
