//! The media matrix: one small file per codec and container feature, made by ffmpeg on first use
//! and kept under `target/tmp/matrix`, named by the hash of its recipe.
//!
//! ```text
//! for_each_title! --> one #[test] per title --> title("h265_hvc1_mp4") --> ffmpeg --> file
//! ```
//! Bound: two to four seconds each, so that the whole matrix plays in real time side by side.
//! A title without a test, or a test without a title, does not compile or fails by name.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::boxes;
use super::process::run;

/// Codec of a served track: decides how a player's copy of it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    H264,
    H265,
    Mpeg4,
    Mjpeg,
    Vp8,
    Vp9,
    Av1,
    Aac,
    Mp3,
    Opus,
    Pcmu,
    Pcma,
    L16,
    L24,
    Ac3,
    Eac3,
}

type Rework = fn(&[u8]) -> Vec<u8>;

/// A file of the matrix.
#[derive(Debug)]
pub(crate) struct Title {
    pub(crate) name: &'static str,
    /// File name extension: container by its usual name.
    extension: &'static str,
    /// Title that ffmpeg reads as its input, instead of test sources.
    from: Option<&'static str>,
    /// ffmpeg's arguments, without input `from` and output.
    args: &'static str,
    /// GStreamer pipeline up to the file, where ffmpeg cannot make it.
    pipeline: Option<&'static str>,
    /// What no muxer can be told to write.
    rework: Option<Rework>,
    /// Tracks that must be served: ffmpeg's stream number in the file, and codec.
    pub(crate) served: &'static [(u32, Kind)],
}

impl Title {
    /// Makes the file unless it is there; returns where it is.
    pub(crate) fn file(&self) -> PathBuf {
        // One at a time: tests of one title over two transports start together.
        static MAKING: Mutex<()> = Mutex::new(());
        let file = self.path();
        let input = self.from.map(|name| title(name).file());
        let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if !file.exists() {
            self.make(input.as_deref(), &file);
        }
        file
    }

    fn path(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (self.args, self.from, self.pipeline).hash(&mut hasher);
        let hash = hasher.finish() & 0xffff_ffff;
        let folder = super::scratch().join("matrix");
        std::fs::create_dir_all(&folder).unwrap();
        folder.join(format!("{}.{hash:08x}.{}", self.name, self.extension))
    }

    fn make(&self, input: Option<&Path>, file: &Path) {
        let part = file.with_extension(format!("part.{}", self.extension));
        match self.pipeline {
            Some(pipeline) => launch(pipeline, input, &part),
            None => self.encode(input, &part),
        }
        if let Some(rework) = self.rework {
            let bytes = std::fs::read(&part).unwrap();
            std::fs::write(&part, rework(&bytes)).unwrap();
        }
        std::fs::rename(&part, file).unwrap();
    }

    fn encode(&self, input: Option<&Path>, part: &Path) {
        let mut args: Vec<_> = "-hide_banner -loglevel error -nostdin -y -fflags +bitexact"
            .split(' ')
            .map(ToOwned::to_owned)
            .collect();
        for word in self.args.split_whitespace() {
            match (word, input) {
                ("INPUT", Some(input)) => args.push(input.to_string_lossy().into_owned()),
                _ => args.push(word.to_owned()),
            }
        }
        args.push(part.to_string_lossy().into_owned());
        run("ffmpeg", &args);
    }
}

/// Runs a GStreamer pipeline into a file.
fn launch(pipeline: &str, input: Option<&Path>, part: &Path) {
    let input = input.map_or_else(String::new, |input| input.display().to_string());
    let pipeline = pipeline.replace("INPUT", &input);
    let all = format!("-q {pipeline} ! filesink location={}", part.display());
    run("gst-launch-1.0", &all.split_whitespace().collect::<Vec<_>>());
}

/// The title `name`.
pub(crate) fn title(name: &str) -> &'static Title {
    TITLES.iter().find(|title| title.name == name).unwrap_or_else(|| panic!("no title {name}"))
}

