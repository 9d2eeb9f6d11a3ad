//! A place in the log as people write it: by sequence number, by time, or by GTID.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::Failure;
use crate::clock::{Clock, SystemClock};
use crate::disk::SystemDisk;
use crate::event::{Gtid, GtidSet, Seq};
use crate::lifecycle::Exit;
use crate::log::record::Kind;
use crate::log::{Log, ReadError, SeekError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Place {
    Seq(Seq),
    /// Microseconds since 1970 UTC.
    Time(u64),
    Gtid(Gtid),
    /// What follows everything in the set.
    After(GtidSet),
}

/// A text that is no place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{problem}. Write a sequence number (4711), a time with its zone (2026-11-23T06:47:08Z, 2026-11-23 for midnight UTC, or 10m for \
     ten minutes ago), or a GTID (uuid:7 or uuid:tag:7; a set such as uuid:1-7 stands for what follows it)"
)]
pub(in crate::cli) struct BadPlace {
    problem: String,
}

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Place, BadPlace> {
        Place::parse(text, SystemClock.wall_micros())
    }
}

impl Place {
    fn parse(text: &str, now_micros: u64) -> Result<Place, BadPlace> {
        let text = text.trim();
        let bad = |problem: String| BadPlace { problem };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let seq = text.parse().map_err(|_| bad("no sequence number is so large".to_owned()));
            return seq.map(|seq| Place::Seq(Seq(seq)));
        }
        let (uuid, numbers) = text.split_once(':').unwrap_or((text, ""));
        if uuid::Uuid::try_parse(uuid.trim()).is_ok() {
            let set: GtidSet = text.parse().map_err(|error| bad(format!("{error}")))?;
            // `uuid:1-1` and `uuid:1,` are meant as sets.
            let gtid = set.only().filter(|_| !numbers.contains(['-', ',']));
            return Ok(gtid.map_or(Place::After(set), Place::Gtid));
        }
        if let Some(time) = time(text) {
            return Ok(Place::Time(time));
        }
        if let Ok(ago) = humantime::parse_duration(text) {
            let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
            return Ok(Place::Time(now_micros.saturating_sub(ago)));
        }
        let zone = humantime::parse_rfc3339_weak(text).is_ok();
        Err(bad(if zone {
            "the time has no zone".to_owned()
        } else {
            "this is no place in the log".to_owned()
        }))
    }

    /// The frame that it stands for as a beginning.
    pub(in crate::cli) fn first(&self, log: &Log<SystemDisk>) -> Result<Seq, SeekError> {
        match self {
            Place::Seq(seq) => {
                let (start, end) = (log.retained_start(), log.visible().seq);
                if *seq < start {
                    return Err(ReadError::BelowRetained { wanted: *seq, start }.into());
                }
                if *seq > end.next() {
                    return Err(SeekError::AboveEnd { wanted: format!("record {seq}"), end });
                }
                Ok(*seq)
            }
            Place::Time(micros) => log.seek_time(*micros),
            Place::Gtid(gtid) => log.seek_gtid(gtid),
            Place::After(set) => log.seek_after(set),
        }
    }

    /// The frame before which it stands as an end; `None` where that is not written yet. A record and a transaction end
    /// with themselves, a time and a set before what they would begin with.
    pub(in crate::cli) fn end(&self, log: &Log<SystemDisk>) -> Result<Option<Seq>, SeekError> {
        let found = match self {
            Place::Seq(seq) => return Ok(seq.0.checked_add(1).map(Seq)),
            Place::Gtid(gtid) => return end_of_transaction(log, log.seek_gtid(gtid)?),
            Place::Time(micros) => log.seek_time(*micros),
            Place::After(set) => log.seek_after(set),
        };
        match found {
            Ok(first) => Ok(Some(first)),
            Err(SeekError::AboveEnd { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A place that the log does not hold is asked for by a wrong command; one that cannot be read is the state folder's fault.
pub(in crate::cli) fn not_there(error: SeekError) -> Failure {
    let exit = match &error {
        SeekError::BelowRetained { .. }
        | SeekError::AboveEnd { .. }
        | SeekError::Read(ReadError::BelowRetained { .. }) => Exit::Usage,
        SeekError::Read(_) => Exit::State,
    };
    Failure::new(exit, error)
}

fn end_of_transaction(log: &Log<SystemDisk>, first: Seq) -> Result<Option<Seq>, SeekError> {
    let mut reader = log.reader(first)?;
    while let Some(frame) = reader.next_frame()? {
        if matches!(frame.kind, Kind::Commit | Kind::Mark) {
            return Ok(Some(frame.seq.next()));
        }
    }
    Ok(None)
}

/// RFC 3339 or a date alone, as microseconds since 1970 UTC.
fn time(text: &str) -> Option<u64> {
    let parse = |text: &str| humantime::parse_rfc3339(text).ok().and_then(micros);
    if text.len() == "2026-11-23".len() {
        return parse(&format!("{text}T00:00:00Z"));
    }
    if let Some((local, zone)) =
        text.len().checked_sub("+02:00".len()).and_then(|at| text.split_at_checked(at))
        && let (Some(sign), Some((hours, minutes))) = (zone.chars().next(), zone.get(1..)?.split_once(':'))
        && matches!(sign, '+' | '-')
    {
        let number = |text: &str, below: u64| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|n| digits && *n < below)
        };
        let offset = (number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000_000;
        let local = parse(&format!("{local}Z"))?;
        return if sign == '+' { local.checked_sub(offset) } else { local.checked_add(offset) };
    }
    parse(text)
}

fn micros(time: SystemTime) -> Option<u64> {
    let since = time.duration_since(UNIX_EPOCH).as_ref().map(Duration::as_micros).ok()?;
    u64::try_from(since).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    /// 2026-11-23T06:47:08Z.
    const NOW: u64 = 1_795_416_428_000_000;

    fn parse(text: &str) -> Place {
        Place::parse(text, NOW).unwrap()
    }

    #[test]
    fn the_three_forms_are_told_apart() {
        assert_eq!(parse("4711"), Place::Seq(Seq(4711)));
        assert_eq!(parse("2026"), Place::Seq(Seq(2026)));
        for text in ["2026-11-23T06:47:08Z", " 2026-11-23T08:47:08+02:00", "2026-11-23T01:17:08-05:30"] {
            assert_eq!(parse(text), Place::Time(NOW), "{text}");
        }
        assert_eq!(parse("2026-11-23T06:47:08.000001Z"), Place::Time(NOW + 1));
        assert_eq!(parse("2026-11-23"), Place::Time(NOW - (6 * 3600 + 47 * 60 + 8) * 1_000_000));
        assert_eq!(parse("10m"), Place::Time(NOW - 600_000_000));
        assert_eq!(parse("1h 30s"), Place::Time(NOW - 3_630_000_000));
        assert_eq!(parse("9999y"), Place::Time(0));
        let Place::Gtid(gtid) = parse(&format!("{UUID}:7")) else { panic!("one GTID") };
        assert_eq!(gtid.to_string(), format!("{UUID}:7"));
        let Place::Gtid(gtid) = parse(&format!("{}:Blue:7", UUID.to_uppercase())) else { panic!("one GTID") };
        assert_eq!(gtid.to_string(), format!("{UUID}:blue:7"));
        for text in ["1-7", "1-1", "7:9", &format!("7,{UUID}:blue:1")] {
            let text = format!("{UUID}:{text}");
            assert_eq!(parse(&text), Place::After(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn wrong_and_ambiguous_text_teaches_all_three_forms() {
        let cases = [
            ("", "no place"),
            ("yesterday", "no place"),
            ("-5", "no place"),
            ("10", ""),
            ("99999999999999999999", "so large"),
            ("2026-11-23T06:47:08", "no zone"),
            ("2026-11-23 06:47:08", "no zone"),
            ("2026-13-01", "no place"),
            ("2026-11-23T06:47:08+25:00", "no place"),
            ("1969-12-31T00:00:00Z", "no place"),
            ("2026-11-23T06:47:0é", "no place"),
            (UUID, "no transaction numbers"),
            (&format!("{UUID}:0"), "a transaction number is from 1"),
            (&format!("{UUID}:seven"), "no transaction numbers"),
            ("3e11fa47-71ca:7", "no place"),
        ];
        for (text, problem) in cases {
            match Place::parse(text, NOW) {
                Ok(place) => assert!(problem.is_empty(), "{text}: {place:?}"),
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains(problem), "{text}: {said}");
                    for form in ["sequence number (4711)", "2026-11-23T06:47:08Z", "10m", "uuid:7"] {
                        assert!(said.contains(form), "{text}: {said}");
                    }
                }
            }
        }
    }
}
