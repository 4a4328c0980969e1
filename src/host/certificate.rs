//! The certificate of the RTSPS port, and whether the kernel can encrypt for it.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::check::{Check, Level};
use crate::config::Config;
use crate::pki::serving::ServerIdentity;

/// What is to be said of it; nothing without RTSPS. `has_kernel_tls` asks the kernel.
pub(super) fn check(config: &Config, has_kernel_tls: impl FnOnce() -> bool) -> Vec<Check> {
    let Some((certificate, key)) = config.tls.files() else { return Vec::new() };
    vec![judge(certificate, key), judge_kernel(config.tls.by_kernel, has_kernel_tls())]
}

fn judge_kernel(is_wanted: bool, has_tls: bool) -> Check {
    match (is_wanted, has_tls) {
        (true, false) => Check::bad(
            Level::Warn,
            KERNEL,
            "no",
            "shards encrypt what goes over RTSPS, which costs several times what sending does",
            "sudo modprobe tls",
        ),
        (false, true) => Check::ok(KERNEL, "yes; rtsp.tls.kernel is off"),
        (true, true) => Check::ok(KERNEL, "yes"),
        (false, false) => Check::ok(KERNEL, "no; shards encrypt"),
    }
}

fn judge(certificate: &Path, key: &Path) -> Check {
    let bad = |level, found: String, why: &str| {
        Check::bad(level, NAME, found, why, "headend cert self-signed --out DIR")
    };
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let texts = read(certificate).and_then(|text| Ok((text, read(key)?)));
    let identity = texts.and_then(|(certificate, key)| {
        ServerIdentity::read(&certificate, &key).map_err(|error| error.to_string())
    });
    let identity = match identity {
        Ok(identity) => identity,
        Err(error) => return bad(Level::Fail, error, "the server does not start with it"),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let days = (identity.not_after_s - now_s).div_euclid(24 * 3_600);
    match identity.complaint(now_s) {
        None => Check::ok(NAME, format!("counts for {days} days")),
        Some(why) if days >= 0 && now_s >= identity.not_before_s => {
            bad(Level::Warn, why, "clients refuse a certificate that has expired")
        }
        Some(why) => bad(Level::Fail, why, "clients that look at it refuse it"),
    }
}

const NAME: &str = "rtsp.tls.certificate";
const KERNEL: &str = "TLS in the kernel";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pki::serving::SelfSigned;

    #[test]
    fn certificate_is_judged_by_when_it_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.pem");
        let mut config = Config::default();
        assert_eq!(check(&config, || true), []);
        config.tls.certificate = Some(path.clone());
        let level = |config: &Config| check(config, || true)[0].level;
        assert_eq!(level(&config), Level::Fail, "there is no file");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let put = |from_s: u64, days: u64| {
            let life = Duration::from_secs(days * 24 * 3_600);
            let from_s = i64::try_from(from_s).unwrap();
            let made = SelfSigned::make(["h.lan"], from_s, life).unwrap();
            fs::write(&path, made.certificate + &made.key).unwrap();
        };
        for (from, days, expected) in [
            (now, 300, Level::Ok),
            (now, 3, Level::Warn),
            (now - 10 * 86_400, 1, Level::Fail),
            (now + 10 * 86_400, 30, Level::Fail),
        ] {
            put(from, days);
            assert_eq!(level(&config), expected, "{days} days");
        }
        let kernel = |config: &Config, has_tls| check(config, || has_tls)[1].level;
        assert_eq!(kernel(&config, false), Level::Ok, "nobody wants it");
        config.tls.by_kernel = true;
        assert_eq!((kernel(&config, false), kernel(&config, true)), (Level::Warn, Level::Ok));
    }
}
