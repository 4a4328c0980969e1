#!/bin/bash
# Makes the film that measurements play, once, and prints where it is.
#
#   scripts/film.sh SECONDS
#
# 2 Mbit/s: H.264 at 25 fps with B-frames, and AAC.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="$1"
film="target/floor/2mbit-${seconds}s.mp4"
if [[ ! -f $film ]]; then
    echo "film: making $film" >&2
    mkdir -p "$(dirname "$film")"
    # Noise keeps the encoder at its bit rate, whatever the picture.
    ffmpeg -hide_banner -loglevel error -nostdin -y \
        -f lavfi -i "testsrc2=size=960x540:rate=25:duration=$seconds,noise=alls=12:allf=t" \
        -f lavfi -i "aevalsrc=0.2*sin(2*PI*440*t)+0.1*random(0):s=48000:c=stereo:d=$seconds" \
        -map 0:v -map 1:a -c:v libx264 -profile:v main -pix_fmt yuv420p -preset ultrafast \
        -b:v 1880k -maxrate 1880k -bufsize 1880k -g 50 -keyint_min 50 -sc_threshold 0 -bf 2 \
        -c:a aac -b:a 120k -movflags +faststart "$film.part.mp4"
    mv "$film.part.mp4" "$film"
fi
echo "$film"
