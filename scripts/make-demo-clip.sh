#!/bin/bash
# Makes the built-in clip, src/library/demo.mp4, from ffmpeg's test sources alone.
#
#   20 s, 640x360 at 25 fps, H.264 High with B-frames and a key frame each second,
#   48 kHz stereo AAC: a tone, and a beep at each full second, so that a viewer hears
#   whether picture and sound are in step.
#
# The picture is ffmpeg's `testsrc2` (moving shapes and a timer), with a large clock over it that
# counts hours to milliseconds of the presentation. `+faststart` puts the index first.
# The clip is kept under 400 KiB because it is compiled into the program.
set -euo pipefail

out="${1:-$(dirname "$0")/../src/library/demo.mp4}"
limit_bytes=$((400 * 1024))
seconds=20

# %{pts\:hms} is the time of the picture itself, not of the wall: 00:00:12.480.
clock="drawtext=font=DejaVuSansMono:text='%{pts\\:hms}':fontsize=72:fontcolor=white"
clock+=":box=1:boxcolor=black:boxborderw=12:x=(w-tw)/2:y=(h-th)/2"

# 440 Hz left and 660 Hz right, softly; 1 kHz for 80 ms at each full second on both.
beep="0.5*sin(2*PI*1000*t)*lt(mod(t\\,1)\\,0.08)"
tone="aevalsrc=0.08*sin(2*PI*440*t)+$beep|0.08*sin(2*PI*660*t)+$beep:s=48000:d=$seconds"

ffmpeg -hide_banner -loglevel error -nostdin -y \
    -f lavfi -i "testsrc2=size=640x360:rate=25:duration=$seconds,$clock" \
    -f lavfi -i "$tone" \
    -map 0:v -map 1:a -map_metadata -1 \
    -c:v libx264 -profile:v high -pix_fmt yuv420p -preset veryslow -threads 1 \
    -b:v 100k -maxrate 150k -bufsize 300k \
    -g 25 -keyint_min 25 -sc_threshold 0 -bf 2 \
    -c:a aac -b:a 40k -ac 2 \
    -metadata title="headend test clip" \
    -movflags +faststart -fflags +bitexact \
    "$out"

bytes=$(stat -c %s "$out")
if ((bytes > limit_bytes)); then
    echo "make-demo-clip: $out has $bytes bytes, more than $limit_bytes" >&2
    exit 1
fi
echo "make-demo-clip: $out has $bytes bytes"