/// Calls the macro `$test` with the name of every title that players of today can receive.
/// `matrix_is_complete` in `interop/ffmpeg.rs` fails when one is missing here.
#[macro_export]
macro_rules! for_each_title {
    ($test:ident) => {
        $test! {
            h264_aac_faststart_mp4
            h264_aac_moov_last_mp4
            h264_aac_mov
            h264_aac_3gp
            mpeg4_aac_3gp
            h264_aac_fragmented_mp4
            h264_aac_fragmented_with_samples_in_moov_mp4
            h264_aac_one_fragment_per_frame_mp4
            h264_aac_co64_mp4
            h264_aac_empty_edit_mp4
            h264_b_frames_mp4
            h264_open_gop_mp4
            h264_variable_frame_rate_mp4
            h264_slices_mp4
            h264_baseline_in_band_parameter_sets_mp4
            h264_three_audio_tracks_mp4
            h264_cover_picture_first_mp4
            h264_frames_over_100_packets_mp4
            h264_hinted_mov
            h264_hinted_b_frames_mp4
            h265_hvc1_mp4
            h265_hev1_mp4
            aac_m4a
            aac_mono_44100_m4a
            opus_mp4
            opus_mono_mp4
            mp3_mp4
            mp3_mov
            mp3_low_rate_mp4
            pcmu_mov
            pcma_mov
            pcma_stereo_16000_mov
            pcm_sowt_mov
            pcm_twos_44100_mov
            pcm_in24_mov
            pcm_in24_little_endian_mov
            pcm_lpcm_96000_mov
            h264_pcm_sowt_mov
            ac3_mov
            ac3_fragmented_frames_mp4
            mpeg4_part2_mp4
            mpeg4_part2_b_frames_mp4
            mjpeg_420_mov
            mjpeg_422_mov
            vp8_mov
            vp9_mp4
            alac_left_out_mp4
        }
    };
}

use Kind::{
    Aac, Ac3, Av1, Eac3, H264, H265, L16, L24, Mjpeg, Mp3, Mpeg4, Opus, Pcma, Pcmu, Vp8, Vp9,
};

/// Test picture and test tone of three seconds.
macro_rules! av {
    ($rest:literal) => {
        concat!(
            "-f lavfi -i testsrc2=size=320x240:rate=25:duration=3 ",
            "-f lavfi -i sine=frequency=440:beep_factor=4:sample_rate=48000:duration=3 ",
            $rest
        )
    };
}
/// Test picture alone.
macro_rules! video {
    ($rest:literal) => {
        concat!("-f lavfi -i testsrc2=size=320x240:rate=25:duration=3 ", $rest)
    };
}
/// Test tone alone.
macro_rules! audio {
    ($rest:literal) => {
        concat!("-f lavfi -i sine=frequency=440:beep_factor=4:sample_rate=48000:duration=3 ", $rest)
    };
}

const fn plain(
    name: &'static str,
    extension: &'static str,
    served: &'static [(u32, Kind)],
    args: &'static str,
) -> Title {
    Title { name, extension, from: None, args, pipeline: None, rework: None, served }
}

const H264_AAC: &[(u32, Kind)] = &[(0, H264), (1, Aac)];

