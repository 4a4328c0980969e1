//! Which sample descriptions of a track are sent, under the one m= line that it has.
//!
//! ```text
//! stsd      avc1 (A)   avc1 (B)   hvc1   avc1 (A again)
//! number       0          1       left out     0          A is `Track::codec`, B another codec
//! ```
//! A session announces one payload format for a track, so the descriptions that fit it are served:
//! the same encoding, clock and channels, and a configuration that goes in band. Samples of the
//! others are left out, and the reason is told. The first description in use decides, unless
//! another one lasts at least twice as long: a short clip in front of a film is not the film.
//!
//! Bound: `DESCRIPTIONS_MAX` descriptions, compared each with each candidate.
//! ISO 14496-12 s8.5.2, s8.7.4.

use super::entry::Entry;
use super::error::FourCc;
use super::in_band;
use super::movie::Draft;
use crate::base::limits;
use crate::media::codec::{Codec, PayloadFormat};
use crate::media::index::{PlayRange, Table};

/// What the sample descriptions of a track come to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Codecs of the table's descriptions 1 and up.
    pub(super) others: Vec<Codec>,
    /// Samples that are left out and why, for people.
    pub(super) notes: Vec<String>,
}

/// A sample description that samples have.
struct Used<'a> {
    which: u16,
    entry: Option<&'a Entry>,
    format: Option<PayloadFormat>,
    samples: u64,
    ticks: u64,
}

/// Chooses the description that is announced, gives `draft` its codec and numbers the table's
/// descriptions anew: 0 for that codec, 1 and up for `others`, [`LEFT_OUT`].
pub(super) fn settle(
    draft: &mut Draft,
    table: &mut Table,
    format_of: impl Fn(&Codec) -> Option<PayloadFormat>,
) -> Settled {
    if draft.entries.len() <= 1 || draft.codec.is_none() {
        return Settled::default();
    }
    let used = used(draft, table, format_of);
    let Some(announced) = announced(&used) else {
        let reason = used.first().map(|used| reason(used, None));
        draft.problem = draft.problem.take().or(reason);
        return Settled::default();
    };
    let Some((entry, codec)) = announced.entry.and_then(|e| Some((e, e.codec.as_ref().ok()?)))
    else {
        return Settled::default();
    };
    let mut settled = Settled::default();
    let mut numbers = Vec::new();
    let mut further = 0u32;
    for used in &used {
        let fitting = used.codec().filter(|_| used.fits(announced));
        // Configurations that leave something to their samples may differ in it.
        let is_same = |one: &Codec, own: &Codec| one == own && in_band::is_complete(own);
        let number = match fitting {
            Some(own) if used.which == announced.which || is_same(codec, own) => 0,
            Some(own) => {
                let known = settled.others.iter().position(|other| is_same(other, own));
                let place = known.unwrap_or_else(|| {
                    settled.others.push(own.clone());
                    settled.others.len() - 1
                });
                u16::try_from(place + 1).unwrap_or(LEFT_OUT)
            }
            None => {
                let (samples, which) = (used.samples, u32::from(used.which) + 1);
                let reason = reason(used, Some(announced));
                if settled.notes.len() < NOTES_MAX {
                    settled.notes.push(format!(
                        "{samples} samples are left out: sample description {which}: {reason}"
                    ));
                } else {
                    further += 1;
                }
                LEFT_OUT
            }
        };
        numbers.push((used.which, number));
    }
    if further > 0 {
        settled.notes.push(format!("samples of {further} further descriptions are left out"));
    }
    numbers.sort_unstable();
    table.renumber_descriptions(|which| {
        let place = numbers.binary_search_by_key(&which, |(known, _)| *known);
        place.ok().and_then(|place| numbers.get(place)).map_or(LEFT_OUT, |(_, number)| *number)
    });
    let (fourcc, size_pixels, codec) = (entry.fourcc, entry.size_pixels, codec.clone());
    (draft.fourcc, draft.size_pixels, draft.codec) = (fourcc, size_pixels, Some(codec));
    settled
}

/// The descriptions that samples have, in the order of their first samples.
fn used<'a>(
    draft: &'a Draft,
    table: &Table,
    format_of: impl Fn(&Codec) -> Option<PayloadFormat>,
) -> Vec<Used<'a>> {
    let mut all: Vec<Used<'a>> = Vec::new();
    // Place in `all` by description; numbers behind the last entry share a place.
    let mut places: Vec<Option<usize>> = vec![None; draft.entries.len() + 1];
    for (run, which) in table.description_runs() {
        let key = usize::from(which).min(draft.entries.len());
        let Some(place) = places.get_mut(key) else { continue };
        let entry = draft.entries.get(key);
        let place = *place.get_or_insert_with(|| {
            let codec = entry.and_then(|e| e.codec.as_ref().ok());
            let format = codec.filter(|codec| has_units_of(codec, table)).and_then(&format_of);
            all.push(Used { which, entry, format, samples: 0, ticks: 0 });
            all.len() - 1
        });
        let dts = |number| table.sample(number).map_or_else(|| table.next_dts(), |s| s.dts);
        let ticks = dts(run.end).saturating_sub(dts(run.start));
        if let Some(used) = all.get_mut(place) {
            used.samples += u64::from(run.end - run.start);
            used.ticks = used.ticks.saturating_add(u64::try_from(ticks).unwrap_or(0));
        }
    }
    all
}

