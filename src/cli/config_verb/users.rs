//! What `config default` and `config show` say of users: their names, and never a hash.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::config::Loaded;
use crate::config::key::quoted;

/// A user as a comment: there is none by default.
pub(super) fn write_default(out: &mut impl Write) -> io::Result<()> {
    out.write_all(EXAMPLE.as_bytes())
}

const EXAMPLE: &str = r#"
# Users: `headend user add NAME` prints these lines, with --digest the last two as well.
# [user."ann"]
# password = "$argon2id$v=19$m=19456,t=2,p=1$..."
# digest_md5 = "..."
# digest_sha256 = "..."

# A path that users watch; one of them may publish to it, from one network.
# [path."live/members"]
# read = ["users"]
# publish = ["user:ann@10.1.0.0/16"]
# control = ["user:ann"]
"#;

/// Names, as comments: what is shown is read back as a file, and hashes are not shown.
pub(super) fn write_shown(loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let users = &loaded.config.paths.access.users;
    if !users.is_empty() {
        writeln!(out)?;
    }
    for (name, user) in users {
        let has = [
            ("password", user.password.is_some()),
            ("digest_md5", user.digest_md5.is_some()),
            ("digest_sha256", user.digest_sha256.is_some()),
        ];
        let set: Vec<&str> =
            has.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect();
        writeln!(out, "# [user.{}] has {}; not shown", quoted(name), set.join(", "))?;
    }
    Ok(())
}

/// The same for programs.
pub(super) fn json(loaded: &Loaded) -> Vec<Value> {
    let users = loaded.config.paths.access.users.iter();
    let user = users.map(|(name, user)| {
        json!({
            "user": &**name,
            "password": user.password.is_some(),
            "digest": user.digest_md5.is_some() && user.digest_sha256.is_some(),
        })
    });
    user.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn users_are_shown_without_their_hashes() {
        let hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2g";
        let text = format!(
            "[user.ann]\npassword = \"{hash}\"\n[auth]\non_read = \"http://a:b@h/?token=c\"\n"
        );
        let loaded = config::load(Some(("f", &text)), [], &[]).unwrap();
        let mut out = Vec::new();
        super::super::write_shown(&loaded, &mut out).unwrap();
        super::super::write_json(&loaded, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(shown.contains("# [user.\"ann\"] has password; not shown"), "{shown}");
        assert!(shown.contains("on_read = \"http://h/?token=...\""), "{shown}");
        for secret in ["argon2id", "aGFzaGhhc2g", "a:b@", "token=c"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        assert_eq!(json(&loaded)[0]["password"], true);
    }
}
