#!/bin/bash
# Installs what the tests need on a fresh Debian (12 or later) machine, as root, if it is missing.
#
#   ffmpeg                   makes the media of the tests, plays it, decodes it
#   gstreamer1.0-*           plays it: rtspsrc (plugins-good), depayloaders, decoders; publishes it:
#                            rtspclientsink (gstreamer1.0-rtsp); plays by WHEP: webrtcbin with
#                            python3-gi
#   glib-networking          TLS of GStreamer
#   gcc, pkg-config          the linker that cargo calls
#   iproute2                 narrows a route in a network namespace
#   nftables                 drops packets in a network namespace
#   util-linux               makes that namespace
#   postgresql               ledgers of bases that stand by for each other; tests start a server of
#                            their own
#   chromium                 shows the page for operators, without a window; its letters are those of
#                            fonts-liberation
#   curl, rclone, cadaver    clients of WebDAV that bring files to a base
#   chromium                 a browser that plays HLS in the page, without a window
#   man-db, dpkg-dev         format the man pages; find what the program's package depends on
#   cargo-machete            finds dependencies that no code names; cargo builds it, once
#   cargo-deny               checks licences and sources of dependencies; cargo builds it, once,
#                            unoptimised: that takes two minutes
#   cargo-deb                makes the package for Debian; built in the same way
#
# Quick when all is there: it only looks. Rust itself is not installed: see README.
set -euo pipefail

say() { echo "test-setup: $*"; }

# What is looked for, and the Debian package that has it.
declare -A commands=(
    [ffmpeg]=ffmpeg
    [ffprobe]=ffmpeg
    [gst-launch-1.0]=gstreamer1.0-tools
    [gst-inspect-1.0]=gstreamer1.0-tools
    [cc]=gcc
    [ip]=iproute2
    [nft]=nftables
    [unshare]=util-linux
    [curl]=curl
    [chromium]=chromium
    [rclone]=rclone
    [cadaver]=cadaver
    [man]=man-db
    [chromium]=chromium
    [dpkg-shlibdeps]=dpkg-dev
)
declare -A elements=(
    [decodebin]=gstreamer1.0-plugins-base
    [rtspsrc]=gstreamer1.0-plugins-good
    [rtspclientsink]=gstreamer1.0-rtsp
    [rtph264depay]=gstreamer1.0-plugins-good
    [souphttpsrc]=gstreamer1.0-plugins-good
    [hlsdemux2]=gstreamer1.0-plugins-good
    [hlsdemux]=gstreamer1.0-plugins-bad
    [qtmux]=gstreamer1.0-plugins-good
    [vp8enc]=gstreamer1.0-plugins-good
    [rtspclientsink]=gstreamer1.0-rtsp
    [mpeg4videoparse]=gstreamer1.0-plugins-bad
    [checksumsink]=gstreamer1.0-plugins-bad
    [srtpdec]=gstreamer1.0-plugins-bad
    [webrtcbin]=gstreamer1.0-plugins-bad
    [nicesrc]=gstreamer1.0-nice
    [avdec_h264]=gstreamer1.0-libav
    [avdec_aac]=gstreamer1.0-libav
)

missing_packages() {
    local name
    for name in "${!commands[@]}"; do
        command -v "$name" >/dev/null || echo "${commands[$name]}"
    done
    for name in "${!elements[@]}"; do
        # Without gst-inspect nothing is known yet: take them all.
        # Any version: that of libnice is not GStreamer's.
        if ! command -v gst-inspect-1.0 >/dev/null ||
            ! gst-inspect-1.0 --exists --atleast-version=0.0 "$name"; then
            echo "${elements[$name]}"
        fi
    done
    # GLib's TLS is a module that no program of its own shows.
    compgen -G "/usr/lib/*/gio/modules/libgio*tls.so" >/dev/null || echo glib-networking
    # What drives webrtcbin.
    compgen -G "/usr/lib/python3/dist-packages/gi" >/dev/null || echo python3-gi
    compgen -G "/usr/lib/*/girepository-1.0/GstWebRTC-1.0.typelib" >/dev/null ||
        echo gir1.2-gst-plugins-bad-1.0
    # A browser without any font shows none of them.
    compgen -G "/usr/share/fonts/truetype/liberation*/*.ttf" >/dev/null || echo fonts-liberation
    # Debian keeps these programs off the path.
    command -v initdb >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null ||
        echo postgresql
}

missing=$(missing_packages | sort -u)
if [[ -n $missing ]]; then
    say "missing:" $missing
    if ((EUID != 0)); then
        say "run this as root, or install them: apt-get install" $missing >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
    still=$(missing_packages | sort -u)
    if [[ -n $still ]]; then
        say "still missing after apt-get install:" $still >&2
        exit 1
    fi
fi

for tool in cargo rustc; do
    if ! command -v $tool >/dev/null; then
        say "$tool is missing: install Rust from https://rustup.rs" >&2
        exit 1
    fi
done
for component in clippy fmt; do
    if ! cargo $component --version >/dev/null 2>&1; then
        name=${component/#fmt/rustfmt}
        say "$name is missing: rustup component add $name" >&2
        exit 1
    fi
done

if ! cargo machete --version >/dev/null 2>&1; then
    say "building cargo-machete"
    if ! cargo install --quiet --locked cargo-machete --version "^0.9"; then
        say "cargo-machete cannot be built: unused dependencies are not looked for"
    fi
fi
if ! cargo deny --version >/dev/null 2>&1; then
    say "building cargo-deny"
    if ! cargo install --quiet --locked --debug cargo-deny --version "^0.20"; then
        say "cargo-deny cannot be built: licences and sources of dependencies are not checked"
    fi
fi

if ! cargo deb --version >/dev/null 2>&1; then
    say "building cargo-deb"
    if ! cargo install --quiet --locked --debug cargo-deb --version "^3.8" --no-default-features; then
        say "cargo-deb cannot be built: the package for Debian is not tested"
    fi
fi

# Players of the tests ask for receive buffers that hold a whole key frame. Where this may not be
# set (a container), the kernel gives them less, and a busy machine may then lose packets in them.
rmem_max=8388608
if (($(cat /proc/sys/net/core/rmem_max 2>/dev/null || echo $rmem_max) < rmem_max)); then
    if ! echo $rmem_max 2>/dev/null >/proc/sys/net/core/rmem_max; then
        say "net.core.rmem_max stays small; better: sudo sysctl -w net.core.rmem_max=$rmem_max"
    fi
fi
say "ready"
