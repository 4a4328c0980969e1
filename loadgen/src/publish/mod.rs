//! Publishing: a made-up film to a live path, every packet with the time at which it was sent.
//!
//! ```text
//! film: SPS, PPS, pictures --> packets: RTP, FU-A --stamp--> net::publisher: UDP or TCP
//! client: OPTIONS ANNOUNCE SETUP RECORD .. TEARDOWN -------------^
//! broadcast: which picture, sound and report is due when
//! ```
//! The film is H.264 that any decoder plays, of any bit rate: pictures of raw macroblocks. Those of
//! a picture that are not raw are copies of the picture before. Who reads the path and knows
//! `stamp` learns how long each packet took from here to there, by the clock of this host.
//!
//! Nothing in here but `net::publisher` owns a descriptor or reads a clock. Bounds: those of
//! [`FilmOptions`].

pub mod bits;
pub mod broadcast;
pub mod client;
pub mod film;
pub mod packets;
pub mod stamp;

use clap::{Args, ValueEnum};
use rtsp_types::Url;
use serde::Serialize;

/// How published packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PublishTransport {
    /// Datagrams.
    Udp,
    /// Interleaved with the RTSP connection.
    Tcp,
}

impl PublishTransport {
    /// Name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What is published, and where.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Publishing")]
pub struct FilmOptions {
    /// Publish a made-up film to this path while the run lasts; readers of it may be in this run
    #[arg(long, value_name = "URL", value_parser = crate::cli::url_from)]
    pub publish: Option<Url>,
    /// How it travels
    #[arg(long, value_enum, default_value = "udp", value_name = "WAY", requires = "publish")]
    pub publish_transport: PublishTransport,
    /// Bits of picture per second
    #[arg(long, default_value = "2M", value_name = "BITS", requires = "publish",
          value_parser = bit_rate_from)]
    pub bit_rate: u32,
    /// Pictures per second
    #[arg(long, default_value_t = 25, value_name = "N", requires = "publish",
          value_parser = clap::value_parser!(u32).range(1..=240))]
    pub frame_rate: u32,
    /// Pictures from one key picture to the next
    #[arg(long, default_value_t = 50, value_name = "N", requires = "publish",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub gop: u32,
    /// How many times as large as the others a key picture is
    #[arg(long, default_value_t = 8, value_name = "N", requires = "publish",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub key_ratio: u32,
    /// With sound: G.711, 64 kbit/s
    #[arg(long, requires = "publish")]
    pub sound: bool,
}

/// What was published.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Published {
    /// Where, without a password.
    pub url: String,
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// From RECORD to TEARDOWN.
    pub seconds: f64,
    /// Width and height of the picture.
    pub size: (u32, u32),
    /// Pictures sent.
    pub pictures: u64,
    /// RTP packets sent.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that found no room in our own socket: then losses are ours.
    pub own_drops: u64,
    /// How late the latest picture was sent.
    pub late_ms_max: f64,
}

/// A number with `k` or `M` (powers of 1000); bits without.
fn bit_rate_from(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text.get(digits.len()..).unwrap_or_default() {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        unit => return Err(format!("\"{unit}\" is not a unit of bits (k, M)")),
    };
    let value: u32 = digits.parse().map_err(|_| format!("\"{digits}\" is not a number"))?;
    let bits = value.checked_mul(scale).filter(|bits| BIT_RATES.contains(bits));
    bits.ok_or_else(|| "a bit rate is 16k to 400M".to_owned())
}

/// From a few macroblocks a second to what one connection of a server carries.
const BIT_RATES: std::ops::RangeInclusive<u32> = 16_000..=400_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_are_read_with_their_units() {
        assert_eq!(bit_rate_from("2M"), Ok(2_000_000));
        assert_eq!(bit_rate_from("64k"), Ok(64_000));
        assert_eq!(bit_rate_from("16000"), Ok(16_000));
        for wrong in ["0", "2G", "999M", "x", "9999999M"] {
            assert!(bit_rate_from(wrong).is_err(), "{wrong}");
        }
    }
}
