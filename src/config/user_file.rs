//! Reads the `[user]` tables of a file.
//!
//! ```text
//! [user."ann"]
//! password = "$argon2id$v=19$m=19456,t=2,p=1$..."     what Basic is compared with
//! digest_md5 = "..."                                  what Digest needs, where it is used
//! digest_sha256 = "..."
//! ```
//! `headend user add` makes these lines. No error repeats a value: there may be a password in it.
//! Bound: `USERS_MAX`.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::access::{USERS_MAX, User, is_user_name};
use super::error::ConfigError;
use super::file::{File, setting};
use super::key::quoted;
use super::nearest;
use super::value_error::ValueError;
use crate::base::secret::Secret;

/// Reads what stands below `user`.
pub(super) fn read(
    file: &File<'_>,
    value: &Spanned<DeValue<'_>>,
) -> Result<BTreeMap<Arc<str>, User>, ConfigError> {
    let all = file.table_of("user", value)?;
    let mut sections: Vec<_> = all.iter().collect();
    sections.sort_by_key(|(key, _)| key.span().start);
    let mut users = BTreeMap::new();
    for (key, value) in sections {
        let (name, at) = (key.get_ref(), key.span().start);
        let shown = format!("user.{}", quoted(name));
        let wrong = |problem| file.value_error(at, &shown, problem);
        if !is_user_name(name) {
            return Err(wrong(ValueError::UserName { text: name.to_string() }));
        }
        let user = read_user(file, &shown, file.table_of(&shown, value)?)?;
        if user.password.is_none() && user.digest_md5.is_none() {
            return Err(wrong(ValueError::NoPassword));
        }
        users.insert(Arc::from(&**name), user);
        if users.len() > USERS_MAX {
            return Err(wrong(ValueError::TooMany { found: users.len(), max: USERS_MAX }));
        }
    }
    Ok(users)
}

fn read_user(file: &File<'_>, shown: &str, table: &DeTable<'_>) -> Result<User, ConfigError> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut user = User::default();
    for (key, value) in entries {
        let word: &str = key.get_ref();
        let key_shown = format!("{shown}.{word}");
        let (field, check): (_, Check) = match word {
            "password" => (&mut user.password, User::check_hash),
            "digest_md5" => (&mut user.digest_md5, |text| User::check_digest(text, 16)),
            "digest_sha256" => (&mut user.digest_sha256, |text| User::check_digest(text, 32)),
            _ => {
                let nearest = nearest(word, KEYS);
                return Err(file.unknown_key(key.span().start, key_shown, nearest));
            }
        };
        let read = setting(value).and_then(|setting| {
            let text = setting.text()?;
            check(&text)?;
            Ok(Secret::new(text))
        });
        let at = value.span().start;
        *field = Some(read.map_err(|problem| file.value_error(at, &key_shown, problem))?);
    }
    Ok(user)
}

/// Checks a value.
type Check = fn(&str) -> Result<(), ValueError>;

/// Keys of a user.
const KEYS: [&str; 3] = ["password", "digest_md5", "digest_sha256"];

#[cfg(test)]
mod tests {
    use super::super::load;

    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2g";

    fn refuse(text: &str) -> String {
        load(Some(("f", text)), [], &[]).unwrap_err().to_string()
    }

    #[test]
    fn users_are_read_and_lists_may_name_them_in_any_order_of_the_file() {
        let digest = format!("digest_md5 = \"{:032}\"\ndigest_sha256 = \"{:064}\"", 1, 2);
        let text = format!(
            "[path.a]\nread = [\"user:bob\"]\n[user.ann]\npassword = \"{HASH}\"\n\
             [user.bob]\npassword = \"{HASH}\"\n{digest}\n"
        );
        let loaded = load(Some(("f", &text)), [], &[]).unwrap();
        let access = &loaded.config.paths.access;
        assert_eq!(access.users.len(), 2);
        assert!(access.is_mixed() && !access.has_digest());
        assert_eq!(access.users["ann"].password.as_ref().unwrap().expose(), HASH);
        assert!(!format!("{loaded:?}").contains("c29tZXNhbHQ"), "no hash is printed");
    }

    #[test]
    fn wrong_users_are_refused_and_no_value_is_repeated() {
        let texts = [
            "[user]\nann = 1\n".to_owned(),
            "[user.\"a b\"]\npassword = \"x\"\n".to_owned(),
            "[user.ann]\n".to_owned(),
            "[user.ann]\npassword = \"hunter2\"\n".to_owned(),
            "[user.ann]\npasword = \"hunter2\"\n".to_owned(),
            "[user.ann]\ndigest_md5 = \"hunter2\"\n".to_owned(),
            format!(
                "[user.ann]\npassword = \"{HASH}\"\n[path.a]\nread = [\"users\", \"user:an\"]\n"
            ),
            "[usr.ann]\npassword = \"x\"\n".to_owned(),
        ];
        let errors: Vec<_> = texts.iter().map(|text| refuse(text)).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        f:2:7: user."ann": cannot be of type integer; `headend config default` shows how it is written
        f:1:7: user."a b": `a b` is no name of a user: 1 to 64 ASCII characters without : , @ " \ and space
        f:1:7: user."ann": has no password: `headend user add` makes these lines
        f:2:12: user."ann".password: is no Argon2 hash: `headend user add` makes one
        f:2:1: unknown key `user."ann".pasword`; did you mean `password`?
        f:2:14: user."ann".digest_md5: is not 32 lower-case hexadecimal digits: `headend user add --digest` makes them
        f:4:8: path."a".read: there is no [user."an"]
        f:1:2: unknown key `usr`; did you mean `user`?
        "#);
    }
}