fn announced<'a, 'b>(used: &'a [Used<'b>]) -> Option<&'a Used<'b>> {
    let mut best: Option<(&Used<'_>, u64)> = None;
    for candidate in used.iter().filter(|used| used.format.is_some()) {
        let served = used.iter().filter(|other| other.fits(candidate));
        let ticks = served.fold(0u64, |sum, other| sum.saturating_add(other.ticks));
        if best.is_none_or(|(_, best)| ticks / 2 >= best.max(1)) {
            best = Some((candidate, ticks));
        }
    }
    best.map(|(used, _)| used)
}

impl Used<'_> {
    fn codec(&self) -> Option<&Codec> {
        self.entry?.codec.as_ref().ok()
    }

    /// Its packets can be sent under the m= line of `announced`.
    fn fits(&self, announced: &Self) -> bool {
        let (Some(own), Some(theirs)) = (&self.format, &announced.format) else { return false };
        let (Some(codec), Some(other)) = (self.codec(), announced.codec()) else { return false };
        is_same_line(own, theirs) && (codec == other || codec.is_configured_in_band())
    }
}

/// A table that is cut into sampling instants has them all of one size: chunks of a description
/// with others are not where it says.
fn has_units_of(codec: &Codec, table: &Table) -> bool {
    let Codec::Pcm { channels, layout, .. } = codec else { return true };
    let instant_bytes = usize::from(*channels) * layout.stored_bytes();
    [0, instant_bytes].contains(&(table.unit_bytes() as usize))
}

/// Why a description is not served, for people.
fn reason(used: &Used<'_>, announced: Option<&Used<'_>>) -> String {
    let Some(entry) = used.entry else { return "the file has no such description".to_owned() };
    let fourcc = FourCc(entry.fourcc);
    let own = match (&entry.codec, &used.format) {
        (Err(reason), _) => return format!("{fourcc}: {reason}"),
        (Ok(Codec::Pcm { .. }), None) => return format!("{fourcc}: {OTHER_UNITS}"),
        (Ok(_), None) => return format!("{fourcc}: no RTP packetization"),
        (Ok(_), Some(format)) => line(format),
    };
    match announced.and_then(|announced| announced.format.as_ref()).map(line) {
        Some(other) if other != own => format!("{own} in a track that is announced as {other}"),
        _ => format!("its configuration of {own} differs, which is sent in the SDP only"),
    }
}

/// All but `a=fmtp`.
fn is_same_line(one: &PayloadFormat, other: &PayloadFormat) -> bool {
    let key = |f: &PayloadFormat| (f.payload_type, f.clock_rate_hz, f.channels);
    key(one) == key(other) && one.encoding_name == other.encoding_name
}

fn line(format: &PayloadFormat) -> String {
    let channels = format.channels.map(|channels| format!("/{channels}")).unwrap_or_default();
    format!("{}/{}{channels}", format.encoding_name, format.clock_rate_hz)
}

/// The ranges without the samples that are left out. Behind such samples a range goes on at a
/// sync sample: those before it refer to pictures that nobody has. The second value notes ranges
/// beyond the limit.
pub(super) fn without_left_out(
    table: &Table,
    ranges: Vec<PlayRange>,
) -> (Vec<PlayRange>, Option<&'static str>) {
    if table.description_runs().all(|(_, number)| number != LEFT_OUT) {
        return (ranges, None);
    }
    let mut kept: Vec<PlayRange> = Vec::new();
    for range in ranges {
        let end = range.raw_first.saturating_add(range.count);
        let mut is_behind_gap = false;
        for (run, number) in table.description_runs_from(range.raw_first) {
            if run.start >= end {
                break;
            }
            let mut first = run.start.max(range.raw_first);
            let past = run.end.min(end);
            if number == LEFT_OUT {
                is_behind_gap = true;
                continue;
            }
            if std::mem::take(&mut is_behind_gap) {
                first = table.sync_sample(table.sync_before(first)).unwrap_or(past);
            }
            if first >= past {
                is_behind_gap = true;
                continue;
            }
            let part = PlayRange { raw_first: first, count: past - first, ..range };
            if let Some(last) = kept.last_mut().filter(|last| goes_on(last, &part)) {
                last.count += part.count;
            } else if kept.len() < limits::DESCRIPTION_RUNS_MAX {
                kept.push(part);
            } else {
                return (kept, Some("it is cut into more pieces than the limit"));
            }
        }
    }
    (kept, None)
}

/// Neighbours in the table and in time, which only have different numbers.
fn goes_on(last: &PlayRange, part: &PlayRange) -> bool {
    let times = |range: &PlayRange| (range.shift, range.lead, range.floor);
    last.raw_first + last.count == part.raw_first && times(last) == times(part)
}

const OTHER_UNITS: &str = "no RTP packetization, or values of another width than the first has";

/// Descriptions of a track at most of which each has a note of its own: all notes are logged
/// whenever the title is opened.
const NOTES_MAX: usize = 8;

/// Number of the descriptions whose samples are left out.
pub(super) const LEFT_OUT: u16 = u16::MAX;