/// Every title of the matrix.
pub(crate) const TITLES: &[Title] = &[
    plain(
        "h264_aac_faststart_mp4",
        "mp4",
        H264_AAC,
        av!("-c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac -ac 2 -movflags +faststart"),
    ),
    plain(
        "h264_aac_moov_last_mp4",
        "mp4",
        H264_AAC,
        av!("-c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac -ac 2"),
    ),
    plain(
        "h264_aac_mov",
        "mov",
        H264_AAC,
        av!("-c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac -ac 2"),
    ),
    plain(
        "h264_aac_3gp",
        "3gp",
        H264_AAC,
        av!("-c:v libx264 -profile:v baseline -pix_fmt yuv420p -g 25 -c:a aac -ac 1"),
    ),
    plain(
        "mpeg4_aac_3gp",
        "3gp",
        &[(0, Mpeg4), (1, Aac)],
        av!("-c:v mpeg4 -b:v 400k -g 25 -c:a aac -ac 1"),
    ),
    plain(
        "h264_aac_fragmented_mp4",
        "mp4",
        H264_AAC,
        av!("-c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac -ac 2 \
             -movflags +frag_keyframe+empty_moov+default_base_moof"),
    ),
    // Without empty_moov the first group of pictures is described by moov, the rest by moof boxes
    // with base offsets in tfhd.
    plain(
        "h264_aac_fragmented_with_samples_in_moov_mp4",
        "mp4",
        H264_AAC,
        av!("-c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac -ac 2 -movflags +frag_keyframe"),
    ),
    plain(
        "h264_aac_one_fragment_per_frame_mp4",
        "mp4",
        H264_AAC,
        av!("-c:v libx264 -preset veryfast -g 25 -bf 0 -c:a aac -ac 2 \
             -movflags +frag_every_frame+empty_moov+default_base_moof+separate_moof"),
    ),
    // ffmpeg writes co64 only past 4 GiB, so the tables are widened here. moov is last: making it
    // larger moves no sample.
    Title {
        rework: Some(boxes::stco_to_co64),
        ..plain(
            "h264_aac_co64_mp4",
            "mp4",
            H264_AAC,
            av!("-c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac -ac 2 -map_metadata -1"),
        )
    },
    // The audio begins half a second after the picture: an empty edit.
    plain(
        "h264_aac_empty_edit_mp4",
        "mp4",
        H264_AAC,
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=3 -itsoffset 0.5 \
         -f lavfi -i sine=frequency=440:sample_rate=48000:duration=2.5 \
         -c:v libx264 -preset veryfast -g 25 -bf 2 -c:a aac -ac 2",
    ),
    // Cut at 0.5 s without encoding again: the file keeps the samples from the key frame on, and
    // the edit list says that the first half second is to be decoded, but not shown.
    Title {
        from: Some("h264_aac_faststart_mp4"),
        ..plain(
            "h264_aac_trimmed_by_edit_list_mp4",
            "mp4",
            H264_AAC,
            "-ss 0.5 -i INPUT -map 0 -c copy",
        )
    },
    plain(
        "h264_b_frames_mp4",
        "mp4",
        &[(0, H264)],
        video!(
            "-c:v libx264 -preset medium -x264-params bframes=8:b-adapt=0:b-pyramid=normal \
                -g 50"
        ),
    ),
    plain(
        "h264_open_gop_mp4",
        "mp4",
        &[(0, H264)],
        video!(
            "-c:v libx264 -preset veryfast \
                -x264-params open-gop=1:bframes=3:b-adapt=0:keyint=25:min-keyint=25:scenecut=0"
        ),
    ),
    plain(
        "h264_variable_frame_rate_mp4",
        "mp4",
        &[(0, H264)],
        video!(
            "-vf select=not(mod(n\\,3))+lt(mod(n\\,11)\\,2) -fps_mode vfr \
                -c:v libx264 -preset veryfast -g 25 -bf 2"
        ),
    ),
    plain(
        "h264_slices_mp4",
        "mp4",
        &[(0, H264)],
        video!("-c:v libx264 -preset veryfast -slices 4 -aud 1 -g 25 -bf 0"),
    ),
    // Small single-NAL samples and parameter sets in front of each key frame.
    plain(
        "h264_baseline_in_band_parameter_sets_mp4",
        "mp4",
        &[(0, H264)],
        video!(
            "-s 176x144 -c:v libx264 -profile:v baseline -pix_fmt yuv420p \
                -x264-params repeat-headers=1 -g 10"
        ),
    ),
    plain(
        "h264_three_audio_tracks_mp4",
        "mp4",
        &[(0, H264), (1, Aac), (2, Aac), (3, Opus)],
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=3 \
         -f lavfi -i sine=frequency=440:sample_rate=48000:duration=3 \
         -f lavfi -i sine=frequency=550:sample_rate=44100:duration=3 \
         -f lavfi -i sine=frequency=660:sample_rate=48000:duration=3 \
         -map 0:v -map 1:a -map 2:a -map 3:a -c:v libx264 -preset veryfast -g 25 -bf 2 \
         -c:a:0 aac -c:a:1 aac -c:a:2 libopus -metadata:s:a:0 language=eng \
         -metadata:s:a:1 language=deu -metadata:s:a:2 language=fra",
    ),
    // A cover as the first and default video track: only the film is offered.
    plain(
        "h264_cover_picture_first_mp4",
        "mp4",
        &[(1, H264)],
        video!(
            "-f lavfi -i testsrc=size=160x120:rate=25:duration=0.04 -map 1:v -map 0:v \
                -c:v:0 mjpeg -huffman default -pix_fmt:v:0 yuvj420p -disposition:v:0 default \
                -c:v:1 libx264 -preset:v:1 veryfast -disposition:v:1 0"
        ),
    ),
    // About 250 KiB a frame: far over 100 packets, and over a default receive buffer.
    plain(
        "h264_frames_over_100_packets_mp4",
        "mp4",
        &[(0, H264)],
        "-f lavfi -i testsrc2=size=1280x720:rate=5:duration=3,noise=alls=40:allf=t \
         -c:v libx264 -preset ultrafast -qp 32 -g 1 -pix_fmt yuv420p",
    ),
    plain(
        "h264_hinted_mov",
        "mov",
        &[(0, H264)],
        video!("-c:v libx264 -preset veryfast -g 25 -bf 0 -movflags +rtphint"),
    ),
    plain(
        "h264_hinted_b_frames_mp4",
        "mp4",
        &[(0, H264)],
        video!("-c:v libx264 -preset veryfast -g 25 -bf 2 -movflags +rtphint"),
    ),
    plain(
        "h264_aac_hinted_mov",
        "mov",
        H264_AAC,
        av!("-c:v libx264 -preset veryfast -g 25 -bf 0 -c:a aac -ac 2 -movflags +rtphint"),
    ),
    plain(
        "h265_hvc1_mp4",
        "mp4",
        &[(0, H265)],
        video!(
            "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=25:bframes=3 \
                -tag:v hvc1"
        ),
    ),
    plain(
        "h265_hev1_mp4",
        "mp4",
        &[(0, H265), (1, Aac)],
        av!("-c:v libx265 -preset ultrafast \
             -x265-params log-level=error:keyint=25:repeat-headers=1 \
             -tag:v hev1 -c:a aac -ac 2"),
    ),
    plain("aac_m4a", "m4a", &[(0, Aac)], audio!("-c:a aac -ac 2 -b:a 192k")),
    plain("aac_mono_44100_m4a", "m4a", &[(0, Aac)], audio!("-c:a aac -ac 1 -ar 44100")),
    plain("opus_mp4", "mp4", &[(0, Opus)], audio!("-c:a libopus -ac 2 -b:a 96k")),
    plain(
        "opus_mono_mp4",
        "mp4",
        &[(0, Opus)],
        audio!("-c:a libopus -ac 1 -b:a 24k -frame_duration 60"),
    ),
    plain("mp3_mp4", "mp4", &[(0, Mp3)], audio!("-c:a libmp3lame -ac 2 -b:a 128k")),
    plain("mp3_mov", "mov", &[(0, Mp3)], audio!("-c:a libmp3lame -ac 1 -ar 44100 -b:a 320k")),
    // MPEG-2 audio: half the samples a frame.
    plain("mp3_low_rate_mp4", "mp4", &[(0, Mp3)], audio!("-c:a libmp3lame -ac 1 -ar 22050")),
    plain("pcmu_mov", "mov", &[(0, Pcmu)], audio!("-c:a pcm_mulaw -ac 1 -ar 8000")),
    plain("pcma_mov", "mov", &[(0, Pcma)], audio!("-c:a pcm_alaw -ac 1 -ar 8000")),
    plain("pcma_stereo_16000_mov", "mov", &[(0, Pcma)], audio!("-c:a pcm_alaw -ac 2 -ar 16000")),
    plain("pcm_sowt_mov", "mov", &[(0, L16)], audio!("-c:a pcm_s16le -ac 2")),
    plain("pcm_twos_44100_mov", "mov", &[(0, L16)], audio!("-c:a pcm_s16be -ac 2 -ar 44100")),
    plain("pcm_in24_mov", "mov", &[(0, L24)], audio!("-c:a pcm_s24be -ac 2")),
    plain("pcm_in24_little_endian_mov", "mov", &[(0, L24)], audio!("-c:a pcm_s24le -ac 1")),
    plain("pcm_lpcm_96000_mov", "mov", &[(0, L24)], audio!("-c:a pcm_s24le -ac 2 -ar 96000")),
    plain(
        "h264_pcm_sowt_mov",
        "mov",
        &[(0, H264), (1, L16)],
        av!("-c:v libx264 -preset veryfast -g 25 -bf 2 -c:a pcm_s16le -ac 2"),
    ),
    plain("ac3_mov", "mov", &[(0, Ac3)], audio!("-c:a ac3 -ac 2 -b:a 192k")),
    // 1,792 bytes a frame.
    plain("ac3_fragmented_frames_mp4", "mp4", &[(0, Ac3)], audio!("-c:a ac3 -ac 6 -b:a 448k")),
    // FFmpeg knows E-AC-3 by another name, GStreamer by none: interop/ffmpeg.rs.
    plain("eac3_mov", "mov", &[(0, Eac3)], audio!("-c:a eac3 -ac 6 -b:a 640k")),
    plain("mpeg4_part2_mp4", "mp4", &[(0, Mpeg4)], video!("-c:v mpeg4 -q:v 3 -g 25")),
    plain(
        "mpeg4_part2_b_frames_mp4",
        "mp4",
        &[(0, Mpeg4)],
        video!("-c:v mpeg4 -q:v 5 -g 25 -bf 2"),
    ),
    // RFC 2435 has no room for Huffman tables: only the standard ones can be sent.
    plain(
        "mjpeg_420_mov",
        "mov",
        &[(0, Mjpeg)],
        video!("-c:v mjpeg -huffman default -pix_fmt yuvj420p -q:v 4"),
    ),
    // As libjpeg does it: luma 2x1, the order of RFC 2435's type 0.
    Title {
        pipeline: Some(
            "videotestsrc num-buffers=75 ! \
             video/x-raw,format=Y42B,width=320,height=240,framerate=25/1 ! \
             jpegenc quality=80 ! qtmux",
        ),
        ..plain("mjpeg_422_mov", "mov", &[(0, Mjpeg)], "")
    },
    // As ffmpeg does it: luma 2x2, chroma 1x2. The same picture, in an order that has no type.
    plain(
        "mjpeg_422_of_ffmpeg_mov",
        "mov",
        &[],
        video!("-c:v mjpeg -huffman default -pix_fmt yuvj422p -q:v 9"),
    ),
    plain(
        "vp8_webm",
        "webm",
        &[],
        video!("-c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k -g 25"),
    ),
    Title {
        from: Some("vp8_webm"),
        pipeline: Some("filesrc location=INPUT ! matroskademux ! qtmux"),
        ..plain("vp8_mov", "mov", &[(0, Vp8)], "")
    },
    // Alternate reference frames: hidden frames inside superframes.
    plain(
        "vp9_mp4",
        "mp4",
        &[(0, Vp9)],
        video!(
            "-c:v libvpx-vp9 -deadline good -cpu-used 8 -b:v 500k -g 25 -auto-alt-ref 1 \
                -lag-in-frames 16"
        ),
    ),
    plain(
        "av1_mp4",
        "mp4",
        &[(0, Av1)],
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=2 \
         -c:v libaom-av1 -cpu-used 8 -usage realtime -b:v 500k -g 25",
    ),
    // ALAC has no RTP payload format: that track is left out, the picture plays.
    plain(
        "alac_left_out_mp4",
        "mp4",
        &[(1, H264)],
        av!("-map 1:a -map 0:v -c:a alac -c:v libx264 -preset veryfast -g 25 -bf 2"),
    ),
    // Nothing in it can be served.
    plain("alac_alone_m4a", "m4a", &[], audio!("-c:a alac")),
    // Known wall-clock time, for `Range: clock=`.
    plain(
        "h264_created_2020_mp4",
        "mp4",
        &[(0, H264)],
        video!(
            "-c:v libx264 -preset veryfast -g 25 -bf 0 \
                -metadata creation_time=2020-01-01T00:00:00Z"
        ),
    ),
    // Ten seconds in ten groups of pictures, cheap to play: for seeks and trick modes.
    plain(
        "h264_aac_ten_seconds_mp4",
        "mp4",
        H264_AAC,
        "-f lavfi -i testsrc2=size=320x240:rate=25:duration=10 \
         -f lavfi -i sine=frequency=440:sample_rate=48000:duration=10 \
         -c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 2 -c:a aac -ac 2",
    ),
];
